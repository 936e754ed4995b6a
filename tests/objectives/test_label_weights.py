import numpy as np
import pytest

from sledgehammer_allennlp.objectives.label_weights import (
    balanced_weights,
    check_label_weights,
    described,
)

compute_class_weight = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight


def test_balanced_weights_are_scikit_learns_and_one_in_the_mean():
    labels = np.repeat([0, 1, 3], [70, 20, 10])
    counts = np.bincount(labels, minlength=5)
    weights = balanced_weights(counts)
    wanted = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    np.testing.assert_allclose(weights[[0, 1, 3]], wanted)
    assert weights[2] == weights[4] == 1
    assert (weights[labels]).mean() == pytest.approx(1)


def test_weights_are_put_into_the_order_of_the_labels():
    assert check_label_weights({"b": 2, "a": 0.5}, ["a", "b"]) == [0.5, 2.0]
    assert check_label_weights(None, ["a"]) is None
    assert check_label_weights("balanced", ["a"]) == "balanced"


@pytest.mark.parametrize(
    "setting, message",
    [
        ("even", "label_weights is 'even': wanted null, 'balanced', or a weight for"),
        ([1, 2], r"label_weights is \[1, 2\]: wanted null"),
        ({"a": 1}, "has no weight for: b: wanted a weight for each of 2 labels"),
        ({"a": 1, "b": 1, "c": 1}, "has labels that the data has not: c: wanted"),
        ({"a": 0, "b": 1}, "label_weights.a is 0: wanted a number above 0"),
        ({"a": 1, "b": True}, "label_weights.b is True: wanted a number above 0"),
        ({"a": 1, "b": float("inf")}, "label_weights.b is inf: wanted a number above 0"),
    ],
)
def test_other_weights_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        check_label_weights(setting, ["a", "b"])


def test_many_weights_are_described_by_the_smallest_and_the_largest():
    assert described([1.5, 0.5], ["a", "b"]) == "b 0.5, a 1.5"
    text = described(range(1, 101), [f"l{k}" for k in range(1, 101)])
    assert text == "l1 1, l2 2, l3 3, l4 4, l5 5, ..., l96 96, l97 97, l98 98, l99 99, l100 100"
