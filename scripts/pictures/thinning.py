"""
How a batch thins out: how many texts are still active in each layer, at several thresholds.

python -m scripts.pictures.thinning TRADEOFF_JSON OUTPUT --data NAME

writes what the picture is made of, docs/results/exit_rates.json, from what `allennlp tradeoff`
writes, as in `make demo`: runs/movie_reviews/tradeoff/tradeoff.json.
"""

import argparse
import json
from bisect import bisect_left
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from scripts.pictures.picture import STYLES, Picture, new_figure
from sledgehammer_allennlp.files import write_text_whole

THRESHOLDS = (0.7, 0.8, 0.9)


def exit_rates(tradeoff: Mapping[str, Any], data: str) -> Dict[str, Any]:
    """
    Which share of the texts exits at each exit, at each of `THRESHOLDS`.

    # Parameters

    tradeoff : `Mapping[str, Any]`
        The content of `tradeoff.json`.
    data : `str`
        What the texts are called.
    """
    curve, number = tradeoff["thresholds"], tradeoff["num_instances"]
    rows = [bisect_left(curve["threshold"], threshold) for threshold in THRESHOLDS]
    return {
        "data": data,
        "num_texts": number,
        "num_layers": tradeoff["num_layers"],
        "exit_layers": [exit_["exit_layer"] for exit_ in tradeoff["exits"]],
        "at": [
            {
                "threshold": threshold,
                "exit_counts": [counts[row] for counts in curve["exit_counts"]],
                "accuracy": curve["accuracy"][row],
                "layer_equivalents": curve["layer_equivalents"][row],
            }
            for threshold, row in zip(THRESHOLDS, rows)
        ],
    }


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
    """The picture, from what `exit_rates` gives."""
    num_layers = rates["num_layers"]
    figure, axes = new_figure(3.7)
    sentences = []
    for at, line in zip(rates["at"], STYLES):
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tradeoff", type=Path, metavar="TRADEOFF_JSON")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--data", required=True, help="what the texts are called")
    arguments = parser.parse_args()
    tradeoff = json.loads(arguments.tradeoff.read_text(encoding="utf-8"))
    rates = exit_rates(tradeoff, arguments.data)
    write_text_whole(arguments.output, json.dumps(rates, indent=1) + "\n")


if __name__ == "__main__":
    main()
