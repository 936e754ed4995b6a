"""Optuna's own pictures of a study."""

import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from sledgehammer_allennlp.files import write_whole

LEAST_TRIALS = 2


def write_plots(study: optuna.Study, metric: str, folder: Path) -> List[str]:
    """
    Writes `optimization_history.png`, `parallel_coordinate.png`, `param_importances.png` and
    `slice.png` into a folder.

    # Returns

    `List[str]`
        What was not written, and why, a line each.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len(complete) < LEAST_TRIALS:
        return [f"no pictures: {len(complete)} complete trials, wanted {LEAST_TRIALS} at least"]
    varied = sorted(
        {name for t in complete for name in t.params if t.params[name] != complete[0].params[name]}
    )
    notes = []
    for name, plot in _plots(varied, metric).items():
        if not varied and name != "optimization_history":
            notes.append(f"no {name}.png: all complete trials have the same parameters")
            continue
        if name == "param_importances" and len({t.value for t in complete}) == 1:
            notes.append(f"no {name}.png: all complete trials have the same {metric}")
            continue
        try:
            _write(plot, study, folder / f"{name}.png")
        except Exception as error:  # no picture is worth losing the summary
            notes.append(f"no {name}.png: {type(error).__name__}: {error}")
    return notes


def _plots(varied: List[str], metric: str) -> Dict[str, Callable[[optuna.Study], Any]]:
    import optuna.visualization.matplotlib as plots

    return {
        "optimization_history": lambda study: plots.plot_optimization_history(
            study, target_name=metric
        ),
        "parallel_coordinate": lambda study: plots.plot_parallel_coordinate(
            study, params=varied, target_name=metric
        ),
        "param_importances": lambda study: plots.plot_param_importances(
            study, params=varied, target_name=metric
        ),
        "slice": lambda study: plots.plot_slice(study, params=varied, target_name=metric),
    }


def _write(plot: Callable[[optuna.Study], Any], study: optuna.Study, path: Path) -> None:
    import matplotlib
    import numpy as np

    with matplotlib.rc_context({"backend": "Agg"}), warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        from matplotlib import pyplot

        axes = plot(study)
        figure = np.atleast_1d(axes).flat[0].figure
        width, height = figure.get_size_inches()
        figure.set_size_inches(max(width, 10), max(height, 5))
        write_whole(
            path,
            lambda beside: figure.savefig(beside, format="png", dpi=150, bbox_inches="tight"),
        )
        pyplot.close(figure)
