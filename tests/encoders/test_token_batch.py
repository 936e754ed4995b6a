import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders.token_batch import Layout, Run, TokenBatch, runs_of

CPU = torch.device("cpu")
ids = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=8)


@given(ids=ids, padding=st.integers(0, 3), data=st.data())
def test_padded_texts_lists_and_selections_give_the_same_tokens(ids, padding, data):
    texts = TokenBatch.from_lists(ids, [[i % 2 for i in text] for text in ids])
    length = max(map(len, ids)) + padding
    token_ids = torch.tensor([text + [0] * (length - len(text)) for text in ids])
    padded = TokenBatch.from_padded(token_ids, token_ids > 0, token_ids % 2)
    assert padded.token_ids.tolist() == texts.token_ids.tolist() == [i for t in ids for i in t]
    assert padded.type_ids.tolist() == texts.type_ids.tolist()
    assert padded.lengths.tolist() == texts.lengths.tolist() == [len(text) for text in ids]
    chosen = data.draw(st.lists(st.integers(0, len(ids) - 1), max_size=9))
    selected = texts.select(torch.tensor(chosen, dtype=torch.long))
    assert selected.token_ids.tolist() == [i for k in chosen for i in ids[k]]
    assert selected.lengths.tolist() == [len(ids[k]) for k in chosen]


def test_a_text_without_any_token_gets_one():
    assert TokenBatch.from_lists([[], [5]]).lengths.tolist() == [1, 1]
    none = torch.zeros(2, 0, dtype=torch.long)
    assert TokenBatch.from_padded(none, none.bool(), none).token_ids.tolist() == [0, 0]


@given(lengths=st.lists(st.integers(1, 300), min_size=1, max_size=40).map(sorted))
def test_runs_take_all_texts_and_pad_only_what_is_alike(lengths):
    first = 0
    for run in runs_of(lengths, CPU):
        of_run = lengths[first : first + run.num_texts]
        assert run.is_padded == (len(set(of_run)) > 1)
        assert of_run[-1] <= 2 * of_run[0]
        first += run.num_texts
    assert first == len(lengths)


def test_texts_of_one_length_are_never_padded():
    assert runs_of([7] * 500, CPU) == [Run(500, False)]
    assert runs_of([7] * 3, torch.device("cuda")) == [Run(3, False)]


def test_a_gpu_takes_all_texts_in_one_call():
    assert runs_of([3, 5, 200], torch.device("cuda")) == [Run(3, True)]


@pytest.mark.parametrize("runs", [[Run(3, True)], [Run(1, False)] * 3, None])
def test_padding_and_its_reverse_keep_every_token(runs):
    layout = Layout(torch.tensor([2, 3, 5]), CPU, runs)
    tokens = torch.arange(10.0).unsqueeze(1)
    pieces = tokens.split([segment.num_tokens for segment in layout.segments()])
    found = []
    for segment, piece in zip(layout.segments(), pieces):
        padded = segment.pad(piece)
        assert padded.shape == (segment.num_texts, segment.length, 1)
        found += segment.unpad(padded).flatten().tolist()
    assert found == tokens.flatten().tolist()


def test_where_first_tokens_lie():
    layout = Layout(torch.tensor([2, 1, 3]), CPU)
    assert layout.first_tokens.tolist() == [0, 2, 3]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    is_sorted=st.booleans(),
    with_gradients=st.booleans(),
)
def test_means_and_maxima_are_those_of_each_text(lengths, is_sorted, with_gradients):
    lengths = sorted(lengths) if is_sorted else lengths
    generator = torch.Generator().manual_seed(len(lengths))
    tokens = torch.randn(sum(lengths), 3, generator=generator, requires_grad=with_gradients)
    layout = Layout(torch.tensor(lengths), CPU)
    with torch.set_grad_enabled(with_gradients):
        means, maxima = layout.means(tokens), layout.maxima(tokens)
    texts = tokens.detach().split(lengths)
    torch.testing.assert_close(means, torch.stack([text.mean(0) for text in texts]))
    assert torch.equal(maxima, torch.stack([text.amax(0) for text in texts]))
    if with_gradients:
        (means.sum() + maxima.sum()).backward()
        wanted = [torch.full_like(text, 1 / len(text)) for text in texts]
        for text, gradient in zip(texts, wanted):
            gradient[text == text.amax(0)] += 1
        torch.testing.assert_close(tokens.grad, torch.cat(wanted))


@pytest.mark.parametrize("with_gradients", [True, False])
@pytest.mark.parametrize("lengths", [[600], [1, 600, 7]])
def test_means_of_many_tokens_of_16_bits_are_computed_in_more(lengths, with_gradients):
    with torch.set_grad_enabled(with_gradients):
        tokens = torch.ones(sum(lengths), 2, dtype=torch.bfloat16)
        means = Layout(torch.tensor(lengths), CPU).means(tokens)
    assert means.tolist() == [[1.0, 1.0]] * len(lengths)
