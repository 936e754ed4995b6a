"""
python -m scripts.demo_results TRADEOFF_JSON OUTPUT --data NAME

writes what the documentation shows of the demo, docs/results/demo.json, from what `tradeoff
--measure` wrote in `make demo`: runs/movie_reviews/tradeoff/tradeoff.json.
"""

import argparse
import json
from bisect import bisect_left
from pathlib import Path
from typing import Any, Dict, Mapping

from scripts.pictures.thinning import THRESHOLDS
from sledgehammer_allennlp.files import write_text_whole


def demo_results(tradeoff: Mapping[str, Any], data: str) -> Dict[str, Any]:
    """
    What the thresholds give that were measured, and those that the picture shows.

    # Parameters

    tradeoff : `Mapping[str, Any]`
        The content of `tradeoff.json`.
    data : `str`
        What the texts are called.
    """
    curve, number = tradeoff["thresholds"], tradeoff["num_instances"]
    exit_layers = [exit_["exit_layer"] for exit_ in tradeoff["exits"]]
    measured = {one["threshold"]: one for one in tradeoff["measured"]}
    rows = []
    for threshold in sorted({*THRESHOLDS, *measured}):
        # What a row of the curve says holds above the threshold before it, and up to its own.
        row = bisect_left(curve["threshold"], threshold)
        exit_counts = [counts[row] for counts in curve["exit_counts"]]
        seconds = measured.get(threshold, {})
        layers = sum(layer * count for layer, count in zip(exit_layers, exit_counts))
        rows.append(
            {
                "threshold": threshold,
                "exit_counts": exit_counts,
                "accuracy": curve["accuracy"][row],
                "average_exit_layer": layers / number,
                "layer_equivalents": curve["layer_equivalents"][row],
                "speed_up": curve["speed_up"][row],
                "measured": seconds.get("speed_up"),
                "texts_a_second": seconds.get("texts_per_second"),
            }
        )
    return {
        "data": data,
        "num_texts": number,
        "num_layers": tradeoff["num_layers"],
        "exit_layers": exit_layers,
        "at": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tradeoff", type=Path, metavar="TRADEOFF_JSON")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--data", required=True, help="what the texts are called")
    arguments = parser.parse_args()
    tradeoff = json.loads(arguments.tradeoff.read_text(encoding="utf-8"))
    results = demo_results(tradeoff, arguments.data)
    write_text_whole(arguments.output, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
