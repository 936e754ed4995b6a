"""Models trained for comparisons, and what their exits give on the test data."""

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import _jsonnet
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.timing import machine
from sledgehammer_allennlp.calibration import expected_calibration_error, max_probabilities
from sledgehammer_allennlp.configs import SETTINGS_FILE
from sledgehammer_allennlp.engine import ExitRule, check_ensemble
from sledgehammer_allennlp.exits import ExitScores
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.files import write_text_whole, write_whole
from sledgehammer_allennlp.tradeoff import TradeoffCurve, tradeoff_curve

VALIDATION_SHARE = 0.25
"""Of the held-out texts: chooses the epoch and fits temperatures. The others are the test data."""


@dataclass(frozen=True)
class Run:
    """
    A model to be trained: `settings` are those of `multi_exit.libsonnet` that differ from the
    default.
    """

    data: str
    method: str
    seed: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        method = self.method.replace(", ", "-").replace(" ", "_").replace("'", "")
        return f"{self.data}-{method}-{self.seed}"


def add_arguments(parser: argparse.ArgumentParser, data_sets: Sequence[str], folder: str) -> None:
    """
    The arguments that all trainings of a benchmark share.

    # Parameters

    parser : `argparse.ArgumentParser`
    data_sets : `Sequence[str]`
        The default of `--data-sets`.
    folder : `str`
        The default of `--output-dir`.
    """
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder of data sets, by default data"
    )
    parser.add_argument(
        "--data-sets",
        nargs="+",
        default=list(data_sets),
        help=f"folders in --data, by default {' '.join(data_sets)}",
    )
    parser.add_argument(
        "--transformer-model",
        default="data/minilm",
        help="by default data/minilm, of 6 layers, which make demo makes",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="by default 1 2")
    parser.add_argument("--max-texts", type=int, help="at most so many of each file")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="by default as many as cores"
    )
    parser.add_argument(
        "--output-dir", type=Path, default=Path(folder), help=f"by default {folder}"
    )


def train_missing(
    arguments: argparse.Namespace,
    runs: Sequence[Run],
    num_training_texts: Mapping[str, int],
    when_trained: Callable[[Run], Any] = lambda run: None,
) -> None:
    """
    Trains what has neither a result nor its summary yet.

    # Parameters

    arguments : `argparse.Namespace`
        Of `add_arguments`.
    runs : `Sequence[Run]`
    num_training_texts : `Mapping[str, int]`
        How many texts of a data set models are trained on, where not all.
    when_trained : `Callable[[Run], Any]`, optional
        Is called with each run that has a result now.
    """
    (arguments.output_dir / "results").mkdir(parents=True, exist_ok=True)
    check_same_settings(arguments, runs, num_training_texts)
    for data in arguments.data_sets:
        prepare_data(arguments, data, num_training_texts.get(data))
    to_do = [
        run
        for run in runs
        if not result_of(arguments, run).exists() and not summary_of(arguments, run).exists()
    ]
    print(f"{len(runs)} models, {len(runs) - len(to_do)} of them trained before")
    train_all(arguments, to_do, when_trained)


def check_same_settings(
    arguments: argparse.Namespace, runs: Sequence[Run], num_training_texts: Mapping[str, int]
) -> None:
    """Refuses to go on with models that were trained otherwise."""
    settings = {
        "data": str(arguments.data),
        "transformer_model": arguments.transformer_model,
        "max_texts": arguments.max_texts,
        "training_texts": dict(num_training_texts),
        "methods": {f"{run.method} on {run.data}": dict(run.settings) for run in runs},
    }
    path = arguments.output_dir / "settings.json"
    before = json.loads(path.read_text()) if path.exists() else settings
    methods = {**before["methods"], **settings["methods"]}
    changed = [name for name in before["methods"] if before["methods"][name] != methods[name]]
    if changed or {**before, "methods": None} != {**settings, "methods": None}:
        raise SystemExit(f"{path} is of other settings than these: wanted another --output-dir")
    settings["methods"] = methods
    write_text_whole(path, json.dumps(settings, indent=1) + "\n")


def prepare_data(
    arguments: argparse.Namespace, data: str, num_training_texts: Optional[int] = None
) -> None:
    """Draws the training texts, and splits what is held out."""
    folder = arguments.output_dir / "data" / data
    if not (arguments.data / data / "train.tsv").exists():
        raise SystemExit(
            f"there is no {arguments.data / data / 'train.tsv'}: wanted another --data, or first: "
            f"python scripts/prepare_datasets.py {data}"
        )
    train = (arguments.data / data / "train.tsv").read_text(encoding="utf-8").splitlines(True)
    held_out = (arguments.data / data / "dev.tsv").read_text(encoding="utf-8").splitlines(True)
    random.Random(0).shuffle(train)
    folder.mkdir(parents=True, exist_ok=True)
    # SNLI's premises come several times in a row and are not to be on both sides.
    num_validation = round(VALIDATION_SHARE * len(held_out))
    parts = {
        "train": train[:num_training_texts],
        "dev": held_out[:num_validation],
        "test": held_out[num_validation:],
    }
    for name, lines in parts.items():
        write_text_whole(folder / f"{name}.tsv", "".join(lines[: arguments.max_texts]))


