"""
Many predictions in one process, of texts of mixed lengths in calls of mixed sizes, by one thread or
several: does memory grow, with and without what the C library keeps of freed memory, and is every
answer the one that the text gets alone? (In int8 some are not, whatever the number of threads: a
difference in the last place may round to another step.)
"""

import argparse
import ctypes
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from benchmarks.memory import memory_now
from benchmarks.subjects import add_arguments, read_archive
from benchmarks.timing import print_table, write
from sledgehammer_allennlp.archives import ArchivedClassifier

_MOST_IN_A_CALL = 64
_LONGEST = 6  # texts of the data that are put together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/soak.json")
    parser.add_argument("--predictions", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1, help="that share the classifier")
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    if not Path("/proc/self/status").exists():
        raise SystemExit("Memory is read from /proc/self/status, which this system does not have")
    classifier = read_archive(arguments)
    classifier.encoder.precision = arguments.precision
    classifier.confidence_threshold = arguments.threshold
    soak = Soak(classifier, _texts(arguments))
    marks = sorted({round(arguments.predictions * share) for share in (0.01, 0.1, 0.25, 0.5, 1)})
    rows: List[Dict[str, Any]] = []
    with ThreadPoolExecutor(arguments.threads) as pool:
        for mark in marks:
            soak.run_until(mark, pool, arguments.threads)
            rows.append(soak.row())
    title = f"{arguments.archive}, threshold {arguments.threshold}, {arguments.precision}"
    print_table(rows, f"{title}, threads: {arguments.threads}")
    write(arguments.output, {"threads": arguments.threads, "soak": rows})
    if soak.num_wrong and arguments.precision == "float32":
        raise SystemExit(f"{soak.num_wrong} answers were not those that the texts get alone")


def _texts(arguments: argparse.Namespace) -> List[str]:
    if not Path(arguments.data).exists():
        raise SystemExit(f"There is no {arguments.data}: run make demo first, or --data FILE")
    lines = Path(arguments.data).read_text(encoding="utf-8").splitlines()[: arguments.max_texts]
    texts = [line.split("\t")[1] for line in lines]
    return [" ".join(texts[i : i + 1 + i % _LONGEST]) for i in range(len(texts))]


class Soak:
    """Predictions without end, compared with what each text gets alone, before."""

    def __init__(self, classifier: ArchivedClassifier, texts: List[str]) -> None:
        self.num_done = self.num_wrong = 0
        self._classifier = classifier
        self._texts = texts
        self._alone = [classifier.predict([text])[0] for text in texts]
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._seeds = itertools.count()

    def run_until(self, num_predictions: int, pool: ThreadPoolExecutor, num_threads: int) -> None:
        """Goes on until there are as many predictions in all."""
        start = time.perf_counter()
        calls = self._calls(num_predictions - self.num_done)
        for _ in pool.map(self._run, [calls] * num_threads):
            pass
        self._seconds += time.perf_counter() - start

    def _calls(self, num_texts: int) -> Iterator[List[int]]:
        draw = random.Random(next(self._seeds))
        while num_texts > 0:
            size = min(num_texts, draw.randint(1, _MOST_IN_A_CALL))
            num_texts -= size
            yield [draw.randrange(len(self._texts)) for _ in range(size)]

    def _run(self, calls: Iterator[List[int]]) -> None:
        while True:
            with self._lock:
                chosen = next(calls, None)
            if chosen is None:
                return
            found = self._classifier.predict([self._texts[i] for i in chosen])
            wrong = abs(len(found) - len(chosen)) + sum(
                not _same(answer, self._alone[i]) for answer, i in zip(found, chosen)
            )
            with self._lock:
                self.num_done += len(found)
                self.num_wrong += wrong

    def row(self) -> Dict[str, Any]:
        resident = memory_now()
        _give_back_freed_memory()
        return {
            "predictions": self.num_done,
            "other than alone": self.num_wrong,
            "resident memory, MB": resident,
            "without what is freed, MB": memory_now(),
            "predictions a second": self.num_done / self._seconds,
        }


def _same(answer: Dict[str, Any], alone: Dict[str, Any]) -> bool:
    pairs: List[Tuple[float, float]] = list(zip(answer["probs"], alone["probs"]))
    return (
        answer["label"] == alone["label"]
        and answer["exit_layer"] == alone["exit_layer"]
        and all(abs(one - other) < 1e-4 for one, other in pairs)
    )


def _give_back_freed_memory() -> None:
    """Of what C libraries freed, glibc keeps some; others may not have the function."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


if __name__ == "__main__":
    main()
