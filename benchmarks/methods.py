"""
What the methods of early exit give, on the same data, weights and code: every training objective,
with every measure of confidence. Trains small models on parts of the data; what is done is kept,
so that an interrupted run goes on when it is started again.

Writes what every exit says of the test data, `results/*.npz`, and the tables, `methods.md` and
`methods.json`.
"""

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import _jsonnet
import numpy as np
import torch
from scipy.integrate import trapezoid
from tqdm import tqdm

from benchmarks.timing import machine
from sledgehammer_allennlp.calibration import expected_calibration_error, max_probabilities
from sledgehammer_allennlp.configs import SETTINGS_FILE
from sledgehammer_allennlp.engine import ExitRule, check_ensemble
from sledgehammer_allennlp.exits import ExitScores
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.files import write_text_whole, write_whole
from sledgehammer_allennlp.tradeoff import TradeoffCurve, tradeoff_curve

TRAINING_TEXTS = {"sst2": 4000, "ag_news": 2000, "snli": 4000}
VALIDATION_SHARE = 0.25
"""Of the held-out texts: chooses the epoch and fits temperatures. The others are the test data."""

METHODS: Dict[str, Dict[str, Any]] = {
    "joint": {},
    "sampled": {"loss": "sampled"},
    "weighted": {"loss": "weighted"},
    "self_distillation": {"loss": "self_distillation"},
    # An epoch for the transformer, as with the others, and one for the exits.
    "two_stage": {"loss": "two_stage", "num_epochs": 2},
    "alternating": {"loss": "alternating"},
    "joint, pooling first": {"pooling": "first"},
    "joint, one learning rate": {"exit_learning_rate": 5e-5, "embedding_learning_rate": 5e-5},
    "joint, previous logits": {"use_previous_logits": True},
}
MEASURES = ("max_probability", "entropy", "margin", "patience", "learned")
RULES = (*MEASURES, "max_probability, ensemble")
"""Measures, and one of them with answers averaged over the exits reached."""
SPEED_UPS = (1.5, 2.0, 3.0, 4.0)
NUM_LAYERS = 6
"""Speed-ups are over so many full layers."""


@dataclass(frozen=True)
class Run:
    """A model to be trained."""

    data: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.method.replace(', ', '-').replace(' ', '_')}-{self.seed}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of data sets, by default data"
    )
    parser.add_argument(
        "--data-sets",
        nargs="+",
        default=list(TRAINING_TEXTS),
        help=f"folders in --data, by default {' '.join(TRAINING_TEXTS)}",
    )
    parser.add_argument(
        "--transformer-model",
        default="data/minilm",
        help=f"of {NUM_LAYERS} layers, by default data/minilm, which make demo makes",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=list(METHODS),
        choices=list(METHODS),
        metavar="METHOD",
        help=f"by default all: {', '.join(map(repr, METHODS))}",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="by default 1 2")
    parser.add_argument("--max-texts", type=int, help="at most so many of each file")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="by default as many as cores"
    )
    parser.add_argument(
        "--output-dir", type=Path, default=Path("runs/methods"), help="by default runs/methods"
    )
    arguments = parser.parse_args()
    (arguments.output_dir / "results").mkdir(parents=True, exist_ok=True)
    check_same_settings(arguments)
    for data in arguments.data_sets:
        prepare_data(arguments, data)
    runs = [
        Run(data, method, seed)
        for seed in arguments.seeds
        for method in arguments.methods
        for data in arguments.data_sets
    ]
    to_do = [run for run in runs if not result_of(arguments, run).exists()]
    print(f"{len(runs)} models, {len(runs) - len(to_do)} of them trained before")
    train_all(arguments, to_do)
    results = [summary(arguments, run) for run in runs]
    text = tables(results)
    write_text_whole(arguments.output_dir / "methods.md", text)
    content = {"machine": machine(), "arguments": vars(arguments), "results": results}
    write_text_whole(
        arguments.output_dir / "methods.json", json.dumps(content, indent=1, default=str) + "\n"
    )
    print(text)
    print(f"Written to {arguments.output_dir}: methods.md, methods.json, results/*.npz")