def result_of(arguments: argparse.Namespace, run: Run) -> Path:
    return arguments.output_dir / "results" / f"{run.name}.npz"


def summary_of(arguments: argparse.Namespace, run: Run) -> Path:
    """The numbers of a result, where a benchmark keeps them, also without the result."""
    return result_of(arguments, run).with_suffix(".json")


def train_all(
    arguments: argparse.Namespace, runs: Sequence[Run], when_trained: Callable[[Run], Any]
) -> None:
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
        for run, seconds in tqdm(jobs, total=len(runs), desc="training"):
            tqdm.write(f"{run.name}: {seconds:.0f} s")
            when_trained(run)


def _be_quiet(num_workers: int) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_workers))
    os.environ["ALLENNLP_LOG_LEVEL"] = "ERROR"
    # Progress bars of the trainings; what fails is raised.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _train(job: Tuple[argparse.Namespace, Run]) -> Tuple[Run, float]:
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
    metrics = json.loads((folder / "metrics.json").read_text())
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
            combination=np.array(model.combination.weights or []),
            costs=np.array(model.exit_costs),
            exit_layers=np.array(model.exit_layers),
            validation_accuracy=np.array(metrics["best_validation_accuracy"]),
            seconds=np.array(seconds),
        ),
    )
    shutil.rmtree(folder)
    return run, seconds


def write_results(
    arguments: argparse.Namespace, name: str, text: str, results: List[Dict[str, Any]]
) -> None:
    """Writes a benchmark's tables and numbers beside what they are of, and prints the tables."""
    folder = arguments.output_dir
    write_text_whole(folder / f"{name}.md", text)
    content = {"machine": machine(), "arguments": vars(arguments), "results": results}
    write_text_whole(folder / f"{name}.json", json.dumps(content, indent=1, default=str) + "\n")
    print(text)
    print(f"Written to {folder}: {name}.md, {name}.json, results/")


def _save(path: Path, **arrays: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def config_of(arguments: argparse.Namespace, run: Run) -> Dict[str, Any]:
    """The config of a run, by the settings of the shipped ones."""
    settings = {
        "dataset": run.data,
        "data_folder": str(arguments.output_dir / "data" / run.data),
        "transformer_model": arguments.transformer_model,
        "seed": run.seed,
        **run.settings,
    }
    return json.loads(_jsonnet.evaluate_snippet(run.name, config_source(settings)))


def config_source(settings: Mapping[str, Any]) -> str:
    """A config in jsonnet, of settings of the shipped ones."""
    hidden = ", ".join(f"{name}:: {json.dumps(value)}" for name, value in settings.items())
    return f"(import {json.dumps(str(SETTINGS_FILE))}) + {{ {hidden} }}"


@dataclass(frozen=True)
class Result:
    """What the exits of a trained model say of the test data."""

    scores: List[ExitScores]
    labels: np.ndarray
    temperatures: torch.Tensor
    combination: Optional[List[List[float]]]
    costs: List[float]
    exit_layers: List[int]
    validation_accuracy: float
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
                file["combination"].tolist() or None,
                file["costs"].tolist(),
                file["exit_layers"].tolist(),
                float(file["validation_accuracy"]),
                float(file["seconds"]),
            )

    def without_first(self) -> "Result":
        """As if there were no exit on n-grams, by temperatures alone."""
        return Result(
            self.scores[1:],
            self.labels,
            self.temperatures[1:],
            None,
            self.costs[1:],
            self.exit_layers[1:],
            self.validation_accuracy,
            self.seconds,
        )

    def without_combination(self) -> "Result":
        """By temperatures alone."""
        return replace(self, combination=None)

    def accuracy_of_exits(self) -> List[float]:
        """Of each exit, if every text exited there."""
        return [
            float((scores.logits.argmax(-1).numpy() == self.labels).mean())
            for scores in self.scores
        ]

    def curve(self, confidence: str, ensemble: Optional[str] = None) -> TradeoffCurve:
        """What every threshold gives with a measure of confidence."""
        return tradeoff_curve(*self.outcomes(confidence, ensemble), self.costs)

    def outcomes(
        self, confidence: str, ensemble: Optional[str] = None
    ) -> Tuple[np.ndarray, np.ndarray]:
        """Of every exit for every text its confidence, and whether it is right."""
        over = check_ensemble(ensemble, len(self.scores))
        rule = ExitRule(
            self.temperatures, confidence_by_name(confidence), 1.0, over, self.combination
        )
        predictions = rule.predict_at_each_exit(self.scores)
        confidences = np.stack([one.confidence.numpy() for one in predictions])
        correct = np.stack([one.logits.argmax(-1).numpy() == self.labels for one in predictions])
        return confidences, correct

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
