"""How the pictures look, and how they are written: the same bytes each time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import matplotlib
from matplotlib.figure import Figure

from sledgehammer_allennlp.files import write_whole

# Okabe and Ito's colours, which the colour-blind tell apart.
BLACK, GREY = "#000000", "#666666"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PINK, SKY, YELLOW = "#CC79A7", "#56B4E9", "#E69F00"

STYLES: List[Dict[str, Any]] = [
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": ORANGE, "linestyle": "--", "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": PINK, "linestyle": ":", "marker": "D"},
    {"color": YELLOW, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": SKY, "linestyle": (0, (1, 1)), "marker": "P"},
    {"color": BLACK, "linestyle": (0, (8, 2)), "marker": "X"},
]
"""Of lines, which differ in print without colours, too."""

WIDTH = 5.2
"""
Inches. On a telephone, 390 pixels wide, a point of type is then about a pixel.
"""

SMALLEST = 8.5
"""Points of type."""

_PIXELS_PER_INCH = 200

_SETTINGS: Any = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "legend.fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    # Names of parts of the SVG are drawn at random, unless there is a salt.
    "svg.hashsalt": "sledgehammer_allennlp",
}


@dataclass(frozen=True)
class Picture:
    """
    # Parameters

    name : `str`
        Of its files, without an ending.
    caption : `str`
    alt : `str`
        What it shows, for who does not see it.
    figure : `Figure`
    """

    name: str
    caption: str
    alt: str
    figure: Figure


def style() -> Any:
    """A context in which figures look alike."""
    return matplotlib.rc_context(_SETTINGS)


def new_figure(height: float) -> Tuple[Figure, Any]:
    """An empty figure of this height in inches, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def write_picture(picture: Picture, folder: Path) -> None:
    """Writes `NAME.svg` and `NAME.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata: Dict[str, Dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None, "Title": picture.alt},
        "png": {"Software": None, "Description": picture.alt},
    }
    with style():
        for kind, about in metadata.items():

            def save(beside: Path, kind: str = kind, about: Dict[str, Any] = about) -> None:
                picture.figure.savefig(beside, format=kind, dpi=_PIXELS_PER_INCH, metadata=about)

            write_whole(folder / f"{picture.name}.{kind}", save)
