"""What exits see of each token."""

import pytest
import torch

from sledgehammer_allennlp.encoders.token_batch import Layout
from sledgehammer_allennlp.exits import ExitClassifiers, build_encoder_and_exits
from sledgehammer_allennlp.exits.token_features import TokenFeatures
from sledgehammer_allennlp.ngrams import NgramClassifier


@pytest.mark.parametrize("with_gradients", [True, False])
def test_mean_and_maximum_are_of_the_tokens_of_each_text(with_gradients):
    features = TokenFeatures(3, 3)
    with torch.no_grad():
        features.project.weight.copy_(torch.eye(3))
        features.project.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    hidden = torch.tensor([[1.0, -1, 0], [4, 2, -3], [3, -3, 1], [-8, -8, -8]])
    with torch.set_grad_enabled(with_gradients):
        found = features(hidden, Layout(torch.tensor([1, 3]), torch.device("cpu")))
    third = 7 / 3, 2 / 3, 2 / 3
    assert found[0].tolist() == [1, 0, 1, 1, 0, 1]
    assert found[1].tolist() == pytest.approx([*third, 4, 2, 2])


def test_features_of_normalized_states_have_about_unit_variance_before_relu():
    torch.manual_seed(0)
    features = TokenFeatures(384, 128)
    assert features.project(torch.randn(2000, 384)).var().item() == pytest.approx(1, abs=0.05)


def test_an_exit_has_the_parameters_it_is_said_to_have():
    exits = ExitClassifiers([0, 1], 384, 3, "mean", 0.1, None, token_features=128)
    for classifier in exits.classifiers:
        found = sum(p.numel() for p in classifier.parameters() if p.dim() == 2)
        assert found == 384 * 128 + (2 * 384 + 2 * 128) * 128 + 128 * 3


def test_a_last_exit_that_sees_its_first_token_alone_has_none():
    settings = dict(token_features=4, last_exit="first_token")
    exits = ExitClassifiers([-1, 0, 1], 8, 2, "mean", 0.0, **settings)
    assert [exits.sees_tokens_at(k) for k in range(3)] == [True, True, False]
    assert [name for name in exits.state_dict() if name.startswith("classifiers.2")] == [
        "classifiers.2.norm.weight",
        "classifiers.2.norm.bias",
        "classifiers.2.linear.weight",
        "classifiers.2.linear.bias",
    ]


@pytest.mark.parametrize("exit_layers, ngrams", [([1], None), ([-1, 1], NgramClassifier(2))])
def test_exits_of_which_none_sees_means_load_their_own_weights(exit_layers, ngrams):
    settings = dict(token_features=4, last_exit="first_token", ngrams=ngrams)
    exits, others = (ExitClassifiers(exit_layers, 8, 2, "mean", 0.0, **settings) for _ in range(2))
    assert exits.token_features is None
    assert not any(map(exits.sees_tokens_at, range(len(exit_layers))))
    others.load_state_dict(exits.state_dict())


def test_they_are_of_no_effect_with_the_papers_pooling():
    given, without = (
        ExitClassifiers([0, 1], 8, 2, "first", 0.0, add_pooler=True, token_features=size)
        for size in (4, None)
    )
    assert given.token_features is None and not given.sees_tokens_at(0)
    assert list(given.state_dict()) == list(without.state_dict())


@pytest.mark.parametrize(
    "trained, asked, message",
    [
        (4, None, "of token_features 4, and the config asks for null"),
        (None, 4, "of token_features null, and the config asks for 4"),
        (4, 5, "of token_features 4, and the config asks for 5"),
    ],
)
def test_weights_of_other_features_are_refused_with_what_there_is(trained, asked, message):
    state = ExitClassifiers([-1, 1], 8, 2, "mean", 0.0, token_features=trained).state_dict()
    exits = ExitClassifiers([-1, 1], 8, 2, "mean", 0.0, token_features=asked)
    with pytest.raises(RuntimeError, match=f"{message}: token_features cannot be changed after"):
        exits.load_state_dict(state)


def test_they_are_not_for_exits_with_an_alignment(tiny_bert):
    with pytest.raises(ValueError, match="token_features is 8 and alignment is 4, which has feat"):
        build_encoder_and_exits(tiny_bert, 2, alignment=4, token_features=8)