def check_same_settings(arguments: argparse.Namespace) -> None:
    """Refuses to go on with models that were trained otherwise."""
    settings = {
        "data": str(arguments.data),
        "transformer_model": arguments.transformer_model,
        "max_texts": arguments.max_texts,
        "training_texts": TRAINING_TEXTS,
        "methods": METHODS,
    }
    path = arguments.output_dir / "settings.json"
    if path.exists() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{path} is of other settings than these: wanted another --output-dir")
    write_text_whole(path, json.dumps(settings, indent=1) + "\n")


def prepare_data(arguments: argparse.Namespace, data: str) -> None:
    """Draws the training texts, and splits what is held out."""
    folder = arguments.output_dir / "data" / data
    if not (arguments.data / data / "train.tsv").exists():
        raise SystemExit(
            f"there is no {arguments.data / data / 'train.tsv'}: wanted another --data, or first: "
            f"python scripts/prepare_datasets.py {' '.join(TRAINING_TEXTS)}"
        )
    train = (arguments.data / data / "train.tsv").read_text(encoding="utf-8").splitlines(True)
    held_out = (arguments.data / data / "dev.tsv").read_text(encoding="utf-8").splitlines(True)
    random.Random(0).shuffle(train)
    folder.mkdir(parents=True, exist_ok=True)
    # SNLI's premises come several times in a row and are not to be on both sides.
    num_validation = round(VALIDATION_SHARE * len(held_out))
    parts = {
        "train": train[: TRAINING_TEXTS.get(data)],
        "dev": held_out[:num_validation],
        "test": held_out[num_validation:],
    }
    for name, lines in parts.items():
        write_text_whole(folder / f"{name}.tsv", "".join(lines[: arguments.max_texts]))


def result_of(arguments: argparse.Namespace, run: Run) -> Path:
    return arguments.output_dir / "results" / f"{run.name}.npz"


