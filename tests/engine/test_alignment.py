"""Exits with an alignment, in the engine, against a plain computation pair by pair."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.engine import cost_of_exits, run_early_exit, run_exits
from sledgehammer_allennlp.exits.alignment import Alignment
from sledgehammer_allennlp.exits.confidence import max_probability
from tests.engine.pairs import (
    BY_ONE_SEPARATOR,
    BY_TWO_SEPARATORS,
    BY_TYPE_IDS,
    PAIRS,
    SIZE,
    inputs_of,
    make_pair_case,
    pair_lists,
)
from tests.engine.plain_computation import (
    assert_autocast_is_respected,
    assert_can_be_cast,
    assert_equals_plain,
    assert_training_pass_equals_plain,
    assume_confidences_are_not_at,
    exit_layer_lists,
    last_exits,
    make_case,
    rule,
    thresholds,
    token_budgets,
)
from tests.tiny import RUNTIMES_HERE, texts_of


@settings(max_examples=80, deadline=None)
@given(
    special_tokens=st.sampled_from([BY_TYPE_IDS, BY_ONE_SEPARATOR, BY_TWO_SEPARATORS]),
    family=st.sampled_from(["bert", "roberta"]),
    pooling=st.sampled_from(["mean", "first"]),
    exit_layers=exit_layer_lists,
    last_exit=last_exits,
    with_ngrams=st.booleans(),
    use_previous_logits=st.booleans(),
    given_pairs=pair_lists,
    threshold=thresholds,
    token_budget=token_budgets,
    with_gradients=st.booleans(),
    runtime=st.sampled_from(RUNTIMES_HERE),
)
def test_predictions_equal_a_plain_computation(
    special_tokens,
    family,
    pooling,
    exit_layers,
    last_exit,
    with_ngrams,
    use_previous_logits,
    given_pairs,
    threshold,
    token_budget,
    with_gradients,
    runtime,
):
    case = make_pair_case(
        family,
        pooling,
        exit_layers,
        special_tokens,
        with_ngrams=with_ngrams,
        use_previous_logits=use_previous_logits,
        last_exit=last_exit,
    )
    inputs = inputs_of(given_pairs, special_tokens)
    with torch.set_grad_enabled(with_gradients):
        output = case.run(inputs, threshold, token_budget, runtime=runtime)
    assert_equals_plain(case, inputs, output, threshold, case.temperatures)


@pytest.mark.parametrize("special_tokens", [BY_TYPE_IDS, BY_ONE_SEPARATOR, BY_TWO_SEPARATORS])
@pytest.mark.parametrize("pooling", ["mean", "first"])
@torch.no_grad()
def test_the_training_pass_equals_a_plain_computation(pooling, special_tokens):
    case = make_pair_case(pooling=pooling, special_tokens=special_tokens, with_correctness=True)
    inputs = inputs_of(PAIRS, special_tokens)
    assert_training_pass_equals_plain(case, inputs)


@settings(max_examples=30, deadline=None)
@given(given_pairs=pair_lists, threshold=thresholds, budget=token_budgets, data=st.data())
@torch.no_grad()
def test_a_prediction_does_not_depend_on_company_or_order(given_pairs, threshold, budget, data):
    case = make_pair_case()
    together = case.run(inputs_of(given_pairs, BY_TYPE_IDS), threshold)
    order = data.draw(st.permutations(range(len(given_pairs))))
    shuffled = case.run(
        inputs_of([given_pairs[i] for i in order], BY_TYPE_IDS), threshold, token_budget=budget
    )
    assume_confidences_are_not_at(threshold, case, inputs_of(given_pairs, BY_TYPE_IDS))
    assert shuffled.exit_index.tolist() == together.exit_index[list(order)].tolist()
    torch.testing.assert_close(shuffled.probs, together.probs[list(order)], atol=1e-5, rtol=0)
    for row, pair in enumerate(given_pairs):
        runtime = data.draw(st.sampled_from(RUNTIMES_HERE))
        alone = case.run(inputs_of([pair], BY_TYPE_IDS), threshold, runtime=runtime)
        assert alone.exit_index.item() == together.exit_index[row]
        torch.testing.assert_close(alone.probs[0], together.probs[row], atol=1e-5, rtol=0)


@torch.no_grad()
def test_several_pairs_make_no_session_of_onnx_runtime_unless_it_is_asked_for():
    case = make_pair_case()
    case.encoder.forget_layout()
    case.run(inputs_of(PAIRS[:3], BY_TYPE_IDS), 1.0, runtime="auto")
    assert len(case.encoder._inference._sessions) == 0


@torch.no_grad()
def test_what_is_no_number_in_one_pair_stays_there():
    case = make_pair_case(exit_layers=[-1, 0, 3])
    wanted = case.run(inputs_of(PAIRS, BY_TYPE_IDS), 1.0)
    weight = case.encoder.transformer.embeddings.word_embeddings.weight
    for bad, (text, second) in enumerate(PAIRS):
        changed = list(PAIRS)
        changed[bad] = (text, [119]) if bad % 2 else ([119], second)
        kept = weight[119].clone()
        weight[119] = float("nan")
        found = case.run(inputs_of(changed, BY_TYPE_IDS), 1.0)
        weight[119] = kept
        others = [i for i in range(len(PAIRS)) if i != bad]
        torch.testing.assert_close(found.probs[others], wanted.probs[others], atol=1e-5, rtol=0)
        assert found.probs[bad].isnan().all()


@pytest.mark.parametrize("encoder_learns", [True, False])
def test_alignments_learn_whether_or_not_the_encoder_does(encoder_learns):
    case = copy.deepcopy(make_pair_case(exit_layers=[-1, 0, 2]))
    texts = texts_of(inputs_of(PAIRS, BY_TYPE_IDS))
    scores = run_exits(case.encoder, case.exits, texts, encoder_learns=encoder_learns)
    sum(one.logits.square().sum() for one in scores.values()).backward()
    without = [n for n, p in case.exits.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in case.exits.parameters())
    embeddings = case.encoder.transformer.embeddings.word_embeddings.weight
    assert (embeddings.grad is not None) == encoder_learns


@pytest.mark.parametrize("record_exits, wanted", [(False, 1), (True, 3)])
@torch.no_grad()
def test_only_alignments_whose_scores_are_needed_are_computed(monkeypatch, record_exits, wanted):
    case = make_pair_case(exit_layers=[-1, 1, 3])
    calls = []
    original = Alignment.forward
    monkeypatch.setattr(
        Alignment, "forward", lambda self, *x: calls.append(self) or original(self, *x)
    )
    run_early_exit(
        case.encoder,
        case.exits,
        rule(case.temperatures, max_probability, 1.0),
        texts_of(inputs_of(PAIRS, BY_TYPE_IDS)),
        record_exits=record_exits,
    )
    assert len(calls) == wanted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_a_model_with_alignments_can_be_cast(dtype, with_gradients):
    case = copy.deepcopy(make_pair_case())
    inputs = inputs_of(PAIRS, BY_TYPE_IDS)
    assert_can_be_cast(case, inputs, dtype, with_gradients)
    assert case.exits.pair_texts.special_tokens.tolist() == list(BY_TYPE_IDS)


def test_alignments_cost_for_everything_that_reaches_their_exit():
    without = make_case("bert", "mean", [-1, 0, 2, 3])
    case = make_pair_case()
    share = (32 * SIZE + 3 * SIZE * SIZE) / (4 * 32 * 32 + 2 * 32 * 64)
    before = cost_of_exits(without.encoder, without.exits)
    wanted = [cost + (k + 1) * share for k, cost in enumerate(before)]
    assert cost_of_exits(case.encoder, case.exits) == pytest.approx(wanted)
    ngrams = make_pair_case(with_ngrams=True)
    wanted = [cost + k * share for k, cost in enumerate(before)]
    assert cost_of_exits(ngrams.encoder, ngrams.exits) == pytest.approx(wanted)


@pytest.mark.parametrize("with_gradients", [True, False])
def test_autocast_is_respected(with_gradients):
    case = make_pair_case()
    inputs = inputs_of(PAIRS, BY_TYPE_IDS)
    assert_autocast_is_respected(case, inputs, with_gradients)
