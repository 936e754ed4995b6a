import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import entropy as scipy_entropy

from sledgehammer_allennlp.exits import confidence
from sledgehammer_allennlp.exits.confidence import AtExit

PROBS = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]])


def at_exit(probs, earlier=(), num_exits=5, correctness=None):
    return AtExit(probs, len(earlier), num_exits, [*earlier, probs], correctness)


def measured(name, *args, **kwargs):
    return confidence.confidence_by_name(name)(at_exit(*args, **kwargs)).tolist()


def one_hot(*labels):
    return torch.nn.functional.one_hot(torch.tensor(labels), 3).float()


def test_max_probability_is_the_largest():
    assert measured("max_probability", PROBS) == pytest.approx([0.5, 0.9])


def test_margin_is_between_the_two_largest():
    assert measured("margin", PROBS) == pytest.approx([0.2, 0.85])


def test_entropy_is_one_minus_scipys_over_the_largest_possible():
    wanted = 1 - scipy_entropy(PROBS.numpy(), axis=1) / np.log(3)
    assert measured("entropy", PROBS) == pytest.approx(wanted, abs=1e-6)
    assert measured("entropy", torch.full((1, 4), 0.25)) == pytest.approx([0.0], abs=1e-6)
    assert measured("entropy", one_hot(1)) == [1.0]


def test_patience_is_the_share_of_exits_in_a_row_that_agreed():
    # By hand, for texts whose exits so far gave the labels 0 0 1 1, 1 0 0 0, 0 1 2 0, 2 2 2 2.
    earlier = [one_hot(0, 1, 0, 2), one_hot(0, 0, 1, 2), one_hot(1, 0, 2, 2)]
    assert measured("patience", one_hot(1, 0, 0, 2), earlier) == [0.25, 0.5, 0.0, 0.75]
    assert measured("patience", one_hot(1, 2)) == [0.0, 0.0]
    assert measured("patience", one_hot(1), num_exits=1) == [0.0]


@given(st.lists(st.integers(0, 2), min_size=2, max_size=8), st.integers(1, 7))
def test_patience_leaves_where_the_counter_of_pabee_is_full(labels, needed):
    num_exits = len(labels)
    needed = min(needed, num_exits - 1)
    counter, wanted = 0, num_exits - 1
    for k in range(1, num_exits):
        counter = counter + 1 if labels[k] == labels[k - 1] else 0
        if counter == needed:
            wanted = k
            break
    threshold = needed / (num_exits - 1)
    probs = [one_hot(label) for label in labels]
    found = next(
        k
        for k in range(num_exits)
        if k == num_exits - 1
        or measured("patience", probs[k], probs[:k], num_exits)[0] >= np.float32(threshold)
    )
    assert found == wanted


def test_learned_is_what_the_head_says_and_without_one_the_largest_probability():
    correctness = torch.tensor([0.3, 0.8])
    assert measured("learned", PROBS, correctness=correctness) == pytest.approx([0.3, 0.8])
    assert measured("learned", PROBS) == pytest.approx([0.5, 0.9])


def test_an_exit_that_says_nan_agrees_with_none():
    nan = torch.full((2, 3), math.nan)
    assert measured("patience", one_hot(0, 1), [nan]) == [0.0, 0.0]
    assert measured("patience", one_hot(0, 1), [one_hot(0, 1), nan, one_hot(0, 1)]) == [0.25, 0.25]


PROBABILITIES = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-500, 500)
)


@pytest.mark.parametrize("name", ["max_probability", "entropy", "margin", "patience"])
@given(PROBABILITIES)
def test_every_measure_is_in_the_unit_interval(name, logits):
    probs = torch.from_numpy(logits).float().softmax(-1)
    assert all(0 <= value <= 1 for value in measured(name, probs, [probs, probs]))


@pytest.mark.parametrize("name", confidence.available_confidences())
def test_what_is_no_number_is_never_confident(name):
    probs = torch.tensor([[math.nan, math.nan, math.nan], [0.1, 0.8, 0.1]])
    broken, sound = measured(name, probs, [probs], correctness=torch.tensor([0.9, 0.9]))
    assert math.isnan(broken) and 0 <= sound <= 1


@pytest.mark.parametrize("name", ["max_probability", "entropy", "margin"])
def test_with_two_labels_all_measures_of_probabilities_order_texts_alike(name):
    probs = torch.tensor([[0.5, 0.5], [0.3, 0.7], [0.85, 0.15], [0.01, 0.99]])
    assert measured(name, probs) == sorted(measured(name, probs))


def test_an_unknown_measure_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'sureness': wanted one of .*max_probability"):
        confidence.confidence_by_name("sureness")


def test_a_measure_can_be_registered_once(monkeypatch):
    monkeypatch.setattr(confidence, "_MEASURES", dict(confidence._MEASURES))

    @confidence.register_confidence("least")
    def least(at_exit):
        return at_exit.probs.min(-1).values

    assert measured("least", PROBS) == pytest.approx([0.2, 0.05])
    assert "least" in confidence.available_confidences()
    with pytest.raises(ValueError, match="'least' is registered already"):
        confidence.register_confidence("least")(least)
