"""What the pictures of the report look like."""

from typing import Any

WIDE = dict(sizing_mode="stretch_width", toolbar_location=None)
"""Arguments of a figure that is as wide as the page."""


def plain_style(plot: Any) -> None:
    """Thin lines and no frame."""
    plot.outline_line_color = None
    plot.grid.grid_line_alpha = 0.4
    plot.axis.axis_line_alpha = 0.4
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    for legend in plot.legend:
        legend.border_line_color = None
        legend.background_fill_alpha = 0.7
        legend.label_text_font_size = "11px"
        legend.spacing = 0
