"""
How near the engine comes to what the machine can do: its floating point operations a second as a
share of the fastest matrix product measured here, and its peak memory, against full depth by the
transformers library.
"""

import argparse
import multiprocessing
from functools import partial
from typing import Any, Callable, Dict, List

import torch

from benchmarks.memory import forget_peak, peak_so_far
from benchmarks.subjects import (
    Engine,
    FullDepth,
    add_arguments,
    batches,
    library_run,
    random_classifier,
    random_texts,
)
from benchmarks.timing import alternate, print_table, write
from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.layer_products import _has_onednn, _OneDnnProduct

PEAK_SIZES = [1024, 2048, 3072]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/limits.json")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 128, 256])
    arguments = parser.parse_args()
    peak = _peak(arguments)
    write(
        arguments.output,
        {
            "peak_gflops": peak,
            "share_of_peak": _shares(arguments, peak),
            "peak_memory": _memory(arguments),
        },
    )


def _peak(arguments: argparse.Namespace) -> float:
    """GFLOP/s of the fastest of some large float32 matrix products."""
    best = 0.0
    for size in PEAK_SIZES:
        a, b = torch.randn(size, size), torch.randn(size, size)
        ways: Dict[str, Callable[[], Any]] = {"torch": partial(torch.matmul, a, b)}
        if _has_onednn():
            ways["oneDNN"] = partial(_OneDnnProduct(b, b[0], None), a)
        with torch.inference_mode():
            seconds = alternate(ways, arguments.rounds)
        best = max(best, 2 * size**3 / min(seconds.values()) / 1e9)
    print(f"The fastest float32 matrix product: {best:.0f} GFLOP/s")
    return best


def _shares(arguments: argparse.Namespace, peak: float) -> List[Dict[str, Any]]:
    engine = Engine(random_classifier([-1, *range(12)], "cpu"))
    rows = []
    for batch_size in arguments.batch_sizes:
        chosen = batches(random_texts(batch_size, arguments.tokens), batch_size)
        seconds = alternate({"engine": engine.run(chosen, 1.0)}, arguments.rounds)["engine"]
        operations = _operations(engine.classifier.encoder, batch_size, arguments.tokens)
        gflops = operations / seconds / 1e9
        rows.append({"batch": batch_size, "GFLOP/s": gflops, "share of peak": gflops / peak})
    print_table(rows, f"BERT-base size, float32, {arguments.tokens} tokens, threshold 1")
    return rows


def _operations(encoder: LayeredEncoder, num_texts: int, num_tokens: int) -> float:
    """
    Floating point operations at full depth, two for each product and sum: all layers, of the last
    one keys and values, and the rest for first tokens alone.
    """
    size, inner = encoder.hidden_size, encoder.feed_forward_size
    all_tokens, first_tokens = num_texts * num_tokens, num_texts
    keys_values = 2 * 2 * size * size
    a_row = 2 * 2 * size * size + 2 * 2 * size * inner + 2 * 2 * size * num_tokens
    full_layers = (encoder.num_layers - 1) * all_tokens * (keys_values + a_row)
    return float(full_layers + all_tokens * keys_values + first_tokens * a_row)


def _memory(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    context = multiprocessing.get_context("spawn")
    rows = []
    for batch_size in arguments.batch_sizes:
        peaks = {}
        for name in ("transformers", "engine", "engine int8"):
            with context.Pool(1) as pool:
                peaks[name] = pool.apply(_peak_memory, (name, batch_size, arguments.tokens))
        rows.append({"batch": batch_size, **{f"{name}, MB": mb for name, mb in peaks.items()}})
    print_table(rows, f"Peak memory of a process, BERT-base size, {arguments.tokens} tokens")
    return rows


def _peak_memory(name: str, batch_size: int, num_tokens: int) -> int:
    classifier = random_classifier([-1, *range(12)], "cpu")
    texts = batches(random_texts(batch_size, num_tokens), batch_size)
    if name == "transformers":
        run = library_run(FullDepth(classifier).eval(), texts, "cpu")
    else:
        classifier.encoder.precision = "int8" if name.endswith("int8") else "float32"
        classifier.encoder.give_up_weights()
        run = Engine(classifier).run(texts, 1.0)
    forget_peak()
    for _ in range(2):
        run()
    return peak_so_far()


if __name__ == "__main__":
    main()
