"""
The engine against what a user would take instead: the transformers library's own forward at full
depth, and ONNX Runtime with its optimisations for transformers, in float32 and int8. All have the
same weights and get the same batches, sorted by length.

The trained archive runs on real text, at several thresholds. Of models with random weights, one of
BERT-base size and one of MiniLM's size for pairs, with an alignment in its exits, texts leave at
every exit with the same chance.
"""

import argparse
from copy import copy
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch

from benchmarks.subjects import (
    MINILM,
    Engine,
    FullDepth,
    OnnxRuntime,
    Texts,
    add_arguments,
    batches,
    library_run,
    padded,
    random_classifier,
    random_pairs,
    random_texts,
    read_archive,
    read_data,
)
from benchmarks.timing import alternate, print_table, write
from sledgehammer_allennlp.archives import ArchivedClassifier
from sledgehammer_allennlp.encoders import TokenBatch

THRESHOLDS = [0.0, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]
CHANCES = {"leave at each exit: 1/2": 0.5, "1/4": 0.25, "1/8": 0.125, "none": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/engine.json")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 256])
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--without-onnx", action="store_true")
    parser.add_argument("--skip", choices=["archive", "random", "pairs"], nargs="*", default=[])
    parser.add_argument("--random-texts", type=int, default=256)
    parser.add_argument("--random-tokens", type=int, default=32)
    arguments = parser.parse_args()
    results: Dict[str, Any] = {"precision": arguments.precision}
    if "archive" not in arguments.skip:
        results["archive"] = _archive(arguments)
    if "random" not in arguments.skip:
        results["random"] = _random(arguments)
    if "pairs" not in arguments.skip:
        results["pairs"] = _pairs(arguments)
    write(arguments.output, results)


def _archive(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    classifier = read_archive(arguments)
    classifier.encoder.precision = arguments.precision
    texts, labels = read_data(arguments, classifier)
    # The batches are sorted by length, and so are the labels.
    labels = labels[texts.lengths.sort(stable=True).indices]
    engine = Engine(classifier)
    others = _Others(FullDepth(classifier).eval(), arguments)
    rows: List[Dict[str, Any]] = []
    for batch_size in arguments.batch_sizes:
        chosen = batches(texts, batch_size)
        ways = {f"threshold {t:g}": engine.run(chosen, t) for t in THRESHOLDS}
        seconds = alternate({**others.runs(chosen), **ways}, arguments.rounds)
        full = engine.layer_equivalents(chosen, 1.0)
        for threshold in THRESHOLDS:
            probs = torch.cat([output.probs for output in engine.outputs(chosen, threshold)])
            rows.append(
                _row(
                    batch_size,
                    f"threshold {threshold:g}",
                    seconds,
                    len(texts),
                    engine.layer_equivalents(chosen, threshold),
                    full=("threshold 1", full),
                    accuracy=(probs.argmax(-1).cpu() == labels).float().mean().item(),
                )
            )
        rows += [_row(batch_size, name, seconds, len(texts)) for name in others.names]
        title = f"{arguments.archive}, {arguments.precision}, {len(texts)} texts, batch size"
        print_table([row for row in rows if row["batch"] == batch_size], f"{title} {batch_size}")
    return rows


def _random(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    def classifier(exit_layers: List[int], with_ngrams: bool = False) -> Any:
        made = random_classifier(exit_layers, arguments.device, with_ngrams)
        made.encoder.precision = arguments.precision
        return made

    with_embeddings = [-1, *range(12)]
    # Copies share the weights, and what is made of them: one takes gigabytes.
    shared = classifier(with_embeddings)
    engines = {
        "all leave on n-grams": Engine(classifier(with_embeddings, with_ngrams=True), 1.0),
        "all leave on the embeddings": Engine(copy(shared), 1.0),
    }
    engines["all leave at layer 0"] = Engine(classifier(list(range(12))), 1.0)
    title = f"BERT-base size, {arguments.random_tokens} tokens"
    return _by_chance(arguments, title, engines, shared, random_texts)


def _pairs(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    shared = random_classifier(list(range(6)), arguments.device, alignment=128, **MINILM)
    shared.encoder.precision = arguments.precision
    engines = {"all leave at layer 0": Engine(copy(shared), 1.0)}
    title = f"pairs of {arguments.random_tokens} tokens, MiniLM's size with alignment"
    return _by_chance(arguments, title, engines, shared, random_pairs)


def _by_chance(
    arguments: argparse.Namespace,
    title: str,
    engines: Dict[str, Engine],
    classifier: ArchivedClassifier,
    texts: Callable[[int, int], TokenBatch],
) -> List[Dict[str, Any]]:
    """Of a classifier whose texts leave by chance, and at threshold 1; beside other `engines`."""
    by_chance = {name: Engine(copy(classifier), chance) for name, chance in CHANCES.items()}
    engines, full = {**engines, **by_chance}, Engine(classifier)
    others = _Others(FullDepth(classifier).eval(), arguments)
    rows: List[Dict[str, Any]] = []
    for batch_size in arguments.batch_sizes:
        num_texts = min(arguments.random_texts, 16 * batch_size)
        chosen = batches(texts(num_texts, arguments.random_tokens), batch_size)
        ways: Dict[str, Callable[[], None]] = {"threshold 1": full.run(chosen, 1.0)}
        ways.update({name: engine.run(chosen) for name, engine in engines.items()})
        seconds = alternate({**others.runs(chosen), **ways}, arguments.rounds)
        cost = full.layer_equivalents(chosen, 1.0)
        costs = {name: engine.layer_equivalents(chosen) for name, engine in engines.items()}
        costs["threshold 1"] = cost
        for name, own in costs.items():
            rows.append(_row(batch_size, name, seconds, num_texts, own, full=("threshold 1", cost)))
        rows += [_row(batch_size, name, seconds, num_texts) for name in others.names]
        print_table(
            [row for row in rows if row["batch"] == batch_size],
            f"{title}, {arguments.precision}, {num_texts} texts, batch size {batch_size}",
        )
    return rows


class _Others:
    """What the engine is compared with."""

    def __init__(self, full_depth: FullDepth, arguments: argparse.Namespace) -> None:
        self._full_depth = full_depth.to(arguments.device)
        self._device = arguments.device
        self._onnx: Dict[str, OnnxRuntime] = {}
        if not arguments.without_onnx and arguments.device == "cpu":
            self._onnx = {
                "ONNX Runtime": OnnxRuntime(full_depth, int8=False),
                "ONNX Runtime int8": OnnxRuntime(full_depth, int8=True),
            }
        self.names = ["transformers", *self._onnx]

    def runs(self, texts: Texts) -> Dict[str, Callable[[], None]]:
        runs = {"transformers": library_run(self._full_depth, texts, self._device)}
        for name, onnx in self._onnx.items():
            runs[name] = onnx.run(texts)
        self._check_same(texts)
        return runs

    def _check_same(self, texts: Texts) -> None:
        """What is compared with computes the same."""
        if "ONNX Runtime" not in self._onnx:
            return
        inputs = padded(texts[0])
        with torch.inference_mode():
            wanted = self._full_depth(**inputs)
        found = self._onnx["ONNX Runtime"].logits({n: x.numpy() for n, x in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-3, rtol=1e-3)


def _row(
    batch_size: int,
    name: str,
    seconds: Dict[str, float],
    num_texts: int,
    cost: Optional[Tuple[float, float]] = None,
    full: Optional[Tuple[str, Tuple[float, float]]] = None,
    accuracy: Optional[float] = None,
) -> Dict[str, Any]:
    """
    `promised` is the speed-up over our own full depth that layer-equivalents would give, those of
    a token, because what is saved on a long text is more; `realised` is the share of it that the
    clock shows.
    """
    promised = realised = None
    if full is not None and cost is not None and cost[1] > 0:
        promised = full[1][1] / cost[1]
        realised = seconds[full[0]] / seconds[name] / promised
    onnx = seconds.get("ONNX Runtime")
    return {
        "batch": batch_size,
        "what": name,
        "accuracy": accuracy,
        "texts a second": num_texts / seconds[name],
        "ms a text": 1000 * seconds[name] / num_texts,
        "x transformers": seconds["transformers"] / seconds[name],
        "x ONNX Runtime": None if onnx is None else onnx / seconds[name],
        "layer-equivalents": None if cost is None else cost[0],
        "promised": promised,
        "realised": realised,
    }


if __name__ == "__main__":
    main()
