from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binom

from sledgehammer_allennlp.tradeoff.class_losses import (
    LEVEL,
    class_losses,
    excess_p_value,
    losses_sentence,
)
from sledgehammer_allennlp.tradeoff.classes import class_curve
from sledgehammer_allennlp.tradeoff.curve import tradeoff_curve


def classes_of(labels, first, last):
    """Two exits, of which the first is taken by all below threshold 1."""
    answers = np.stack([first, last])
    confidences = np.ones(answers.shape)
    curve = tradeoff_curve(confidences, answers == labels, [1, 2])
    return class_curve(curve, confidences, answers, labels, int(labels.max()) + 1)


def test_the_p_value_is_that_of_all_ways_to_deal_out_what_is_lost_and_gained():
    outcomes = [1, 1, 1, -1, 0, 0, 0]
    for num_of_class in (1, 2, 3, 6):
        dealt = [sum(order[:num_of_class]) for order in permutations(outcomes)]
        for net_loss in range(-1, 4):
            wanted = np.mean([one >= net_loss for one in dealt])
            found = excess_p_value(net_loss, num_of_class, 3, 1, 7)
            assert found == pytest.approx(wanted, abs=1e-12)


def test_a_class_that_pays_for_the_others_is_named_with_its_recall():
    labels = np.repeat([0, 1, 2], [400, 400, 80])
    last = labels.copy()
    last[:40] = 1  # wrong at the last exit
    first = last.copy()
    first[:30] = 0  # gained
    first[-20:] = 0  # a quarter of label 2 is lost
    (loss,) = class_losses(classes_of(labels, first, last), 0, ["a", "b", "c"])
    assert (loss.label, loss.num_instances) == ("c", 80)
    assert (loss.recall, loss.recall_at_one) == (0.75, 1.0)
    assert loss.accuracy_drop == pytest.approx(-10 / 880)
    assert losses_sentence([loss], "0") == (
        "At threshold 0 recall drops clearly more than accuracy of: 'c' 1.000 -> 0.750 of 80. "
        "--max-recall-drop limits it"
    )
    assert losses_sentence([], "0") == ""
    assert class_losses(classes_of(labels, last, last), 0, ["a", "b", "c"]) == []
    assert class_losses(classes_of(labels, first, last), 1, ["a", "b", "c"]) == []


def test_a_class_that_loses_as_all_do_is_named_in_few_draws():
    rng = np.random.default_rng(0)
    num_draws, found = 300, 0
    for _ in range(num_draws):
        labels = rng.choice(6, size=600, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
        first = np.where(rng.uniform(size=600) < 0.1, (labels + 1) % 6, labels)
        found += class_losses(classes_of(labels, first, labels), 0, list("abcdef")) != []
    assert found <= binom.isf(1e-4, num_draws, LEVEL)


def test_of_many_classes_few_are_named():
    labels = np.repeat(np.arange(8), 300)
    first = np.where((labels < 7) & (np.arange(2400) % 2 == 0), 7, labels)
    first[labels == 7] = 7
    losses = class_losses(classes_of(labels, first, labels), 0, list("abcdefgh"))
    assert [loss.label for loss in losses] == sorted(loss.label for loss in losses)
    # All seven lose half, which is more than accuracy does, but not clearly.
    assert losses == []
    first = np.where(labels < 4, first, labels)
    losses = class_losses(classes_of(labels, first, labels), 0, list("abcdefgh"))
    assert [loss.label for loss in losses] == list("abcd")
    assert "drops by 25 points, of: 'a'" in losses_sentence(losses, "0.5", num_shown=2)
    assert ", and 2 more. " in losses_sentence(losses, "0.5", num_shown=2)
