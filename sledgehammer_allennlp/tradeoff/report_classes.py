"""The report's confusion matrix, and the numbers of each class, which its slider moves."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sledgehammer_allennlp.tradeoff.plots import BLUE, ORANGE
from sledgehammer_allennlp.tradeoff.report_style import WIDE, plain_style
from sledgehammer_allennlp.tradeoff.results import TradeoffResults

if TYPE_CHECKING:
    from bokeh.models import CustomJS
    from bokeh.plotting import figure as Figure

_HERE = Path(__file__).parent
_MAX_NAMED = 120
"""Of so many labels the matrix has the names beside it; of more only under the pointer."""
_MAX_COUNTED = 12
"""Of so many labels the cells have room for their counts."""


class ClassParts:
    """The picture of the confusion matrix, empty until the page is ready, and what fills it."""

    def __init__(self, results: TradeoffResults) -> None:
        from bokeh.models import ColumnDataSource

        self._classes = results.classes
        self._names = [str(name) for name in results.origin["labels"]]
        columns = ("answer", "label", "color", "alpha", "ink", "count", "share")
        # Only the cells that are not 0: at most as many as there are instances.
        self._cells = ColumnDataSource({name: [] for name in (*columns, "of_label", "answered")})
        self.figure = self._draw()

    def on_move(self, slider: Any, rows: np.ndarray) -> "CustomJS":
        """Shows the matrix and the numbers of the classes at one of `rows` of the curve."""
        from bokeh.models import CustomJS

        classes = self._classes
        return CustomJS(
            args=dict(
                slider=slider,
                cells=self._cells,
                rows=_integers(rows),
                names=self._names,
                atOne=_integers(classes.confusion_at_one.ravel()),
                changeRows=_integers(classes.change_rows),
                labels=_integers(classes.labels),
                before=_integers(classes.before),
                after=_integers(classes.after),
                rightColor=BLUE,
                wrongColor=ORANGE,
            ),
            code=(_HERE / "report_classes.js").read_text(encoding="utf-8"),
        )

    def _draw(self) -> "Figure":
        from bokeh.models import FixedTicker, HoverTool
        from bokeh.plotting import figure

        number = len(self._names)
        plot = figure(
            height=int(np.clip(140 + 320 / np.sqrt(number) * number / 4, 300, 1100)),
            x_range=(-0.5, number - 0.5),
            y_range=(number - 0.5, -0.5),
            x_axis_label="answer",
            y_axis_label="label",
            tools="",
            **WIDE,
        )
        cells = dict(x="answer", y="label", source=self._cells)
        rects = plot.rect(
            **cells, width=1, height=1, fill_color="color", fill_alpha="alpha", line_alpha=0
        )
        if number <= _MAX_COUNTED:
            text = dict(text_align="center", text_baseline="middle", text_font_size="11px")
            plot.text(**cells, text="count", text_color="ink", **text)
        plot.add_tools(
            HoverTool(
                renderers=[rects],
                tooltips=[
                    ("label", "@of_label"),
                    ("answer", "@answered"),
                    ("texts", "@count"),
                    ("of the label's", "@share{0.0 %}"),
                ],
            )
        )
        for axis in plot.axis:
            axis.ticker = FixedTicker(ticks=list(range(number)) if number <= _MAX_NAMED else [])
            axis.major_label_overrides = {place: _short(n) for place, n in enumerate(self._names)}
            axis.major_label_text_font_size = "11px" if number <= 40 else "8px"
        plot.xaxis.major_label_orientation = "vertical" if number > 6 else "horizontal"
        plain_style(plot)
        plot.grid.grid_line_alpha = 0
        return plot


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def _integers(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int32)
