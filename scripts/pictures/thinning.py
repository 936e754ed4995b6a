"""How a batch thins out: how many texts are still active in each layer, at several thresholds."""

from typing import Any, List, Mapping, Sequence

from scripts.pictures.picture import STYLES, Picture, new_figure

THRESHOLDS = (0.7, 0.8, 0.9)


def active_in_layers(
    exit_layers: Sequence[int], exit_counts: Sequence[int], num_layers: int
) -> List[float]:
    """The share of texts that run through each layer, those that did not exit before it."""
    number = sum(exit_counts)
    return [
        sum(count for at, count in zip(exit_layers, exit_counts) if at >= layer) / number
        for layer in range(num_layers)
    ]


def draw_thinning(rates: Mapping[str, Any]) -> Picture:
    """The picture, from what `scripts/demo_results.py` writes."""
    num_layers = rates["num_layers"]
    figure, axes = new_figure(3.7)
    sentences = []
    shown = [at for at in rates["at"] if at["threshold"] in THRESHOLDS]
    for at, line in zip(shown, STYLES):
        shares = active_in_layers(rates["exit_layers"], at["exit_counts"], num_layers)
        percents = [100.0, *(100 * share for share in shares)]
        label = f"threshold {at['threshold']:g}: accuracy {100 * at['accuracy']:.1f} %"
        axes.plot(range(-1, num_layers), percents, drawstyle="steps-mid", label=label, **line)
        sentences.append(
            f"at threshold {at['threshold']:g} {percents[1]:.0f} % run layer 0 and "
            f"{percents[-1]:.0f} % the last, with accuracy {100 * at['accuracy']:.1f} %"
        )
    axes.set_xticks(range(-1, num_layers), ["n-grams", *map(str, range(num_layers))])
    axes.set_xlabel("layer")
    axes.set_ylabel("active texts in %")
    axes.set_ylim(0, 105)
    figure.legend(loc="outside upper left", handlelength=2.6)
    return Picture(
        "thinning-out",
        "How a batch thins out: how many texts run through each layer, because no exit before it "
        f"was confident enough, of {rates['num_texts']:,} test texts of {rates['data']}.",
        f"Share of texts that are still active, layer by layer, of {rates['data']}: "
        f"{'; '.join(sentences)}.",
        figure,
    )
