"""Speed and accuracy of every precision that the device has, at several thresholds."""

import argparse
from typing import Any, Dict, List

import torch

from benchmarks.subjects import (
    Engine,
    add_arguments,
    batches,
    random_classifier,
    random_texts,
    read_archive,
    read_data,
)
from benchmarks.timing import alternate, print_table, write
from sledgehammer_allennlp.encoders.layer_products import PRECISIONS, check_precision

THRESHOLDS = [0.7, 0.9, 0.95, 1.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/precision.json")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--random-texts", type=int, default=256)
    arguments = parser.parse_args()
    precisions = [name for name in PRECISIONS if _is_possible(name, arguments.device)]
    write(
        arguments.output,
        {
            "archive": _archive(arguments, precisions),
            "random": _random(arguments, precisions),
        },
    )


def _is_possible(precision: str, device: str) -> bool:
    try:
        check_precision(precision, torch.device(device))
    except ValueError:
        return False
    return True


def _archive(arguments: argparse.Namespace, precisions: List[str]) -> List[Dict[str, Any]]:
    engines = {}
    for precision in precisions:
        engines[precision] = Engine(read_archive(arguments))
        engines[precision].classifier.encoder.precision = precision
    texts, labels = read_data(arguments, engines["float32"].classifier)
    labels = labels[texts.lengths.sort(stable=True).indices]
    chosen = batches(texts, arguments.batch_size)
    rows = []
    for threshold in THRESHOLDS:
        seconds = alternate(
            {name: engine.run(chosen, threshold) for name, engine in engines.items()},
            arguments.rounds,
        )
        answers = {
            name: torch.cat([output.probs.argmax(-1) for output in engine.outputs(chosen)]).cpu()
            for name, engine in engines.items()
        }
        for name, engine in engines.items():
            rows.append(
                {
                    "threshold": threshold,
                    "precision": name,
                    "accuracy": (answers[name] == labels).float().mean().item(),
                    "same answers": (answers[name] == answers["float32"]).float().mean().item(),
                    "layer-equivalents": engine.layer_equivalents(chosen)[0],
                    "texts a second": len(texts) / seconds[name],
                    "x float32": seconds["float32"] / seconds[name],
                }
            )
    title = f"{arguments.archive}, {len(texts)} texts, batches of {arguments.batch_size}"
    print_table(rows, title)
    return rows


def _random(arguments: argparse.Namespace, precisions: List[str]) -> List[Dict[str, Any]]:
    engines = {}
    for precision in precisions:
        engines[precision] = Engine(random_classifier([-1, *range(12)], arguments.device))
        engines[precision].classifier.encoder.precision = precision
    rows = []
    for batch_size in (1, 8, 32, 256):
        chosen = batches(random_texts(min(arguments.random_texts, 16 * batch_size), 32), batch_size)
        seconds = alternate(
            {name: engine.run(chosen, 1.0) for name, engine in engines.items()}, arguments.rounds
        )
        for name in engines:
            rows.append(
                {
                    "batch": batch_size,
                    "precision": name,
                    "texts a second": sum(map(len, chosen)) / seconds[name],
                    "x float32": seconds["float32"] / seconds[name],
                }
            )
    print_table(rows, "BERT-base size with random weights, 32 tokens, threshold 1")
    return rows


if __name__ == "__main__":
    main()
