"""One HTML file that shows the trade-off and lets one try thresholds; it needs no network."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

import numpy as np

from sledgehammer_allennlp.files import write_text_whole
from sledgehammer_allennlp.tradeoff.class_losses import losses_sentence
from sledgehammer_allennlp.tradeoff.curve import speed_up, wilson_interval
from sledgehammer_allennlp.tradeoff.plots import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SPEED_UP_LABEL,
    SpeedUpAxis,
    exit_name,
    marker_areas,
    reliability_title,
)
from sledgehammer_allennlp.tradeoff.report_classes import ClassParts
from sledgehammer_allennlp.tradeoff.report_style import WIDE, plain_style
from sledgehammer_allennlp.tradeoff.results import TradeoffResults, shortest, times

if TYPE_CHECKING:
    from bokeh.document import Document
    from bokeh.models import CustomJS
    from bokeh.plotting import figure as Figure

REPORT_FILE = "report.html"

MAX_ROWS = 10_000
"""Of how many thresholds at most the report has the numbers; `tradeoff.csv` has all."""

_HERE = Path(__file__).parent


def write_report(results: TradeoffResults, folder: Path) -> None:
    """Writes `report.html`."""
    from bokeh.embed import file_html
    from bokeh.resources import INLINE
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    parts = _Parts(results)
    # Everything that is not made here is escaped.
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
    )
    html = file_html(
        parts.document(),
        INLINE,
        template=environment.get_template("report.html.jinja"),
        template_variables=dict(
            results=results,
            is_selection=parts.is_selection,
            shortest=shortest,
            exit_name=exit_name,
            times=times,
            losses_sentence=losses_sentence,
        ),
    )
    write_text_whole(folder / REPORT_FILE, html)


class _Parts:
    """The report's pictures and what moves them."""

    def __init__(self, results: TradeoffResults) -> None:
        self.results = results
        self.axis = SpeedUpAxis(results.curve.speed_up)
        self.rows = _shown_rows(results)
        self.is_selection = len(self.rows) < len(results.curve)
        # Where the slider stands at first: at the last recommendation.
        start = results.recommendations[-1].point.threshold if results.recommendations else 1.0
        self.start = int(np.searchsorted(self.rows, results.curve.row_of(start)))

    def document(self) -> "Document":
        """What the template places, by name."""
        from bokeh.document import Document
        from bokeh.models import ColumnDataSource, NumericInput, Slider

        results = self.results
        data = self._curve_data()
        curve = ColumnDataSource(data)
        here = ColumnDataSource(
            {name: data[name][[self.start]] for name in ("x", "accuracy")}, name="here"
        )
        names = [exit_name(e.exit_layer) for e in results.exits]
        shares = ColumnDataSource(
            {"exit": names, "share": self._exit_counts()[:, self.start] / self._num_instances}
        )
        slider = Slider(
            start=0,
            end=max(len(self.rows) - 1, 1),
            value=self.start,
            disabled=len(self.rows) == 1,
            show_value=False,
            tooltips=False,
            # Threshold 1 at the left, as in the curve.
            direction="rtl",
            title="more layers ← threshold → fewer layers",
            sizing_mode="stretch_width",
        )
        typed = NumericInput(
            mode="float",
            low=0,
            high=1,
            title="or type a threshold",
            placeholder="for example 0.9",
            width=150,
        )
        moved = self._on_move(slider, typed, curve, here, shares)
        slider.js_on_change("value", moved)
        typed.js_on_change("value", self._on_type(slider, typed, curve, moved))
        class_parts = ClassParts(results)
        moved_classes = class_parts.on_move(slider, self.rows)
        slider.js_on_change("value", moved_classes)
        document = Document(title=f"Speed against accuracy: {results.origin['archive']}")
        document.js_on_event("document_ready", moved)
        document.js_on_event("document_ready", moved_classes)
        for name, model in {
            "curve": self._curve_figure(curve, here),
            "shares": self._share_figure(shares, names),
            "slider": slider,
            "typed": typed,
            "confusion": class_parts.figure,
        }.items():
            model.name = name
            document.add_root(model)
        for number in range(len(results.exits)):
            plot = self._reliability_figure(number)
            plot.name = f"reliability_{number}"
            document.add_root(plot)
        return document

    @property
    def _num_instances(self) -> int:
        return self.results.curve.num_instances

    def _exit_counts(self) -> np.ndarray:
        return self.results.curve.exit_counts[:, self.rows]

    def _curve_data(self) -> Dict[str, np.ndarray]:
        curve = self.results.curve
        low, high = wilson_interval(curve.num_correct, curve.num_instances)
        columns = {
            "highest_threshold": curve.thresholds,
            "accuracy": curve.accuracy,
            "macro_f1": self.results.classes.macro_f1,
            "low": low,
            "high": high,
            "layer_equivalents": curve.layer_equivalents,
            "x": self.axis.place(curve.speed_up),
        }
        short = np.array([curve.short_threshold(row) for row in self.rows])
        return {"threshold": short, **{name: all_[self.rows] for name, all_ in columns.items()}}

    def _on_move(self, slider: Any, typed: Any, curve: Any, here: Any, shares: Any) -> "CustomJS":
        """Shows the row that the slider is at, by filling in what the template has ids for."""
        from bokeh.models import CustomJS

        counts = self._exit_counts()
        examples = [*self.results.easiest, *self.results.hardest]
        return CustomJS(
            args=dict(
                slider=slider,
                typed=typed,
                curve=curve,
                here=here,
                shares=shares,
                counts=[np.asarray(c, dtype=np.int32) for c in counts],
                full=float(self.results.curve.costs[-1]),
                numInstances=self._num_instances,
                isWhole=not self.is_selection,
                exitNames=[exit_name(e.exit_layer) for e in self.results.exits],
                confidences=[example.confidences for example in examples],
                answers=[example.answers for example in examples],
            ),
            code=(_HERE / "report_on_move.js").read_text(encoding="utf-8"),
        )

    def _on_type(self, slider: Any, typed: Any, curve: Any, moved: Any) -> "CustomJS":
        """Moves the slider to the row of a typed threshold: the first that is not below it."""
        from bokeh.models import CustomJS

        return CustomJS(
            args=dict(slider=slider, typed=typed, curve=curve, moved=moved),
            code="""
            if (typed.value === null) return;
            const thresholds = Array.from(curve.data.highest_threshold);
            const value = typed.value;
            const single = value >= 1 ? 1 : Math.min(Math.fround(value), 1 - 2 ** -25);
            const row = thresholds.findIndex((threshold) => threshold >= single);
            typed.tags = [row];
            if (slider.value === row) moved.execute(slider);
            else slider.value = row;
            """,
        )

    def _curve_figure(self, curve: Any, here: Any) -> "Figure":
        from bokeh.models import FixedTicker, HoverTool
        from bokeh.plotting import figure

        ticks, labels = self.axis.ticks()
        plot = figure(
            height=380,
            x_axis_type="log",
            x_range=(0.95, self.axis.end * 1.1),
            x_axis_label=SPEED_UP_LABEL,
            y_axis_label="accuracy",
            tools="",
            **WIDE,
        )
        plot.xaxis.ticker = FixedTicker(ticks=ticks)
        plot.xaxis.major_label_overrides = dict(zip(ticks, labels))
        plot.varea(
            x="x",
            y1="low",
            y2="high",
            source=curve,
            color=BLUE,
            alpha=0.12,
            legend_label="95 % interval",
        )
        line = plot.line(
            "x",
            "accuracy",
            source=curve,
            color=BLUE,
            line_width=2,
            legend_label="every threshold",
        )
        plot.line(
            "x",
            "macro_f1",
            source=curve,
            color=PURPLE,
            line_dash="dashed",
            legend_label="macro F1",
        )
        costs = self.results.curve.costs
        places = self.axis.place(speed_up(costs, costs[-1]))
        accuracies = [e.calibrated_accuracy for e in self.results.exits]
        plot.scatter(
            places,
            accuracies,
            size=9,
            color=GREY,
            fill_color="white",
            legend_label="all at one exit",
        )
        plot.text(
            places,
            accuracies,
            text=[str(e.exit_layer) for e in self.results.exits],
            y_offset=18,
            text_align="center",
            text_color=GREY,
            text_font_size="11px",
        )
        points = self.results.recommended_points()
        plot.scatter(
            [float(self.axis.place(np.array(point.speed_up))) for point in points],
            [point.accuracy for point in points],
            marker="diamond",
            size=15,
            color=ORANGE,
            legend_label="recommended",
        )
        plot.scatter(
            "x",
            "accuracy",
            source=here,
            size=15,
            fill_alpha=0,
            line_color=GREEN,
            line_width=3,
            legend_label="chosen below",
        )
        plot.add_tools(
            HoverTool(
                renderers=[line],
                mode="vline",
                tooltips=[
                    ("threshold", "@threshold{0.0000}"),
                    ("accuracy", "@accuracy{0.0000}"),
                    ("macro F1", "@macro_f1{0.0000}"),
                    ("layer-equivalents", "@layer_equivalents{0.00}"),
                ],
            )
        )
        plot.y_range.range_padding = 0.15
        plot.add_layout(plot.legend[0], "above")
        plot.legend.ncols = 3
        plot.legend.click_policy = "hide"
        plot.y_range.only_visible = True
        plain_style(plot)
        return plot

    def _share_figure(self, shares: Any, names: List[str]) -> "Figure":
        from bokeh.models import NumeralTickFormatter
        from bokeh.plotting import figure

        plot = figure(
            height=60 + 26 * len(names),
            y_range=names[::-1],
            x_range=(0, 1),
            x_axis_label="share of the instances that exit there",
            tools="",
            **WIDE,
        )
        plot.hbar(y="exit", right="share", height=0.7, source=shares, color=BLUE)
        plot.xaxis.formatter = NumeralTickFormatter(format="0 %")
        plain_style(plot)
        return plot

    def _reliability_figure(self, number: int) -> "Figure":
        from bokeh.plotting import figure

        exit_ = self.results.exits[number]
        plot = figure(
            height=260,
            x_range=(0, 1.03),
            y_range=(0, 1.05),
            title=reliability_title(exit_),
            x_axis_label="confidence",
            y_axis_label="share of right answers",
            tools="",
            **WIDE,
        )
        plot.line([0, 1], [0, 1], color=GREY, line_dash="dotted")
        for bins, color in (
            (self.results.bins_before[number], ORANGE),
            (self.results.bins_after[number], BLUE),
        ):
            filled = bins.num_instances > 0
            places = bins.confidence[filled], bins.accuracy[filled]
            plot.line(*places, color=color, alpha=0.4)
            plot.scatter(
                *places,
                size=1.5 * np.sqrt(marker_areas(bins)[filled]),
                color=color,
                fill_alpha=0.7,
                line_alpha=0,
            )
        plain_style(plot)
        plot.title.text_font_size = "12px"
        plot.title.text_font_style = "normal"
        return plot


def _shown_rows(results: TradeoffResults) -> np.ndarray:
    """Rows of the curve, ascending: all, or evenly many of them and those that tables show."""
    num_rows = len(results.curve)
    rows = np.unique(np.linspace(0, num_rows - 1, min(num_rows, MAX_ROWS)).astype(int))
    named = [results.curve.row_of(point.threshold) for point in results.points]
    return np.union1d(rows, named)
