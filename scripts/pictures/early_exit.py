"""How early exit works: three texts on their way through a model of six layers. No data."""

from dataclasses import dataclass
from typing import Any, Dict, List

from matplotlib.patches import FancyBboxPatch

from scripts.pictures.picture import GREY, STYLES, Picture, new_figure

NUM_LAYERS = 6
THRESHOLD = 0.9

_LANES = (2.35, 3.85, 5.35)
_RIGHT = 6.1


@dataclass(frozen=True)
class Journey:
    """What a text meets: its confidence at each exit that it reaches, by layer, -1 for n-grams."""

    kind: str
    text: str
    confidences: Dict[int, float]
    answer: str

    @property
    def exit_layer(self) -> int:
        return max(self.confidences)


JOURNEYS = (
    Journey("easy", "“Warm, funny\nand moving.”", {-1: 0.97}, "positive"),
    Journey("average", "“Not a dull\nminute in it.”", {-1: 0.58, 1: 0.74, 3: 0.93}, "positive"),
    Journey(
        "hard",
        "“The mystery is\nwho paid for it.”",
        {-1: 0.54, 1: 0.51, 3: 0.66, 5: 0.81},
        "negative",
    ),
)
"""Made up, as the numbers are."""

EXITS = (-1, 1, 3, 5)


def draw_early_exit() -> Picture:
    """The schema."""
    figure, axes = new_figure(4.6)
    axes.set_axis_off()
    axes.set_xlim(-0.1, _RIGHT)
    axes.set_ylim(-NUM_LAYERS - 1.35, 1.55)
    for layer in range(-1, NUM_LAYERS):
        _draw_layer(axes, layer)
    for lane, journey, line in zip(_LANES, JOURNEYS, STYLES):
        _draw_journey(axes, lane, journey, line)
    return Picture(
        "early-exit",
        f"How early exit works, at threshold {THRESHOLD}. After some layers, and before the first, "
        "an exit says how confident it is of its answer (numbers are made up). A text exits at the "
        "first exit whose confidence is at least the threshold, or at the last.",
        _alt(),
        figure,
    )


def _alt() -> str:
    ways: List[str] = []
    for journey in JOURNEYS:
        layer = journey.exit_layer
        place = "before the first layer" if layer < 0 else f"after layer {layer}"
        ways.append(
            f"the {journey.kind} text exits {place}, at confidence "
            f"{journey.confidences[layer]:.2f}, after {layer + 1} layers"
        )
    return (
        f"A model of {NUM_LAYERS} layers, with exits before the first layer, over n-grams, and "
        f"after layers 1, 3 and 5. At threshold {THRESHOLD}, {'; '.join(ways)}."
    )


def _place_of(layer: int) -> float:
    """The middle of a layer's box."""
    return -(layer + 1.0)


def _draw_layer(axes: Any, layer: int) -> None:
    y, is_exit = _place_of(layer), layer in EXITS
    name = "n-grams" if layer < 0 else f"layer {layer}"
    box = FancyBboxPatch(
        (0, y - 0.33),
        _RIGHT - 0.2,
        0.66,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor="#ffffff" if layer < 0 else "#eef1f4",
        edgecolor=GREY,
        linestyle="--" if layer < 0 else "-",
        linewidth=0.9,
    )
    axes.add_patch(box)
    axes.text(0.12, y, f"{name}\n+ exit" if is_exit else name, va="center", linespacing=1.1)


def _draw_journey(axes: Any, lane: float, journey: Journey, line: Dict[str, Any]) -> None:
    color = line["color"]
    end = _place_of(journey.exit_layer)
    axes.text(
        *(lane, 0.98),
        f"{journey.kind}\n{journey.text}",
        ha="center",
        va="center",
        color=color,
        fontsize=9,
        linespacing=1.15,
    )
    axes.plot([lane, lane], [0.46, end], color=color, linestyle=line["linestyle"], zorder=2)
    for layer, confidence in journey.confidences.items():
        is_end = layer == journey.exit_layer
        axes.text(
            *(lane, _place_of(layer)),
            f"{confidence:.2f}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if is_end else color,
            fontweight="bold" if is_end else "normal",
            zorder=4,
            bbox={
                "boxstyle": "round,pad=0.25",
                "facecolor": color if is_end else "white",
                "edgecolor": color,
            },
        )
    num_layers = journey.exit_layer + 1
    axes.text(
        *(lane, -NUM_LAYERS - 0.92),
        f"{journey.answer}\n{num_layers} of {NUM_LAYERS} layers",
        ha="center",
        va="center",
        color=color,
        fontsize=9,
        linespacing=1.15,
    )
