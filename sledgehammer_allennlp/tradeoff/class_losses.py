"""Which classes does early exit cost more than the others?"""

from dataclasses import dataclass
from typing import List, Sequence

import numpy as np
from scipy.stats import hypergeom

from sledgehammer_allennlp.tradeoff.classes import ClassCurve

LEVEL = 0.05
"""How probable it is at most that a class is named where early exit costs all classes the same."""


@dataclass(frozen=True)
class ClassLoss:
    """
    A class that loses clearly more recall than all instances together lose accuracy.

    # Parameters

    label : `str`
    recall, recall_at_one : `float`
        Shares, at the threshold and at threshold 1.
    num_instances : `int`
        Of the class.
    accuracy_drop : `float`
        Of all instances, a share.
    p_value : `float`
        Corrected for the number of classes.
    """

    label: str
    recall: float
    recall_at_one: float
    num_instances: int
    accuracy_drop: float
    p_value: float

    def described(self) -> str:
        """What is lost, without saying where."""
        return (
            f"'{self.label}' {self.recall_at_one:.3f} -> {self.recall:.3f} of "
            f"{self.num_instances:,}"
        )


def class_losses(classes: ClassCurve, row: int, label_names: Sequence[str]) -> List[ClassLoss]:
    """
    The classes that at a row of the curve clearly lose more recall than accuracy drops, the worst
    first. Clearly: if the lost and the gained answers were dealt out to instances at random, the
    class would lose as many, gained ones subtracted, with a probability of at most 5 %, divided by
    the number of classes as Holm 1979 does. It is Fisher's permutation test, exact, of a difference
    of paired outcomes between the class and the others.

    # Parameters

    classes : `ClassCurve`
    row : `int`
    label_names : `Sequence[str]`
        Of each label.
    """
    lost, gained = classes.lost_and_gained(row)
    support = classes.support
    right_at_one = np.diagonal(classes.confusion_at_one)
    total, num_lost, num_gained = int(support.sum()), int(lost.sum()), int(gained.sum())
    present = np.flatnonzero(support)
    p_values = np.array(
        [
            excess_p_value(int(lost[c] - gained[c]), int(support[c]), num_lost, num_gained, total)
            for c in present
        ]
    )
    found = []
    highest = 0.0
    for rank, which in enumerate(p_values.argsort(kind="stable")):
        highest = max(highest, min(1.0, p_values[which] * (len(present) - rank)))
        label = int(present[which])
        if highest > LEVEL:
            break
        if lost[label] <= gained[label]:
            continue
        at_one = right_at_one[label] / support[label]
        found.append(
            ClassLoss(
                label=label_names[label],
                recall=float(at_one - (lost[label] - gained[label]) / support[label]),
                recall_at_one=float(at_one),
                num_instances=int(support[label]),
                accuracy_drop=(num_lost - num_gained) / total,
                p_value=float(highest),
            )
        )
    return sorted(found, key=lambda loss: loss.recall - loss.recall_at_one)


def excess_p_value(
    net_loss: int, num_of_class: int, num_lost: int, num_gained: int, num_instances: int
) -> float:
    """
    How probable it is that a class loses at least so many answers, gained ones subtracted, if those
    that all instances lose and gain are dealt out at random.

    # Parameters

    net_loss : `int`
        Lost minus gained answers of the class.
    num_of_class : `int`
        Of how many instances.
    num_lost, num_gained : `int`
        Of all instances.
    num_instances : `int`
        How many there are.
    """
    lost = np.arange(min(num_of_class, num_lost) + 1)
    chance = hypergeom.pmf(lost, num_instances, num_lost, num_of_class)
    # Of the others, the class has so many, and of them at most lost - net_loss may be gained.
    at_most = hypergeom.cdf(
        lost - net_loss, num_instances - num_lost, num_gained, num_of_class - lost
    )
    return float(min(1.0, np.nansum(chance * at_most)))


def losses_sentence(losses: Sequence[ClassLoss], threshold: str, num_shown: int = 5) -> str:
    """
    Which classes lose more recall at a threshold than accuracy drops, in a sentence; empty if none.

    # Parameters

    losses : `Sequence[ClassLoss]`
    threshold : `str`
        As it is shown.
    num_shown : `int`, optional
        How many are named at most.
    """
    if not losses:
        return ""
    named = ", ".join(loss.described() for loss in losses[:num_shown])
    more = f", and {len(losses) - num_shown} more" if len(losses) > num_shown else ""
    drop = 100 * losses[0].accuracy_drop
    accuracy = "accuracy"
    if drop > 0:
        accuracy += f", which drops by {drop:.2g} point{'s' * (f'{drop:.2g}' != '1')},"
    return (
        f"At threshold {threshold} recall drops clearly more than {accuracy} of: {named}{more}. "
        "--max-recall-drop limits it"
    )
