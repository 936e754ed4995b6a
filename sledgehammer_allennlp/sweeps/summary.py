"""What a sweep found: every configuration with mean and standard deviation over its seeds."""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, Optional

import optuna
from optuna.trial import FrozenTrial, TrialState

from sledgehammer_allennlp.files import write_text_whole
from sledgehammer_allennlp.sweeps.search_space import Value, as_printed, as_text, key_of
from sledgehammer_allennlp.sweeps.training_run import ARCHIVE_FILE
from sledgehammer_allennlp.sweeps.trial_queue import is_given_back
from sledgehammer_allennlp.tradeoff.results import aligned

CSV_FILE = "summary.csv"
JSON_FILE = "summary.json"


@dataclass
class ConfigurationResult:
    """
    # Parameters

    parameters : `Dict[str, Value]`
        Those that were searched.
    trials : `List[FrozenTrial]`
        With one seed each, whatever became of them.
    """

    parameters: Dict[str, Value]
    trials: List[FrozenTrial] = field(default_factory=list)

    def of_state(self, state: TrialState) -> List[FrozenTrial]:
        """The trials that are in a state."""
        return [trial for trial in self.trials if trial.state == state]

    @property
    def values(self) -> List[float]:
        """The metric of each complete trial."""
        return [
            trial.value for trial in self.of_state(TrialState.COMPLETE) if trial.value is not None
        ]

    @property
    def mean(self) -> Optional[float]:
        """Of the metric over the complete trials, `None` if there are none."""
        return mean(self.values) if self.values else None

    @property
    def standard_deviation(self) -> Optional[float]:
        """That of a sample, with n - 1; `None` for fewer than two values."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass
class SweepSummary:
    """
    # Parameters

    study_name : `str`
    metric : `str`
    direction : `str`
        "maximize" or "minimize".
    fixed : `Dict[str, Value]`
        The parameters that are the same in all runs.
    configurations : `List[ConfigurationResult]`
        Best mean first; those without any complete trial last.
    folder : `Path`
        Where the runs are.
    """

    study_name: str
    metric: str
    direction: str
    fixed: Dict[str, Value]
    configurations: List[ConfigurationResult]
    folder: Path

    def count(self, state: TrialState) -> int:
        """How many trials are in a state."""
        return sum(len(c.of_state(state)) for c in self.configurations)

    def best_trial(self) -> Optional[FrozenTrial]:
        """The best trial of the best configuration."""
        if not self.configurations or not self.configurations[0].values:
            return None
        sign = -1 if self.direction == "maximize" else 1
        complete = self.configurations[0].of_state(TrialState.COMPLETE)
        return min(complete, key=lambda trial: sign * (trial.value or 0.0))

    def tied_with_best(self) -> List[ConfigurationResult]:
        """The other configurations with the mean of the best, as far as it is printed."""
        best, *others = self.configurations or [ConfigurationResult({})]
        return [
            other
            for other in others
            if other.mean is not None and _digits(other.mean) == _digits(best.mean)
        ]

    def archive_of(self, trial: FrozenTrial) -> Path:
        """The trained model of a trial."""
        return run_folder(self.folder, trial.number) / ARCHIVE_FILE


def run_folder(folder: Path, number: int) -> Path:
    """The folder of one trial's run."""
    return folder / f"trial_{number}"


def summarise(
    study: optuna.Study, metric: str, fixed: Dict[str, Value], folder: Path
) -> SweepSummary:
    """Groups the trials of a study by their configurations."""
    groups: Dict[str, ConfigurationResult] = {}
    for trial in study.get_trials(deepcopy=False):
        if "configuration" in trial.user_attrs and not is_given_back(trial):
            configuration = trial.user_attrs["configuration"]
            result = groups.setdefault(key_of(configuration), ConfigurationResult(configuration))
            result.trials.append(trial)
    direction = study.direction.name.lower()
    sign = -1 if direction == "maximize" else 1

    def rank(result: ConfigurationResult) -> Any:
        return (result.mean is None, sign * (result.mean or 0.0))

    return SweepSummary(
        study_name=study.study_name,
        metric=metric,
        direction=direction,
        fixed=fixed,
        configurations=sorted(groups.values(), key=rank),
        folder=folder,
    )


def write_summary(summary: SweepSummary) -> None:
    """Writes `summary.csv` and `summary.json` into the folder of the runs."""
    write_text_whole(summary.folder / CSV_FILE, _as_csv(summary))
    write_text_whole(summary.folder / JSON_FILE, json.dumps(_as_json(summary), indent=2) + "\n")


def table(summary: SweepSummary) -> str:
    """What is printed: one line for each configuration, best first."""
    names = _names(summary)
    rows = [[*names, "seeds", "mean", "deviation", "pruned", "failed", "not done"]]
    for result in summary.configurations:
        rows.append(
            [
                *(as_printed(result.parameters)[name] for name in names),
                str(len(result.values)),
                _digits(result.mean),
                _digits(result.standard_deviation),
                str(len(result.of_state(TrialState.PRUNED))),
                str(len(result.of_state(TrialState.FAIL))),
                str(sum(not trial.state.is_finished() for trial in result.trials)),
            ]
        )
    return aligned(rows)


def _names(summary: SweepSummary) -> List[str]:
    return sorted({name for result in summary.configurations for name in result.parameters})


def _digits(number: Optional[float]) -> str:
    return "" if number is None else f"{number:.4f}"


def _as_csv(summary: SweepSummary) -> str:
    written = io.StringIO()
    names = _names(summary)
    columns = ["num_seeds", "mean", "standard_deviation", "num_pruned", "num_failed"]
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([*names, *columns])
    for result in summary.configurations:
        row = _numbers(result)
        cells = ["" if row[column] is None else row[column] for column in columns]
        writer.writerow([*(as_text(result.parameters.get(name)) for name in names), *cells])
    return written.getvalue()


def _numbers(result: ConfigurationResult) -> Dict[str, Any]:
    return {
        "num_seeds": len(result.values),
        "mean": result.mean,
        "standard_deviation": result.standard_deviation,
        "num_pruned": len(result.of_state(TrialState.PRUNED)),
        "num_failed": len(result.of_state(TrialState.FAIL)),
    }


def _as_json(summary: SweepSummary) -> Dict[str, Any]:
    best = summary.best_trial()
    return {
        "study_name": summary.study_name,
        "metric": summary.metric,
        "direction": summary.direction,
        "fixed_parameters": summary.fixed,
        "num_complete": summary.count(TrialState.COMPLETE),
        "num_pruned": summary.count(TrialState.PRUNED),
        "num_failed": summary.count(TrialState.FAIL),
        "num_running": summary.count(TrialState.RUNNING),
        "num_tied_with_best": len(summary.tied_with_best()),
        "best": None
        if best is None
        else {**_trial_as_json(summary, best), "archive": str(summary.archive_of(best))},
        "configurations": [
            {
                "parameters": result.parameters,
                **_numbers(result),
                "trials": [
                    _trial_as_json(summary, trial)
                    for trial in result.trials
                    if trial.state != TrialState.WAITING
                ],
            }
            for result in summary.configurations
        ],
    }


def _trial_as_json(summary: SweepSummary, trial: FrozenTrial) -> Dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "seed": trial.user_attrs["seed"],
        "metric": trial.value if trial.state == TrialState.COMPLETE else None,
        "folder": str(run_folder(summary.folder, trial.number)),
        **({"error": trial.user_attrs["error"]} if "error" in trial.user_attrs else {}),
    }
