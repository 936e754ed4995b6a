"""Is an earlier exit clearly more accurate than the last? Then the layers after it do not pay."""

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np
from scipy.stats import binom

LEVEL = 0.05
"""How probable it is at most that an exit is called better where none is."""


@dataclass(frozen=True)
class BetterExit:
    """
    An exit that is clearly more accurate than the last one.

    # Parameters

    exit_layer : `int`
    accuracy : `float`
        A share.
    last_accuracy : `float`
        Of the last exit.
    num_gained, num_lost : `int`
        How many instances are right here and wrong at the last exit, and the other way round.
    num_instances : `int`
    p_value : `float`
        Corrected for the number of exits that were tested.
    is_first : `bool`
        Whether it is the first exit, at which every instance exits with threshold 0.
    """

    exit_layer: int
    accuracy: float
    last_accuracy: float
    num_gained: int
    num_lost: int
    num_instances: int
    p_value: float
    is_first: bool

    def warning(self, train_longer: str = "Train longer") -> str:
        """
        What is found and what to do, in sentences.

        # Parameters

        train_longer : `str`, optional
            The beginning of a sentence that says for how long, if that is known.
        """
        layer = "before layer 0" if self.exit_layer == -1 else f"after layer {self.exit_layer}"
        instead = (
            "use threshold 0, which is this exit alone"
            if self.is_first
            else f"let {self.exit_layer} be the last of exit_layers"
        )
        return (
            f"The exit {layer} is clearly more accurate than the last one: {self.accuracy:.4f} "
            f"against {self.last_accuracy:.4f} of {self.num_instances:,} instances, p = "
            f"{self.p_value:.2g}. More computation makes answers worse. {train_longer}, take a "
            f"stronger pretrained model, or {instead}."
        )


def find_better_exit(correct: np.ndarray, exit_layers: Sequence[int]) -> Optional[BetterExit]:
    """
    The most accurate of the exits that are clearly more accurate than the last one, of equal ones
    the earliest; `None` if there is none. Clearly: by McNemar's exact test at 5 %, divided by the
    number of exits tested (Bonferroni), so that where no exit is better, one is found in at most 5
    of 100 draws of the data.

    # Parameters

    correct : `np.ndarray`
        `(num_exits, num_instances)`, whether each exit is right, of data that training did not see.
    exit_layers : `Sequence[int]`
        The layer of each exit.

    # Raises

    ValueError
        If there are no instances, or not one layer for each exit.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.ndim != 2 or correct.shape[1] == 0 or len(correct) != len(exit_layers):
        raise ValueError(
            f"found answers of shape {correct.shape} and {len(exit_layers)} layers: wanted "
            "(num_exits, num_instances), at least one instance, and one layer for each exit"
        )
    better = []
    last = correct[-1]
    for number, (exit_layer, here) in enumerate(zip(exit_layers[:-1], correct)):
        gained, lost = int((here & ~last).sum()), int((last & ~here).sum())
        p_value = min(1.0, (len(correct) - 1) * mcnemar_p_value(gained, lost))
        if p_value <= LEVEL:
            better.append(
                BetterExit(
                    exit_layer=exit_layer,
                    accuracy=float(here.mean()),
                    last_accuracy=float(last.mean()),
                    num_gained=gained,
                    num_lost=lost,
                    num_instances=correct.shape[1],
                    p_value=p_value,
                    is_first=number == 0,
                )
            )
    return max(better, key=lambda exit_: exit_.num_gained - exit_.num_lost, default=None)


def mcnemar_p_value(num_gained: int, num_lost: int) -> float:
    """
    The exact one-sided p-value of "no more is gained than lost" (McNemar 1947): how probable it is
    that of the answers that differ at least `num_gained` are gained, if each is gained or lost with
    the same probability.
    """
    return float(binom.sf(num_gained - 1, num_gained + num_lost, 0.5))
