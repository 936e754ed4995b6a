import pytest
import torch

from sledgehammer_allennlp.exits import ExitClassifiers
from sledgehammer_allennlp.ngrams import NgramClassifier


def test_every_exit_mixes_one_vector_from_each_layer_up_to_its_own():
    for pooling in ("mean", "first"):
        exits = ExitClassifiers([-1, 0, 1, 3], 8, 2, pooling, 0.0)
        sizes = [None if c.mix.weights is None else len(c.mix.weights) for c in exits.classifiers]
        assert sizes == [None, None, 2, 4]


def test_every_parameter_of_every_exit_is_trained():
    exits = ExitClassifiers([-1, 0, 2], 8, 2, "first", 0.0, add_pooler=True)
    firsts = [torch.randn(5, 8) for _ in range(3)]
    pooled = [exits.pooler(first) for first in firsts]
    loss = exits.score(0, [torch.randn(5, 8)], None).logits.square().sum()
    for k, n in ((1, 1), (2, 3)):
        loss = loss + exits.score(k, pooled[:n], firsts[n - 1]).logits.square().sum()
    loss.backward()
    without = [n for n, p in exits.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_only_the_direction_of_the_mix_counts():
    exits = ExitClassifiers([2], 8, 2, "first", 0.0)
    vectors = [torch.randn(4, 8) for _ in range(3)]
    before = exits.score(0, vectors, None).logits
    with torch.no_grad():
        exits.classifiers[0].mix.weights.mul_(7)
    torch.testing.assert_close(exits.score(0, vectors, None).logits, before)


@pytest.mark.parametrize("pooling, size", [("mean", 16), ("first", 8)])
def test_mean_pooling_sees_the_first_token_beside_the_mix(pooling, size):
    exits = ExitClassifiers([-1, 1], 8, 2, pooling, 0.0)
    assert exits.classifiers[0].linear.in_features == 8
    assert exits.classifiers[1].linear.in_features == size


@pytest.mark.parametrize("pooling, size", [("mean", 8), ("first", 8)])
def test_the_last_exit_can_see_its_first_token_alone(pooling, size):
    exits = ExitClassifiers([-1, 0, 1], 8, 2, pooling, 0.0, last_exit="first_token")
    assert exits.classifiers[2].linear.in_features == size
    # With pooling "first", all exits see first tokens, mixed; only the last of "mean" has no mix.
    assert (exits.classifiers[2].mix is None) == (pooling == "mean")
    assert exits.classifiers[1].mix is not None


def test_what_the_last_exit_sees_cannot_be_changed_after_training():
    state = ExitClassifiers([-1, 1], 8, 2, "mean", 0.0).state_dict()
    exits = ExitClassifiers([-1, 1], 8, 2, "mean", 0.0, last_exit="first_token")
    message = (
        "sees 16 numbers, and the config asks for one that sees 8: last_exit cannot be changed"
    )
    with pytest.raises(RuntimeError, match=message):
        exits.load_state_dict(state)


def _exits(layers, with_ngrams):
    ngrams = NgramClassifier(2, num_buckets=64) if with_ngrams else None
    return ExitClassifiers(layers, 8, 2, "mean", 0.1, ngrams=ngrams)


@pytest.mark.parametrize(
    "layers, with_ngrams, asked",
    [([0, 1], False, "2 exits"), ([-1, 0, 1], False, "3 exits"), ([-1, 1], True, "2 exits, the f")],
)
def test_weights_of_other_exits_are_refused_with_what_there_is(layers, with_ngrams, asked):
    state = _exits([-1, 0, 1], True).state_dict()
    message = f"are of 3 exits, the first over n-grams, and the config asks for {asked}"
    with pytest.raises(RuntimeError, match=message):
        _exits(layers, with_ngrams).load_state_dict(state)
    _exits([-1, 0, 1], True).load_state_dict(state)


@pytest.mark.parametrize("wrong", [torch.tensor(float("nan")), torch.tensor(5.0), torch.ones(3)])
def test_a_default_threshold_that_cannot_be_is_refused(wrong):
    exits = ExitClassifiers([1], 8, 2, "mean", 0.0)
    state = {**exits.state_dict(), "_extra_state": wrong}
    with pytest.raises(ValueError, match="default threshold .*: wanted a number from 0 to 1"):
        exits.load_state_dict(state)
