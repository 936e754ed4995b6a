import pytest
import torch

from sledgehammer_allennlp.exits import ExitClassifiers
from sledgehammer_allennlp.exits.alignment import (
    Alignment,
    PairLayout,
)

CPU = torch.device("cpu")


def aligned(alignment: Alignment, *pairs: "tuple[torch.Tensor, torch.Tensor]") -> torch.Tensor:
    """The output for pairs of hidden states of words, each `(num_words, hidden_size)`."""
    hidden, sides, lengths = [], [], []
    for first, second in pairs:
        special = torch.randn(1, first.size(1))
        hidden += [special, first, special, second, special]
        sides += [0] + [1] * len(first) + [0] + [2] * len(second) + [0]
        lengths.append(len(first) + len(second) + 3)
    layout = PairLayout(torch.tensor(sides), torch.tensor(lengths), CPU)
    return alignment(torch.cat(hidden), layout)


@pytest.fixture
def alignment() -> Alignment:
    torch.manual_seed(0)
    return Alignment(8, 5, 0.1).eval()


@torch.no_grad()
def test_the_texts_of_a_pair_can_change_places(alignment):
    first, second = torch.randn(4, 8), torch.randn(2, 8)
    one, other = aligned(alignment, (first, second)), aligned(alignment, (second, first))
    torch.testing.assert_close(one, torch.cat([other[:, 10:], other[:, :10]], 1))


@torch.no_grad()
def test_words_are_a_set(alignment):
    first, second = torch.randn(4, 8), torch.randn(3, 8)
    turned = aligned(alignment, (first.flip(0), second.roll(1, 0)))
    torch.testing.assert_close(turned, aligned(alignment, (first, second)))


@torch.no_grad()
def test_with_large_scale_a_word_is_compared_with_itself_in_a_copy(alignment):
    alignment.scale.fill_(1e5)
    # Of vectors of one length, each has its largest product with itself.
    alignment.project.weight.copy_(torch.eye(8)[:5])
    text = torch.eye(8)[:5]
    z = alignment.project(alignment.norm(text))
    wanted = alignment.compare(torch.cat([z, z * 0, z * z], -1)).relu()
    found = aligned(alignment, (text, text.flip(0)))
    torch.testing.assert_close(found[0, :5], wanted.mean(0))
    torch.testing.assert_close(found[0, 5:10], wanted.amax(0))


@torch.no_grad()
def test_an_empty_text_gives_zeros_and_nothing_to_match(alignment):
    text, nothing = torch.randn(3, 8), torch.zeros(0, 8)
    z = alignment.project(alignment.norm(text))
    alone = alignment.compare(torch.cat([z, z, z * 0], -1)).relu()
    wanted = torch.cat([alone.mean(0), alone.amax(0), torch.zeros(10)])
    together = aligned(alignment, (text, nothing), (text, text), (nothing, nothing))
    torch.testing.assert_close(together[0], wanted)
    torch.testing.assert_close(aligned(alignment, (text, nothing))[0], wanted)
    assert together[2].tolist() == [0.0] * 20
    assert aligned(alignment, (nothing, nothing)).tolist() == [[0.0] * 20]


def test_nothing_is_infinite_where_texts_are_empty(alignment):
    text, nothing = torch.randn(3, 8, requires_grad=True), torch.zeros(0, 8)
    found = aligned(alignment, (nothing, nothing), (text, nothing), (nothing, text))
    found.square().sum().backward()
    for parameter in alignment.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert text.grad.isfinite().all() and text.grad.any()


def test_weights_start_so_that_projections_have_unit_variance():
    torch.manual_seed(0)
    alignment = Alignment(384, 128, 0.1)
    z = alignment.project(alignment.norm(torch.randn(2000, 384) * 7))
    assert z.var().item() == pytest.approx(1, abs=0.05)
    assert alignment.scale.item() == 8


def test_an_exit_has_the_parameters_it_is_said_to_have():
    without = ExitClassifiers([1], 384, 3, "mean", 0.1)
    exits = ExitClassifiers([1], 384, 3, "mean", 0.1, alignment=128)
    projections = 384 * 128 + 384 * 128 + (2 * 384 + 512) * 128
    found = sum(p.numel() for p in exits.classifiers[0].parameters() if p.dim() == 2)
    assert found == projections + 128 * 3
    assert sum(p.numel() for p in without.classifiers[0].parameters() if p.dim() == 2) == 768 * 3


@pytest.mark.parametrize(
    "trained, asked, message",
    [
        (4, None, "of alignment 4, and the config asks for null"),
        (None, 4, "of alignment null, and the config asks for 4"),
        (4, 5, "of alignment 4, and the config asks for 5"),
    ],
)
def test_weights_of_another_alignment_are_refused_with_what_there_is(trained, asked, message):
    state = ExitClassifiers([-1, 1], 8, 2, "mean", 0.0, alignment=trained).state_dict()
    exits = ExitClassifiers([-1, 1], 8, 2, "mean", 0.0, alignment=asked)
    with pytest.raises(RuntimeError, match=f"{message}: alignment cannot be changed after train"):
        exits.load_state_dict(state)


@pytest.mark.parametrize("weights", [torch.zeros(()), "zeros"])
def test_weights_of_another_shape_are_refused(weights):
    exits = ExitClassifiers([1], 8, 2, "mean", 0.0, alignment=4)
    state = exits.state_dict()
    state["classifiers.0.alignment.project.weight"] = weights
    with pytest.raises(RuntimeError, match="of alignment null, and the config asks for 4"):
        exits.load_state_dict(state)
