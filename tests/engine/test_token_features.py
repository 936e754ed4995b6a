"""Exits with token features, in the engine, against a plain computation text by text."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.engine import cost_of_exits, run_early_exit, run_exits
from sledgehammer_allennlp.exits.confidence import max_probability
from sledgehammer_allennlp.exits.token_features import TokenFeatures
from tests.engine.plain_computation import (
    assert_autocast_is_respected,
    assert_can_be_cast,
    assert_equals_plain,
    assert_training_pass_equals_plain,
    assume_confidences_are_not_at,
    exit_layer_lists,
    last_exits,
    length_lists,
    make_case,
    rule,
    thresholds,
    token_budgets,
)
from tests.tiny import FAMILIES_HERE, RUNTIMES_HERE, random_inputs, texts_of

SIZE = 6
LENGTHS = [3, 1, 20, 7, 7, 12]


def make_features_case(family="bert", exit_layers=(-1, 0, 2, 3), **settings):
    return make_case(family, "mean", list(exit_layers), token_features=SIZE, **settings)


@settings(max_examples=80, deadline=None)
@given(
    family=st.sampled_from(FAMILIES_HERE),
    exit_layers=exit_layer_lists,
    last_exit=last_exits,
    with_ngrams=st.booleans(),
    use_previous_logits=st.booleans(),
    lengths=length_lists,
    threshold=thresholds,
    token_budget=token_budgets,
    with_gradients=st.booleans(),
    runtime=st.sampled_from(RUNTIMES_HERE),
)
def test_predictions_equal_a_plain_computation(
    family,
    exit_layers,
    last_exit,
    with_ngrams,
    use_previous_logits,
    lengths,
    threshold,
    token_budget,
    with_gradients,
    runtime,
):
    case = make_features_case(
        family,
        exit_layers,
        with_ngrams=with_ngrams,
        use_previous_logits=use_previous_logits,
        last_exit=last_exit,
    )
    inputs = random_inputs(lengths)
    with torch.set_grad_enabled(with_gradients):
        output = case.run(inputs, threshold, token_budget, runtime=runtime)
    assert_equals_plain(case, inputs, output, threshold, case.temperatures)


@pytest.mark.parametrize("last_exit", [None, "first_token"])
@torch.no_grad()
def test_the_training_pass_equals_a_plain_computation(last_exit):
    case = make_features_case(last_exit=last_exit, with_correctness=True)
    inputs = random_inputs(LENGTHS)
    assert_training_pass_equals_plain(case, inputs)


@settings(max_examples=30, deadline=None)
@given(lengths=length_lists, threshold=thresholds, data=st.data())
@torch.no_grad()
def test_a_prediction_does_not_depend_on_company(lengths, threshold, data):
    case = make_features_case()
    inputs = random_inputs(lengths)
    together = case.run(inputs, threshold)
    assume_confidences_are_not_at(threshold, case, inputs)
    for row in range(len(lengths)):
        runtime = data.draw(st.sampled_from(RUNTIMES_HERE))
        alone = case.run([part[row : row + 1] for part in inputs], threshold, runtime=runtime)
        assert alone.exit_index.item() == together.exit_index[row]
        torch.testing.assert_close(alone.probs[0], together.probs[row], atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_is_no_number_in_one_text_stays_there():
    case = make_features_case(exit_layers=[-1, 0, 3])
    token_ids, mask, type_ids = random_inputs(LENGTHS)
    token_ids = token_ids.clamp(max=118)
    wanted = case.run((token_ids, mask, type_ids), 1.0)
    weight = case.encoder.transformer.embeddings.word_embeddings.weight
    kept = weight[119].clone()
    for bad in range(len(LENGTHS)):
        changed = token_ids.clone()
        changed[bad, 0] = 119
        weight[119] = float("nan")
        found = case.run((changed, mask, type_ids), 1.0)
        weight[119] = kept
        others = [i for i in range(len(LENGTHS)) if i != bad]
        torch.testing.assert_close(found.probs[others], wanted.probs[others], atol=1e-5, rtol=0)
        assert found.probs[bad].isnan().all()


@pytest.mark.parametrize("encoder_learns", [True, False])
@pytest.mark.parametrize("family", [one for one in ("bert", "modernbert") if one in FAMILIES_HERE])
def test_features_learn_whether_or_not_the_encoder_does(family, encoder_learns):
    case = copy.deepcopy(
        make_features_case(family, exit_layers=[-1, 0, 2], last_exit="first_token")
    )
    scores = run_exits(
        case.encoder, case.exits, texts_of(random_inputs(LENGTHS)), encoder_learns=encoder_learns
    )
    sum(one.logits.square().sum() for one in scores.values()).backward()
    without = [n for n, p in case.exits.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    learned = [n for n, p in case.encoder.named_parameters() if p.grad is not None]
    assert any("embeddings" in name for name in learned) if encoder_learns else learned == []


@pytest.mark.parametrize(
    "last_exit, record_exits, wanted",
    [(None, False, 1), (None, True, 3), ("first_token", False, 0), ("first_token", True, 2)],
)
@torch.no_grad()
def test_only_features_that_are_needed_are_computed(monkeypatch, last_exit, record_exits, wanted):
    case = make_features_case(exit_layers=[-1, 1, 3], last_exit=last_exit)
    calls = []
    original = TokenFeatures.forward
    monkeypatch.setattr(
        TokenFeatures, "forward", lambda self, *a: calls.append(self) or original(self, *a)
    )
    run_early_exit(
        case.encoder,
        case.exits,
        rule(case.temperatures, max_probability, 1.0),
        texts_of(random_inputs(LENGTHS)),
        record_exits=record_exits,
    )
    assert len(calls) == wanted


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_a_model_with_token_features_can_be_cast(dtype, with_gradients):
    case = copy.deepcopy(make_features_case())
    inputs = random_inputs(LENGTHS)
    assert_can_be_cast(case, inputs, dtype, with_gradients)


def test_features_cost_for_everything_that_reaches_their_exit():
    without = make_case("bert", "mean", [-1, 0, 2, 3])
    share = 32 * SIZE / (4 * 32 * 32 + 2 * 32 * 64)
    before = cost_of_exits(without.encoder, without.exits)
    case = make_features_case()
    wanted = [cost + (k + 1) * share for k, cost in enumerate(before)]
    assert cost_of_exits(case.encoder, case.exits) == pytest.approx(wanted)
    ngrams = make_features_case(with_ngrams=True, last_exit="first_token")
    wanted = [cost + min(k, 2) * share for k, cost in enumerate(before)]
    assert cost_of_exits(ngrams.encoder, ngrams.exits) == pytest.approx(wanted)


@pytest.mark.parametrize("with_gradients", [True, False])
def test_autocast_is_respected(with_gradients):
    case = make_features_case()
    inputs = random_inputs(LENGTHS)
    assert_autocast_is_respected(case, inputs, with_gradients)