def train_all(arguments: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Several at once, with one thread each: small models gain little from more."""
    if not runs:
        return
    # Not forked: threads do not survive that.
    with multiprocessing.get_context("spawn").Pool(
        arguments.workers,
        initializer=_be_quiet,
        initargs=(arguments.workers,),
        maxtasksperchild=6,  # so that memory does not add up
    ) as pool:
        jobs = pool.imap_unordered(_train, [(arguments, run) for run in runs])
        for name, seconds in tqdm(jobs, total=len(runs), desc="training"):
            tqdm.write(f"{name}: {seconds:.0f} s")


def _be_quiet(num_workers: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_workers))
    os.environ["ALLENNLP_LOG_LEVEL"] = "ERROR"
    # Progress bars of the trainings; what fails is raised.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _train(job: Tuple[argparse.Namespace, Run]) -> Tuple[str, float]:
    """Trains one model, and keeps what its exits say of the test data."""
    from allennlp.commands.train import train_model
    from allennlp.common import Params
    from allennlp.data import DatasetReader
    from allennlp.data.data_loaders import SimpleDataLoader

    from sledgehammer_allennlp.models import MultiExitClassifier
    from sledgehammer_allennlp.training.full_depth import run_at_full_depth

    arguments, run = job
    start = time.perf_counter()
    logging.disable(logging.WARNING)
    folder = arguments.output_dir / "models" / run.name
    params = Params(config_of(arguments, run))
    reader_params = params.get("dataset_reader").duplicate()
    model = train_model(params, str(folder), force=True, file_friendly_logging=True)
    assert isinstance(model, MultiExitClassifier)
    reader = DatasetReader.from_params(reader_params)
    instances = list(reader.read(arguments.output_dir / "data" / run.data / "test.tsv"))
    found = run_at_full_depth(
        model, SimpleDataLoader(instances, 128, vocab=model.vocab), torch.device("cpu")
    )
    nothing = np.full(len(found.labels), np.nan, dtype=np.float32)
    seconds = time.perf_counter() - start
    write_whole(
        result_of(arguments, run),
        lambda beside: _save(
            beside,
            logits=found.logits,
            correctness=np.stack([nothing if c is None else c for c in found.correctness]),
            labels=found.labels,
            temperatures=model.temperatures.numpy(),
            costs=np.array(model.exit_costs),
            exit_layers=np.array(model.exit_layers),
            seconds=np.array(seconds),
        ),
    )
    shutil.rmtree(folder)
    return run.name, seconds


def _save(path: Path, **arrays: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def config_of(arguments: argparse.Namespace, run: Run) -> Dict[str, Any]:
    """The config of a run, by the settings of the shipped ones."""
    settings = {
        "dataset": run.data,
        "data_folder": str(arguments.output_dir / "data" / run.data),
        "transformer_model": arguments.transformer_model,
        "exit_layers": "all",
        # Heads, that any measure can be used afterwards. Nothing else learns from them.
        "confidence": "learned",
        "batch_size": 16,
        "num_epochs": 1,
        "seed": run.seed,
        **METHODS[run.method],
    }
    hidden = ", ".join(f"{name}:: {json.dumps(value)}" for name, value in settings.items())
    source = f"(import {json.dumps(str(SETTINGS_FILE))}) + {{ {hidden} }}"
    return json.loads(_jsonnet.evaluate_snippet(run.name, source))


@dataclass(frozen=True)
class Result:
    """What the exits of a trained model say of the test data."""

    scores: List[ExitScores]
    labels: np.ndarray
    temperatures: torch.Tensor
    costs: List[float]
    exit_layers: List[int]
    seconds: float

    @classmethod
    def read(cls, path: Path) -> "Result":
        with np.load(path) as file:
            correctness = torch.from_numpy(file["correctness"])
            scores = [
                ExitScores(logits, None if learned.isnan().all() else learned)
                for logits, learned in zip(torch.from_numpy(file["logits"]), correctness)
            ]
            return cls(
                scores,
                file["labels"],
                torch.from_numpy(file["temperatures"]),
                file["costs"].tolist(),
                file["exit_layers"].tolist(),
                float(file["seconds"]),
            )

    def without_first(self) -> "Result":
        """As if there were no exit on n-grams."""
        return Result(
            self.scores[1:],
            self.labels,
            self.temperatures[1:],
            self.costs[1:],
            self.exit_layers[1:],
            self.seconds,
        )

    def curve(self, confidence: str, ensemble: Optional[str] = None) -> TradeoffCurve:
        """What every threshold gives with a measure of confidence."""
        over = check_ensemble(ensemble, len(self.scores))
        rule = ExitRule(self.temperatures, confidence_by_name(confidence), 1.0, over)
        predictions = rule.predict_at_each_exit(self.scores)
        return tradeoff_curve(
            np.stack([one.confidence.numpy() for one in predictions]),
            np.stack([one.logits.argmax(-1).numpy() == self.labels for one in predictions]),
            self.costs,
        )

    def calibration_error(self) -> float:
        """The mean over exits, after temperature."""
        errors = []
        for scores, temperature in zip(self.scores, self.temperatures.tolist()):
            logits = scores.logits.numpy()
            errors.append(
                expected_calibration_error(
                    max_probabilities(logits, temperature), logits.argmax(1) == self.labels
                )
            )
        return float(np.mean(errors))


def accuracy_at(curve: TradeoffCurve, layer_equivalents: float) -> float:
    """
    The accuracy at a mean cost. Between thresholds, as if a share of the texts was run at the one
    and the others at the other: measures with few values have few thresholds.
    """
    return float(np.interp(layer_equivalents, curve.layer_equivalents, curve.accuracy))


def mean_accuracy(curve: TradeoffCurve) -> float:
    """The area under accuracy over cost, from the first exit's to the last's, over its width."""
    costs = curve.layer_equivalents
    width = costs[-1] - costs[0]
    return float(trapezoid(curve.accuracy, costs) / width)


def summary(arguments: argparse.Namespace, run: Run) -> Dict[str, Any]:
    """All numbers of one trained model."""
    result = Result.read(result_of(arguments, run))
    numbers: Dict[str, Any] = {
        "data": run.data,
        "method": run.method,
        "seed": run.seed,
        "seconds": result.seconds,
        "exit_layers": result.exit_layers,
        "accuracy_of_exits": [
            float((scores.logits.argmax(-1).numpy() == result.labels).mean())
            for scores in result.scores
        ],
        "num_test_texts": len(result.labels),
        "calibration_error": result.without_first().calibration_error(),
        "rules": {},
    }
    sees_ngrams = METHODS[run.method].get("use_previous_logits", False)
    for ngrams, exits in (("with", result), ("without", result.without_first())):
        if ngrams == "without" and sees_ngrams:
            continue
        for name in RULES:
            measure, _, averaged = name.partition(", ")
            curve = exits.curve(measure, "reached" if averaged else None)
            numbers["rules"][f"{name}, {ngrams} n-grams"] = {
                "mean_accuracy": mean_accuracy(curve),
                **{
                    f"accuracy_at_{speed_up:g}x": accuracy_at(curve, NUM_LAYERS / speed_up)
                    for speed_up in SPEED_UPS
                },
            }
    return numbers


def tables(results: List[Dict[str, Any]]) -> str:
    """The tables, in Markdown: means over seeds."""
    shown = Shown(results)
    lines: List[str] = []
    for ngrams in ("without", "with"):
        lines += [f"## Early exit {ngrams} the exit on n-grams", ""]
        lines += shown.areas(ngrams)
        for rule in RULES:
            lines += shown.accuracies(f"{rule}, {ngrams} n-grams")
    lines += shown.exits()
    return "\n".join(lines)


class Shown:
    """Results as lines of Markdown."""

    def __init__(self, results: List[Dict[str, Any]]) -> None:
        self.data_sets = list(dict.fromkeys(result["data"] for result in results))
        self.methods = list(dict.fromkeys(result["method"] for result in results))
        self.results = results

    def areas(self, ngrams: str) -> List[str]:
        """A row for each loss, a column for each rule."""
        rows = []
        for method in self.methods:
            cells = [
                [
                    _with_spread([one["mean_accuracy"] for one in found])
                    for data in self.data_sets
                    if (found := self._of_rule(data, method, f"{rule}, {ngrams} n-grams"))
                ]
                for rule in RULES
            ]
            if all(cells):
                rows.append([method, *(" / ".join(cell) for cell in cells)])
        return [
            "Mean accuracy over all budgets, from the first exit's to the last's, in percent, of "
            f"{' / '.join(self.data_sets)}; ± is the standard deviation over seeds.",
            "",
            *_table(["loss", *RULES], rows),
        ]

    def accuracies(self, rule: str) -> List[str]:
        """A row for each loss, a column for each data set."""
        rows = []
        for method in self.methods:
            cells = []
            for data in self.data_sets:
                found = self._of_rule(data, method, rule)
                at = [
                    statistics.mean(one[f"accuracy_at_{speed_up:g}x"] for one in found)
                    for speed_up in SPEED_UPS
                    if found
                ]
                cells.append(" ".join(map(_percent, at)))
            if all(cells):
                rows.append([method, *cells])
        return [
            f"{rule}: accuracy at {', '.join(f'{speed_up:g}×' for speed_up in SPEED_UPS)} fewer "
            f"layer-equivalents than {NUM_LAYERS} full layers.",
            "",
            *_table(["loss", *self.data_sets], rows),
        ]

    def exits(self) -> List[str]:
        """How good each exit is."""
        rows = []
        for method in self.methods:
            cells = []
            for data in self.data_sets:
                found = self._of(data, method)
                exits = np.mean([one["accuracy_of_exits"] for one in found], axis=0)
                error = statistics.mean(one["calibration_error"] for one in found)
                seconds = statistics.mean(one["seconds"] for one in found)
                shown = " ".join(map(_percent, exits))
                cells.append(f"{shown}; {error:.3f}; {seconds:.0f} s")
            rows.append([method, *cells])
        return [
            "## The exits",
            "",
            "Accuracy of each, from the one on n-grams to the last; mean calibration error of all "
            "but the one on n-grams, after temperature (15 bins); seconds to train and evaluate.",
            "",
            *_table(["loss", *self.data_sets], rows),
        ]

    def _of(self, data: str, method: str) -> List[Dict[str, Any]]:
        return [one for one in self.results if (one["data"], one["method"]) == (data, method)]

    def _of_rule(self, data: str, method: str, rule: str) -> List[Dict[str, float]]:
        found = self._of(data, method)
        return [one["rules"][rule] for one in found if rule in one["rules"]]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """With an empty line after it."""
    lines = [header, ["---"] * len(header), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _with_spread(shares: List[float]) -> str:
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{_percent(statistics.mean(shares))}{spread}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
