"""
One text at a time: how long it takes, beside ONNX Runtime with one fused graph of the whole
transformer, OpenVINO, and torch's own compiler. Models of two sizes with random weights run whole,
one of them also with pairs and an alignment in its exits: at threshold 1, where no exit but the
last is asked, and at a threshold that no exit reaches. Then batches of short texts, in either
runtime, to see that the one that is chosen is the better; and the exit on n-grams of one text and
of one pair. A trained model answers texts from string to answer, at the thresholds that are given.
Last, what making the session of such texts takes.
Prints tables, writes JSON.
"""

import argparse
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch

from benchmarks.memory import forget_peak, memory_now, peak_so_far
from benchmarks.subjects import (
    MINILM,
    FullDepth,
    OnnxRuntime,
    OpenVino,
    add_arguments,
    compiled_run,
    library_run,
    padded,
    random_classifier,
    random_ngrams,
    random_pairs,
    random_texts,
    read_archive,
)
from benchmarks.timing import print_table, write
from sledgehammer_allennlp.archives import ArchivedClassifier
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.ngrams.one_text import score_one_text

SIZES: Dict[str, Dict[str, Any]] = {
    "MiniLM": MINILM,
    "MiniLM, pairs": dict(MINILM, alignment=128),
    "BERT-base": dict(num_hidden_layers=12),
}
PRECISIONS = ("float32", "int8")
OTHERS = ("openvino", "compile")
EXITS_ASKED = "ours, every exit asked"
UNREACHED = 1 - 1e-7
"""A threshold above the confidence of random exits."""
TOKENS_IN_BATCHES = 25
_PAUSE = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser, "runs/latency.json")
    parser.add_argument("--tokens", type=int, nargs="+", default=[12, 25, 64, 128])
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.0, 0.8, 0.9, 1.0])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 3, 4, 8, 32, 256])
    parser.add_argument(
        "--without",
        choices=OTHERS,
        nargs="*",
        default=[],
        help="OpenVINO; torch's compiler, which needs one of C++ and half a minute a length",
    )
    arguments = parser.parse_args()
    whole = [row for size in arguments.sizes for row in whole_depth(arguments, size)]
    print_table(whole, "Milliseconds of one text, all layers")
    batches = [row for size in arguments.sizes for row in in_batches(arguments, size)]
    print_table(batches, f"Milliseconds of a batch of {TOKENS_IN_BATCHES} tokens a text")
    at_ngrams = by_ngrams(arguments)
    print_table(at_ngrams, f"Milliseconds of the exit on n-grams, {TOKENS_IN_BATCHES} tokens")
    answers = from_text_to_answer(arguments)
    print_table(answers, "Milliseconds from text to answer")
    sessions = [row for size in arguments.sizes for row in sessions_of(size)]
    print_table(sessions, "What the first text takes, in which its session is made")
    results = {
        "whole_depth": whole,
        "batches": batches,
        "at_ngrams": at_ngrams,
        "from_text_to_answer": answers,
        "sessions": sessions,
    }
    write(arguments.output, results)


def whole_depth(arguments: argparse.Namespace, size: str) -> List[Dict[str, Any]]:
    """A row for each number of tokens and precision."""
    classifier = classifier_of(size)
    full_depth = FullDepth(classifier).eval()
    fused = {precision: OnnxRuntime(full_depth, precision == "int8") for precision in PRECISIONS}
    openvino = None if "openvino" in arguments.without else OpenVino(full_depth)
    rows = []
    for precision in PRECISIONS:
        classifier.encoder.precision = precision
        for num_tokens in arguments.tokens:
            is_pair = classifier.exits.pair_texts is not None
            texts = random_pairs(1, num_tokens) if is_pair else random_texts(1, num_tokens)
            ways = {
                "transformers": library_run(full_depth, [texts], "cpu"),
                "ONNX Runtime": fused[precision].run([texts]),
                **{
                    f"ours, {runtime}": engine_run(classifier, texts, runtime, 1.0)
                    for runtime in ("torch", "onnxruntime")
                },
                EXITS_ASKED: engine_run(classifier, texts, "onnxruntime", UNREACHED),
            }
            if precision == "float32" and openvino is not None:
                ways["OpenVINO"] = openvino.run([texts])
            if precision == "float32" and "compile" not in arguments.without:
                ways["torch.compile"] = compiled_run(full_depth, [texts])
            seconds = alternate_calls(ways, arguments.rounds)
            rows.append(
                {
                    "model": size,
                    "precision": precision,
                    "tokens": num_tokens,
                    **{name: 1000 * time for name, time in seconds.items()},
                    **{name: None for name in ("OpenVINO", "torch.compile") if name not in ways},
                    "ours / ONNX Runtime": seconds["ours, onnxruntime"] / seconds["ONNX Runtime"],
                }
            )
    return rows


