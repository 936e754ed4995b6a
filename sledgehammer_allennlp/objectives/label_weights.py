"""How much the instances of each label count in training."""

from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from sledgehammer_allennlp.values import is_number, short_repr

BALANCED = "balanced"
"""The setting with which all labels count the same, however many instances they have."""

_NUM_NAMED = 5


def check_label_weights(
    setting: Any, label_names: Sequence[str]
) -> Optional[Union[str, List[float]]]:
    """
    The setting `label_weights`: `None`, `"balanced"`, or the weights in the order of the labels.

    # Parameters

    setting
        `None`, `"balanced"`, or a positive number for each label's name.
    label_names : `Sequence[str]`

    # Raises

    ValueError
        If it is something else, or names other labels than the model's.
    """
    if setting is None or setting == BALANCED:
        return setting
    if not isinstance(setting, dict):
        raise ValueError(
            f"label_weights is {short_repr(setting)}: wanted null, 'balanced', or a weight for "
            "each label"
        )
    unknown = [name for name in setting if name not in label_names]
    missing = [name for name in label_names if name not in setting]
    for names, problem in ((unknown, "labels that the data has not"), (missing, "no weight for")):
        if names:
            more = ", ..." if len(names) > _NUM_NAMED else ""
            raise ValueError(
                f"label_weights has {problem}: {', '.join(names[:_NUM_NAMED])}{more}: wanted a "
                f"weight for each of {len(label_names)} labels, and no others"
            )
    for name, weight in setting.items():
        if not is_number(weight) or not 0 < weight < float("inf"):
            raise ValueError(
                f"label_weights.{name} is {short_repr(weight)}: wanted a number above 0"
            )
    return [float(setting[name]) for name in label_names]


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """
    Weights with which all labels that occur count the same, and an instance in the mean 1
    (scikit-learn's `class_weight="balanced"`); 1 for labels that do not occur.

    # Parameters

    counts : `np.ndarray`
        `(num_labels,)`, how many instances have each label.
    """
    counts = np.asarray(counts, dtype=np.float64)
    occurs = counts > 0
    return np.where(occurs, counts.sum() / np.maximum(occurs.sum() * counts, 1), 1.0)


def described(weights: Sequence[float], label_names: Sequence[str]) -> str:
    """The weights in a line: the smallest and the largest, if there are many."""
    by_weight: Dict[str, float] = dict(sorted(zip(label_names, weights), key=lambda one: one[1]))
    parts = [f"{name} {weight:.3g}" for name, weight in by_weight.items()]
    if len(parts) > 2 * _NUM_NAMED:
        parts = [*parts[:_NUM_NAMED], "...", *parts[-_NUM_NAMED:]]
    return ", ".join(parts)
