"""
The whole path of `allennlp predict`, from a file of JSON lines to a file of answers: sentences a
second, and what takes the time: tokenising, the engine, or the rest.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

from allennlp.commands.predict import _PredictManager
from allennlp.predictors import Predictor

import sledgehammer_allennlp  # noqa: F401  (registers the classes)
from benchmarks.subjects import add_arguments
from benchmarks.timing import print_table, write
from sledgehammer_allennlp.data import labeled_tsv
from sledgehammer_allennlp.models import multi_exit_classifier

THRESHOLDS = [0.0, 0.9, 1.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser, "runs/benchmarks/predict.json")
    parser.add_argument("--sentences", type=int, default=20000, help="the data's, over and over")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    if not Path(arguments.archive).exists() or not Path(arguments.data).exists():
        raise SystemExit(f"There is no {arguments.archive} or {arguments.data}: make demo first")
    predictor = Predictor.from_path(
        arguments.archive, overrides={"model.precision": arguments.precision}
    )
    model = predictor._model
    assert isinstance(model, multi_exit_classifier.MultiExitClassifier)
    tokenising = _Clock(labeled_tsv, "tokenize")
    engine = _Clock(multi_exit_classifier, "run_early_exit")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "in.jsonl"
        _write_inputs(inputs, arguments)
        for threshold in THRESHOLDS:
            model.confidence_threshold = threshold
            tokenising.seconds = engine.seconds = 0.0
            start = time.perf_counter()
            _PredictManager(
                predictor,
                str(inputs),
                str(Path(folder) / "out.jsonl"),
                arguments.batch_size,
                print_to_console=False,
                has_dataset_reader=False,
            ).run()
            rows.append(_row(threshold, time.perf_counter() - start, tokenising, engine, arguments))
    title = f"{arguments.archive}, {arguments.sentences} sentences, {arguments.precision}"
    print_table(rows, f"{title}, --batch-size {arguments.batch_size}; milliseconds a sentence")
    write(arguments.output, {"precision": arguments.precision, "predict": rows})


class _Clock:
    """Adds up the time that a function of a module takes."""

    def __init__(self, module: Any, name: str) -> None:
        self.seconds = 0.0
        self._function: Callable[..., Any] = getattr(module, name)
        setattr(module, name, self._timed)

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return self._function(*args, **kwargs)
        finally:
            self.seconds += time.perf_counter() - start


def _write_inputs(path: Path, arguments: argparse.Namespace) -> None:
    lines = Path(arguments.data).read_text(encoding="utf-8").splitlines()
    texts: List[str] = [line.split("\t")[1] for line in lines]
    with path.open("w", encoding="utf-8") as file:
        for i in range(arguments.sentences):
            file.write(json.dumps({"sentence": texts[i % len(texts)]}) + "\n")


def _row(
    threshold: float,
    seconds: float,
    tokenising: _Clock,
    engine: _Clock,
    arguments: argparse.Namespace,
) -> Dict[str, Any]:
    rest = seconds - tokenising.seconds - engine.seconds
    per_sentence = 1000 / arguments.sentences
    return {
        "threshold": threshold,
        "sentences a second": arguments.sentences / seconds,
        "total": seconds * per_sentence,
        "tokenising": tokenising.seconds * per_sentence,
        "engine": engine.seconds * per_sentence,
        "the rest": rest * per_sentence,
        "engine's share": engine.seconds / seconds,
    }


if __name__ == "__main__":
    main()