def in_batches(arguments: argparse.Namespace, size: str) -> List[Dict[str, Any]]:
    """A row for each precision and number of texts, at threshold 1."""
    classifier = classifier_of(size)
    is_pair = classifier.exits.pair_texts is not None
    rows = []
    for precision in PRECISIONS:
        classifier.encoder.precision = precision
        for num_texts in arguments.batch_sizes:
            make = random_pairs if is_pair else random_texts
            texts = make(num_texts, TOKENS_IN_BATCHES)
            ways = {
                runtime: engine_run(classifier, texts, runtime, 1.0)
                for runtime in ("torch", "onnxruntime", "auto")
            }
            seconds = alternate_calls(ways, arguments.rounds, calls=max(1, 10 // num_texts))
            better = min(seconds["torch"], seconds["onnxruntime"])
            rows.append(
                {
                    "model": size,
                    "precision": precision,
                    "texts": num_texts,
                    **{name: 1000 * time for name, time in seconds.items()},
                    "auto / the better": seconds["auto"] / better,
                }
            )
    return rows


def by_ngrams(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    """A row for a text and one for a pair: as in batches, in torch, and as one by itself."""
    rows = []
    for name, make in (("text", random_texts), ("pair", random_pairs)):
        ngrams = random_ngrams(compares_pairs=name == "pair")
        text = make(1, TOKENS_IN_BATCHES)
        ways: Dict[str, Callable[[], Any]] = {
            "torch": partial(ngrams.logits_and_seen_share, text),
            "NumPy": partial(score_one_text, ngrams, text),
        }
        with torch.inference_mode():
            seconds = alternate_calls(ways, arguments.rounds, calls=100)
        rows.append({"one": name, **{way: 1000 * time for way, time in seconds.items()}})
    return rows


def classifier_of(size: str) -> ArchivedClassifier:
    """With random weights, and exits on all layers."""
    sizes = SIZES[size]
    return random_classifier(list(range(sizes["num_hidden_layers"])), "cpu", **sizes)


def engine_run(
    classifier: ArchivedClassifier, texts: Any, runtime: str, threshold: float
) -> Callable[[], None]:
    def run() -> None:
        classifier.encoder.runtime = runtime
        classifier.confidence_threshold = threshold
        with torch.inference_mode():
            classifier(texts)

    return run


def from_text_to_answer(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    """A row for each precision and threshold: the mean of texts, tokenizing included."""
    classifier = read_archive(arguments)
    lines = Path(arguments.data).read_text(encoding="utf-8").splitlines()[: arguments.max_texts]
    texts = [tuple(line.split("\t")[1:]) for line in lines]
    given: List[Any] = [text if len(text) > 1 else text[0] for text in texts]
    full_depth = FullDepth(classifier).eval()
    rows = []
    for precision in PRECISIONS:
        classifier.encoder.precision = precision
        whole = OnnxRuntime(full_depth, precision == "int8")

        def by_onnx_runtime(fused: OnnxRuntime = whole) -> None:
            for first, *second in texts:
                tokens = tokenize(
                    classifier.tokenizer, [first], second or None, classifier.max_length
                )
                fused.logits({name: x.numpy() for name, x in padded(tokens).items()})

        def by_us(threshold: float) -> Callable[[], None]:
            def run() -> None:
                classifier.confidence_threshold = threshold
                for text in given:
                    classifier.predict([text])

            return run

        ways: Dict[str, Callable[[], Any]] = {"ONNX Runtime": by_onnx_runtime}
        ways.update({str(threshold): by_us(threshold) for threshold in arguments.thresholds})
        seconds = alternate_calls(ways, arguments.rounds, calls=1)
        for threshold in arguments.thresholds:
            ours, theirs = seconds[str(threshold)], seconds["ONNX Runtime"]
            rows.append(
                {
                    "precision": precision,
                    "threshold": threshold,
                    "ours": 1000 * ours / len(texts),
                    "ONNX Runtime, all layers": 1000 * theirs / len(texts),
                    "times as fast": theirs / ours,
                }
            )
    return rows


def sessions_of(size: str) -> List[Dict[str, Any]]:
    """A row for each precision, of a process of its own."""
    rows = []
    for precision in PRECISIONS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(
                {"model": size, "precision": precision, **pool.apply(_cost, (size, precision))}
            )
    return rows


def _cost(size: str, precision: str) -> Dict[str, float]:
    """Seconds, and MB that the process then holds more, and needs meanwhile."""
    classifier = classifier_of(size)
    classifier.encoder.precision = precision
    text = random_pairs(1, 25)
    engine_run(classifier, text, "torch", 1.0)()
    forget_peak()
    before, start = memory_now(), time.perf_counter()
    engine_run(classifier, text, "onnxruntime", 1.0)()
    return {
        "seconds": time.perf_counter() - start,
        "MB": memory_now() - before,
        "MB meanwhile": peak_so_far() - before,
    }


def alternate_calls(
    ways: Dict[str, Callable[[], Any]], rounds: int, calls: int = 10
) -> Dict[str, float]:
    """
    The median seconds of a call of each way. Ways take turns, with some calls in a row, of which
    the first is not counted.
    """
    seconds: Dict[str, List[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            time.sleep(_PAUSE)
            run()
            for _ in range(calls):
                start = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
