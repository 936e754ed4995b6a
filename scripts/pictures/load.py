"""Latency against load: how long the slowest answers take as requests come faster."""

import math
from collections import defaultdict
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from scripts.pictures.picture import GREY, STYLES, Picture, new_figure

SERVE = "serve"


def draw_load(serving: Mapping[str, Any]) -> Picture:
    """The picture, from what `benchmarks/serving.py` writes."""
    lines: Dict[str, List[Tuple[float, float]]] = defaultdict(list)
    shown = _shown(serving["loads"])
    for row in shown:
        if math.isfinite(row["99 % ms"]):
            label = f"{row['service']}, threshold {row['threshold']:g}"
            lines[label].append((row["due a second"], row["99 % ms"]))
    figure, axes = new_figure(4.2)
    for (label, points), line in zip(lines.items(), STYLES):
        axes.plot([p[0] for p in points], [p[1] for p in points], label=label, **line)
    limit = serving["limit_ms"]
    axes.axhline(limit, color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("requests a second, one text each")
    axes.set_ylabel("ms in which 99 % are answered")
    figure.legend(loc="outside upper left", ncols=1, handlelength=2.6)
    names = {f"{row['service']} at {row['threshold']}" for row in shown}
    held = "; ".join(f"{k}: {rate:.0f}" for k, rate in serving["held"].items() if k in names)
    return Picture(
        "load",
        "Latency against load: within how many milliseconds 99 % of the requests are answered. "
        f"The grey line is the limit, {limit:g} ms.",
        "Latency against load of several services. Requests a second at which 99 % are answered "
        f"within {limit:g} ms: {held}.",
        figure,
    )


def _shown(loads: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """
    Of the services that exit early, those at the lowest threshold; at the highest, the service
    itself and those that run all layers.
    """
    lowest = min(row["threshold"] for row in loads)
    exiting = {row["service"] for row in loads if row["threshold"] == lowest < 1}
    return [
        row
        for row in loads
        if row["threshold"] == lowest
        or (row["threshold"] == 1 and (row["service"] not in exiting or row["service"] == SERVE))
    ]
