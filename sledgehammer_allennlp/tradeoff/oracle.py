"""What early exit could give, with a rule that knows which exits are right."""

from dataclasses import dataclass
from typing import List, Sequence

import numpy as np


@dataclass(frozen=True)
class OraclePoint:
    """
    What an oracle gives that may use the exits up to one of them, `exit_index`.

    # Parameters

    exit_index : `int`
    accuracy, layer_equivalents : `float`
        Of the oracle.
    accuracy_of_exit, layer_equivalents_of_exit : `float`
        Of this exit alone, without early exit.
    """

    exit_index: int
    accuracy: float
    layer_equivalents: float
    accuracy_of_exit: float
    layer_equivalents_of_exit: float


def cheapest_right_exit(correct: np.ndarray) -> np.ndarray:
    """
    The first exit that is right for each instance, and the first of all where none is, since no
    computation would help (the oracle of Schwartz et al. 2020, figure 1).

    # Parameters

    correct : `np.ndarray`
        `(num_exits, num_instances)`, whether each exit is right.

    # Returns

    `np.ndarray`
        `(num_instances,)`, exits counted from 0.
    """
    return correct.argmax(axis=0)


def oracle_curve(correct: np.ndarray, costs: Sequence[float]) -> List[OraclePoint]:
    """
    The oracle with ever more exits to choose from.

    # Parameters

    correct : `np.ndarray`
        `(num_exits, num_instances)`, whether each exit is right.
    costs : `Sequence[float]`
        Layer-equivalents of exiting at each exit.
    """
    points = []
    for k, cost in enumerate(costs):
        chosen = cheapest_right_exit(correct[: k + 1])
        points.append(
            OraclePoint(
                exit_index=k,
                accuracy=float(correct[: k + 1].any(axis=0).mean()),
                layer_equivalents=float(np.asarray(costs)[chosen].mean()),
                accuracy_of_exit=float(correct[k].mean()),
                layer_equivalents_of_exit=float(cost),
            )
        )
    return points
