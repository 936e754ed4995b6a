"""The engine against a plain computation that shares none of its code."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.engine import cost_of_exits, run_early_exit
from sledgehammer_allennlp.engine.active_instances import ActiveInstances
from sledgehammer_allennlp.engine.chunks import default_token_budget
from sledgehammer_allennlp.exits.confidence import max_probability
from tests.engine.plain_computation import (
    NUM_LABELS,
    Case,
    all_logits,
    assert_equals_plain,
    cases,
    exit_layer_lists,
    last_exits,
    length_lists,
    make_case,
    plain_logits,
    rule,
    thresholds,
    token_budgets,
)
from tests.tiny import (
    FAMILIES_HERE,
    RUNTIMES_HERE,
    random_inputs,
    texts_of,
    tiny_transformer,
)


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(FAMILIES_HERE),
    pooling=st.sampled_from(["mean", "first"]),
    exit_layers=exit_layer_lists,
    last_exit=last_exits,
    with_ngrams=st.booleans(),
    lengths=length_lists,
    threshold=thresholds,
    token_budget=token_budgets,
    temperatures=st.lists(st.floats(0.5, 3), min_size=5, max_size=5).map(torch.tensor),
    with_gradients=st.booleans(),
    runtime=st.sampled_from(RUNTIMES_HERE),
    seed=st.integers(0, 1000),
)
def test_predictions_equal_a_plain_full_computation_and_the_exit_rule(
    family,
    pooling,
    exit_layers,
    last_exit,
    with_ngrams,
    lengths,
    threshold,
    token_budget,
    temperatures,
    with_gradients,
    runtime,
    seed,
):
    case = make_case(family, pooling, exit_layers, with_ngrams, last_exit=last_exit)
    inputs = random_inputs(lengths, seed=seed)
    temperatures = temperatures[: len(exit_layers)]
    with torch.set_grad_enabled(with_gradients):
        output = case.run(inputs, threshold, token_budget, temperatures, runtime)
    assert_equals_plain(case, inputs, output, threshold, temperatures)


@pytest.mark.parametrize("with_ngrams", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "first"])
@torch.no_grad()
def test_all_exits_equal_a_plain_full_computation(family, pooling, with_ngrams):
    case = make_case(family, pooling, [-1, 0, 2, 3], with_ngrams)
    inputs = random_inputs([4, 11, 1, 7])
    found = all_logits(case, inputs)
    np.testing.assert_allclose(found.numpy(), plain_logits(case, *inputs), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    lengths=length_lists,
    threshold=thresholds,
    seed=st.integers(0, 1000),
    padding=st.integers(0, 7),
    with_ngrams=st.booleans(),
    data=st.data(),
)
@torch.no_grad()
def test_a_prediction_does_not_depend_on_batch_order_padding_or_runtime(
    lengths, threshold, seed, padding, with_ngrams, data
):
    case = make_case("bert", "mean", [-1, 0, 1, 3], with_ngrams)
    token_ids, mask, type_ids = inputs = random_inputs(lengths, seed=seed)
    together = case.run(inputs, threshold)
    confidences = torch.stack(
        [
            (logits / temperature).softmax(-1).max(-1).values
            for logits, temperature in zip(all_logits(case, inputs), case.temperatures)
        ]
    )
    assume(bool((confidences - threshold).abs().min() > 1e-4) or threshold in (0, 1))

    order = data.draw(st.permutations(range(len(lengths))))
    padded = [torch.nn.functional.pad(x[list(order)], (0, padding)) for x in inputs]
    runtimes = st.sampled_from(RUNTIMES_HERE)
    shuffled = case.run(padded, threshold, data.draw(token_budgets), runtime=data.draw(runtimes))
    assert shuffled.exit_index.tolist() == together.exit_index[list(order)].tolist()
    torch.testing.assert_close(shuffled.probs, together.probs[list(order)], atol=1e-5, rtol=0)

    for row, length in enumerate(lengths):
        by_itself = [x[row : row + 1, :length] for x in inputs]
        alone = case.run(by_itself, threshold, runtime=data.draw(runtimes))
        assert alone.exit_index.item() == together.exit_index[row]
        torch.testing.assert_close(alone.probs[0], together.probs[row], atol=1e-5, rtol=0)


def _certain(case: Case, exit_index: int) -> None:
    """Makes an exit so sure that its largest probability is exactly 1."""
    with torch.no_grad():
        case.exits.classifiers[exit_index].linear.bias.copy_(torch.tensor([1000.0, 0.0, 0.0]))


@pytest.fixture
def fresh_case():
    cases.clear()
    yield make_case("bert", "mean", [-1, 1, 3])
    cases.clear()


@torch.no_grad()
def test_threshold_one_uses_the_last_exit_even_where_a_probability_is_one(fresh_case):
    _certain(fresh_case, 0)
    inputs = random_inputs([5, 9])
    assert fresh_case.run(inputs, 0.999).exit_index.tolist() == [0, 0]
    assert fresh_case.run(inputs, 0.999).confidence.tolist() == [1.0, 1.0]
    assert fresh_case.run(inputs, 1.0).exit_index.tolist() == [2, 2]


@pytest.mark.parametrize("token_budget", [1, 64])
@torch.no_grad()
def test_a_confidence_equal_to_the_threshold_is_enough(fresh_case, token_budget):
    inputs = random_inputs([5, 9])
    for i, confidence in enumerate(fresh_case.run(inputs, 0.0, token_budget).confidence.tolist()):
        exit_index = fresh_case.run(inputs, confidence, token_budget).exit_index
        assert exit_index[i] == 0
        above = float(np.nextafter(np.float32(confidence), np.float32(1)))
        assert fresh_case.run(inputs, above, token_budget).exit_index[i] > 0


@torch.no_grad()
def test_threshold_zero_uses_the_first_exit_whatever_the_measure(fresh_case):
    inputs = random_inputs([5, 9])
    output = run_early_exit(
        fresh_case.encoder,
        fresh_case.exits,
        rule(fresh_case.temperatures, lambda at_exit: at_exit.probs[:, 0] * 0 - 1e-9, 0.0),
        texts_of(inputs),
    )
    assert output.exit_index.tolist() == [0, 0]
    assert output.confidence.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@torch.no_grad()
def test_logits_that_are_nan_never_count_as_confident(fresh_case, threshold):
    fresh_case.exits.classifiers[0].linear.bias.fill_(float("nan"))
    _certain(fresh_case, 1)
    output = fresh_case.run(random_inputs([5, 9]), threshold)
    assert output.exit_index.tolist() == [1, 1]
    assert torch.isfinite(output.probs).all()


@torch.no_grad()
def test_what_left_is_taken_out_of_the_computation(fresh_case, monkeypatch):
    inputs = random_inputs([4, 12, 5])
    rows = []
    original = fresh_case.encoder.rows

    def spy(i, hidden, hidden_layout, keys_values, layout):
        rows.append((i, hidden.size(0), keys_values[0].size(0)))
        return original(i, hidden, hidden_layout, keys_values, layout)

    monkeypatch.setattr(fresh_case.encoder, "rows", spy)
    # The longest text leaves before layer 0, one of the others after layer 1.
    confidences = iter([[0.1, 0.1, 0.9], [0.9, 0.1], [0.5]])
    run_early_exit(
        fresh_case.encoder,
        fresh_case.exits,
        rule(fresh_case.temperatures, lambda at_exit: torch.tensor(next(confidences)), 0.8),
        texts_of(inputs),
        token_budget=32,
    )
    assert rows == [
        (0, 9, 9),  # two texts, of 4 and 5 tokens
        (1, 2, 9),  # first tokens alone, for the exit
        (1, 5, 5),  # all of the text that stays
        (2, 5, 5),
        (3, 1, 5),  # the last exit never needs more than first tokens
    ]


@pytest.mark.parametrize("leave", [[0, 1, 2], [1], []])
@torch.no_grad()
def test_only_who_stays_at_the_ngram_exit_is_embedded(monkeypatch, leave):
    case = make_case("bert", "mean", [-1, 1, 3], with_ngrams=True)
    token_ids, mask, type_ids = random_inputs([4, 12, 5])
    calls = []
    original = case.encoder.embed

    def spy(texts, for_onnx):
        calls.append([ids.tolist() for ids in texts.token_ids.split(texts.lengths.tolist())])
        return original(texts)

    def no_weights_are_needed():
        assert leave != [0, 1, 2]

    monkeypatch.setattr(case.encoder, "embed", spy)
    monkeypatch.setattr(case.encoder, "prepare", no_weights_are_needed)
    confidences = iter([torch.tensor([0.9 if row in leave else 0.1 for row in range(3)])])
    output = run_early_exit(
        case.encoder,
        case.exits,
        rule(
            case.temperatures,
            lambda at_exit: next(confidences, torch.full((len(at_exit.probs),), 0.5)),
            0.8,
        ),
        texts_of((token_ids, mask, type_ids)),
    )
    lengths = [4, 12, 5]
    stay = sorted((row for row in range(3) if row not in leave), key=lambda row: lengths[row])
    assert calls == ([[token_ids[row, : lengths[row]].tolist() for row in stay]] if stay else [])
    assert output.exit_index.tolist() == [0 if row in leave else 2 for row in range(3)]


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.filterwarnings("ignore:the n-gram exit was never fitted")
@torch.no_grad()
def test_nobody_leaves_at_an_ngram_exit_that_was_not_fitted(threshold):
    case = make_case("bert", "mean", [-1, 1, 3], with_ngrams=True)
    exits = copy.deepcopy(case.exits)
    exits.ngrams.marks[3] = 0
    unfitted = Case(case.encoder, exits, case.library)
    inputs = random_inputs([4, 12, 5])
    assert (unfitted.run(inputs, threshold).exit_index > 0).all()


@torch.no_grad()
def test_at_threshold_one_the_ngram_exit_is_not_asked_for_nothing(monkeypatch):
    case = make_case("bert", "mean", [-1, 1, 3], with_ngrams=True)
    monkeypatch.setattr(case.exits.ngrams, "logits_and_seen_share", None)
    texts = texts_of(random_inputs([4, 12]))
    temperatures = case.temperatures
    output = run_early_exit(
        case.encoder,
        case.exits,
        rule(temperatures, max_probability, 1.0),
        texts,
        record_exits=False,
    )
    assert output.exit_index.tolist() == [2, 2]


@torch.no_grad()
def test_records_list_which_instances_reached_each_exit_and_their_scores(fresh_case):
    inputs = random_inputs([4, 12, 5])
    everything = all_logits(fresh_case, inputs)
    confidences = iter([[0.1, 0.1, 0.9], [0.1, 0.9], [0.5]])
    output = run_early_exit(
        fresh_case.encoder,
        fresh_case.exits,
        rule(fresh_case.temperatures, lambda at_exit: torch.tensor(next(confidences)), 0.8),
        texts_of(inputs),
    )
    assert output.exit_index.tolist() == [2, 0, 1]
    for k, wanted in enumerate([[0, 1, 2], [0, 2], [0]]):
        instances, (logits, *_) = output.exit_records[k]
        assert sorted(instances.tolist()) == wanted
        logits = logits[instances.argsort()]
        torch.testing.assert_close(logits, everything[k][wanted], atol=1e-5, rtol=0)


def test_gradients_flow_through_early_exits(fresh_case):
    output = fresh_case.run(random_inputs([4, 12, 5]), 0.6)
    output.probs.max(-1).values.sum().backward()
    assert fresh_case.encoder.transformer.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_costs_count_full_layers_and_the_first_tokens_share():
    case = make_case("bert", "mean", [-1, 0, 2, 3])
    share = 2 * 32 * 32 / (4 * 32 * 32 + 2 * 32 * 64)
    assert cost_of_exits(case.encoder, case.exits) == [0.0, share, 2 + share, 3 + share]


@torch.no_grad()
def test_texts_longer_than_the_positions_are_answered():
    case = make_case("roberta", "mean", [0, 3])
    output = case.run(random_inputs([200, 3]), 0.9)
    assert output.probs.shape == (2, NUM_LABELS)
    assert torch.isfinite(output.probs).all()


@pytest.mark.parametrize("with_ngrams", [False, True])
@torch.no_grad()
def test_a_batch_of_nothing_has_no_answers(with_ngrams):
    case = make_case("bert", "mean", [-1, 0, 3], with_ngrams)
    empty = [x[:0] for x in random_inputs([5])]
    for threshold in (0.0, 0.5, 1.0):
        assert case.run(empty, threshold).probs.shape == (0, NUM_LABELS)


@pytest.mark.parametrize("threshold", [0.5, 1.0])
@torch.no_grad()
def test_texts_without_any_token_are_answered_alike_alone_and_in_a_batch(threshold):
    case = make_case("bert", "mean", [-1, 0, 3])
    token_ids, mask, type_ids = random_inputs([5, 2])
    mask[1] = False
    token_ids[1] = 0
    together = case.run((token_ids, mask, type_ids * mask), threshold)
    nothing = torch.zeros(1, 0, dtype=torch.long)
    alone = case.run((nothing, nothing.bool(), nothing), threshold)
    torch.testing.assert_close(alone.probs[0], together.probs[1], atol=1e-5, rtol=0)
    assert torch.isfinite(together.probs).all()


@torch.no_grad()
def test_who_stays_of_several_chunks_goes_on_together(fresh_case, monkeypatch):
    inputs = random_inputs([4] * 12)
    chunks = []
    original = fresh_case.encoder.keys_values

    def spy(i, hidden):
        chunks.append((i, hidden.size(0)))
        return original(i, hidden)

    monkeypatch.setattr(fresh_case.encoder, "keys_values", spy)

    def three_of_four_are_sure(at_exit):
        num_texts = len(at_exit.probs)
        return torch.tensor([0.1, 0.9, 0.9, 0.9] if num_texts == 4 else [0.1] * num_texts)

    # Of each chunk of 4 texts, 1 stays; 2 texts are enough to go on.
    run_early_exit(
        fresh_case.encoder,
        fresh_case.exits,
        rule(fresh_case.temperatures, three_of_four_are_sure, 0.8),
        texts_of(inputs),
        token_budget=16,
    )
    assert chunks == [(0, 12), (1, 12), (2, 12), (3, 12)]


@torch.no_grad()
def test_a_chunk_of_few_tokens_runs_whole_layers(fresh_case, monkeypatch):
    with_first_tokens = []
    original = ActiveInstances.run_first_tokens

    def spy(batch, i):
        with_first_tokens.append(i)
        return original(batch, i)

    monkeypatch.setattr(ActiveInstances, "run_first_tokens", spy)
    assert fresh_case.run(random_inputs([4, 6]), 0.9999, None).exit_index.tolist() == [2, 2]
    assert with_first_tokens == [3]  # of the last exit
    with_first_tokens.clear()
    fresh_case.run(random_inputs([4, 6]), 0.9999, token_budget=8)
    assert with_first_tokens[0] < 3


@torch.no_grad()
def test_reached_is_recorded_on_demand_only(fresh_case):
    model = (fresh_case.encoder, fresh_case.exits)
    texts = texts_of(random_inputs([4, 6]))
    for threshold in (0.7, 1.0):
        at_threshold = rule(fresh_case.temperatures, max_probability, threshold)
        assert run_early_exit(*model, at_threshold, texts, record_exits=False).exit_records == []
        reached = run_early_exit(*model, at_threshold, texts).exit_records
        assert sorted(reached[0][0].tolist()) == [0, 1]


@torch.no_grad()
def test_answers_can_be_changed_and_used_with_gradients(fresh_case):
    output = fresh_case.run(random_inputs([4, 6]), 0.7)
    output.probs.mul_(2)
    with torch.enable_grad():
        weight = torch.ones((), requires_grad=True)
        (output.logits * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("runtime", RUNTIMES_HERE)
@pytest.mark.parametrize("lengths", [[3, 4, 5], [5, 4, 3], [4, 4, 4]])
@torch.no_grad()
def test_what_is_no_number_in_one_text_stays_there(lengths, runtime):
    case = make_case("bert", "mean", [-1, 0, 3])
    inputs = random_inputs(lengths)
    wanted = case.run(inputs, 0.6)
    weight = case.encoder.transformer.embeddings.word_embeddings.weight
    for bad in range(3):
        token_ids = inputs[0].clone()
        token_ids[bad, lengths[bad] - 1] = 119
        assert not (inputs[0] == 119).any()
        kept = weight[119].clone()
        weight[119] = float("nan")
        found = case.run((token_ids, *inputs[1:]), 0.6, runtime=runtime)
        weight[119] = kept
        others = [i for i in range(3) if i != bad]
        torch.testing.assert_close(found.probs[others], wanted.probs[others], atol=1e-5, rtol=0)
        assert found.probs[bad].isnan().all()


@pytest.mark.parametrize("threshold", [0.6, 1.0])
@torch.no_grad()
def test_autocast_is_respected(threshold):
    case = make_case("bert", "mean", [-1, 0, 3])
    inputs = random_inputs([5, 9])
    wanted = case.run(inputs, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = case.run(inputs, threshold)
    if threshold == 1.0:
        difference = (found.probs - wanted.probs).abs().max()
        assert 0 < difference < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_a_model_can_be_cast(dtype, pooling, with_gradients):
    case = copy.deepcopy(make_case("bert", pooling, [-1, 0, 3]))
    inputs = random_inputs([5, 9, 9])
    with torch.set_grad_enabled(with_gradients):
        wanted = case.run(inputs, 1.0)
        case.encoder.to(dtype)
        case.exits.to(dtype)
        found = case.run(inputs, 1.0)
        everything = all_logits(case, inputs)
    assert everything.dtype == dtype
    assert (found.logits - wanted.logits).abs().max() < (0.5 if dtype == torch.bfloat16 else 1e-4)
    torch.testing.assert_close(everything[-1].to(found.logits), found.logits, atol=0.1, rtol=0)


@torch.no_grad()
def test_all_exits_of_no_texts():
    case = make_case("bert", "mean", [-1, 0, 3])
    nothing = [x[:0] for x in random_inputs([5])]
    assert all_logits(case, nothing).shape == (3, 0, NUM_LABELS)


@torch.no_grad()
def test_large_batches_equal_single_texts():
    case = make_case("bert", "mean", [-1, 0, 2, 3])
    lengths = [1 + i % 23 for i in range(150)]  # numbers of tokens that are rounded
    inputs = random_inputs(lengths)
    together = case.run(inputs, 0.55, None)
    assert len(set(together.exit_index.tolist())) > 2
    for row in range(0, 150, 7):
        alone = case.run([x[row : row + 1] for x in inputs], 0.55)
        assert alone.exit_index.item() == together.exit_index[row]
        torch.testing.assert_close(alone.probs[0], together.probs[row], atol=1e-5, rtol=0)


def test_the_default_budget_is_by_the_models_size():
    for size, wanted in ((3072, 1024), (1536, 2048)):
        encoder = LayeredEncoder(tiny_transformer("bert", intermediate_size=size))
        assert default_token_budget(encoder) == wanted
