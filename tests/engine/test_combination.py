"""Exits that combine their logits with those of earlier exits."""

import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from sledgehammer_allennlp.engine import (
    ExitCombination,
    ExitRule,
    check_ensemble,
    exit_rule,
    run_early_exit,
)
from sledgehammer_allennlp.engine.combination import add_none_to_older_weights, combine
from sledgehammer_allennlp.engine.output import combine_records
from sledgehammer_allennlp.exits import ExitScores
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from sledgehammer_allennlp.weights_file import read_weights
from tests.engine.plain_computation import (
    combinations,
    length_lists,
    make_case,
    plain_combined,
    plain_outputs,
    token_budgets,
)
from tests.tiny import random_inputs, texts_of

NAN = float("nan")
EXIT_LAYERS = [-1, 0, 1, 3]
COMBINATION = [[1.5, 0, 0, 0], [0.5, 1, 0, 0], [0, 0, 2, 0], [0.25, 0, 0.5, 1]]


def run(case, inputs, threshold, combination=COMBINATION, **settings):
    measure = confidence_by_name("max_probability")
    rule = ExitRule(case.temperatures, measure, threshold, combination=combination)
    return run_early_exit(case.encoder, case.exits, rule, texts_of(inputs), **settings)


@settings(max_examples=40, deadline=None)
@given(
    lengths=length_lists,
    threshold=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.3, 1.0)),
    seed=st.integers(0, 1000),
    padding=st.integers(0, 7),
    with_ngrams=st.booleans(),
    combination=combinations(4),
    token_budget=token_budgets,
    data=st.data(),
)
@torch.no_grad()
def test_a_combined_prediction_does_not_depend_on_batch_order_or_padding(
    lengths, threshold, seed, padding, with_ngrams, combination, token_budget, data
):
    case = make_case("bert", "mean", EXIT_LAYERS, with_ngrams)
    inputs = random_inputs(lengths, seed=seed)
    together = run(case, inputs, threshold, combination)
    calibrated = plain_combined(plain_outputs(case, *inputs)[0], combination)
    confidences = softmax(calibrated, axis=-1).max(-1)
    assume(np.abs(confidences - threshold).min() > 1e-4 or threshold in (0, 1))

    order = data.draw(st.permutations(range(len(lengths))))
    padded = [torch.nn.functional.pad(x[list(order)], (0, padding)) for x in inputs]
    shuffled = run(case, padded, threshold, combination, token_budget=token_budget)
    assert shuffled.exit_index.tolist() == together.exit_index[list(order)].tolist()
    torch.testing.assert_close(shuffled.probs, together.probs[list(order)], atol=1e-5, rtol=0)

    for row, length in enumerate(lengths):
        alone = run(case, [x[row : row + 1, :length] for x in inputs], threshold, combination)
        assert alone.exit_index.item() == together.exit_index[row]
        torch.testing.assert_close(alone.probs[0], together.probs[row], atol=1e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(
    temperatures=st.lists(st.sampled_from([1e-3, 0.5, 1, 1e10, 1e30]), min_size=3, max_size=3),
    confidence=st.sampled_from(["max_probability", "entropy", "margin", "patience"]),
    ensemble=st.sampled_from([None, "reached"]),
    scale=st.sampled_from([1e-3, 1.0, 1e10, 1e30]),
    seed=st.integers(0, 1000),
)
def test_one_number_in_each_row_is_temperature_scaling(
    temperatures, confidence, ensemble, scale, seed
):
    generator = torch.Generator().manual_seed(seed)
    scores = [ExitScores(scale * torch.randn(5, 3, generator=generator)) for _ in range(3)]
    settings = (confidence_by_name(confidence), 0.5, check_ensemble(ensemble, 3))
    by_temperature = ExitRule(torch.tensor(temperatures), *settings)
    rows = np.diag(1 / by_temperature.temperatures.double().numpy()).tolist()
    by_rows = ExitRule(torch.ones(3), *settings, rows)
    for wanted, found in zip(
        by_temperature.predict_at_each_exit(scores), by_rows.predict_at_each_exit(scores)
    ):
        torch.testing.assert_close(found.probs, wanted.probs, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.confidence, wanted.confidence, atol=1e-5, rtol=0)


LARGEST = 3.4e38  # almost, of float32
extreme_numbers = st.sampled_from([0.0, 1e-38, 1.0, 1e30, LARGEST, -1.0, -1e30, -LARGEST])


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(extreme_numbers, min_size=18, max_size=18),
    weights=st.lists(st.sampled_from([1e-36, 1.0, 1e36]), min_size=3, max_size=3),
    num_labels=st.sampled_from([1, 3, 1000]),
)
def test_combined_logits_are_finite_whatever_the_logits_and_weights(logits, weights, num_labels):
    at_exits = torch.tensor(logits).view(3, 6).unsqueeze(-1).repeat(1, 1, num_labels)
    at_exits[:, :, : min(3, num_labels)] *= torch.tensor([1.0, -1.0, 0.5])[:num_labels]
    found = combine(list(at_exits), weights)
    assert found.isfinite().all()
    torch.testing.assert_close(found.softmax(-1).sum(-1), torch.ones(6))


def test_half_precision_is_combined():
    logits = [torch.tensor([[2.0, 1.0]]).to(torch.bfloat16), torch.tensor([[0.0, 4.0]]).bfloat16()]
    torch.testing.assert_close(combine(logits, [1.0, 0.5]), torch.tensor([[-0.5, 0.5]]))
    logits[0] = logits[0].float()  # as of an exit over n-grams
    torch.testing.assert_close(combine(logits, [1.0, 0.5]), torch.tensor([[-0.5, 0.5]]))


def test_scores_of_an_exit_that_is_combined_are_not_forgotten():
    measure = confidence_by_name("max_probability")
    rule = ExitRule(torch.ones(4), measure, 0.5, combination=COMBINATION)
    own = ExitScores(torch.tensor([[1.0, 0.0]]))
    assert rule.predict([own], 2).probs.isfinite().all()  # combined with none
    for scores in ([own], [None, own, own, own], [own, own, own], [own, own, None, own]):
        with pytest.raises(ValueError, match=r"exit 3, .* those of exits \[0, 2\]: wanted"):
            rule.predict(scores, 3)
    assert rule.predict([own, None, own, own], 3).probs.isfinite().all()


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_an_earlier_exit_that_says_no_numbers_counts_as_nothing(bad):
    earlier = torch.tensor([[bad, 1.0, 2.0], [3.0, 0.0, 0.0], [bad] * 3])
    own = torch.tensor([[1.0, 0.0, 5.0], [1.0, 0.0, 5.0], [1.0, 0.0, 5.0]])
    found = combine([earlier, own], [2.0, 1.0])
    alone = torch.tensor([-1.0, -2.0, 3.0])
    torch.testing.assert_close(found[0], alone)
    torch.testing.assert_close(found[1], alone + torch.tensor([4.0, -2.0, -2.0]))
    torch.testing.assert_close(found[2], alone)
    # What the exit itself says is not left out, whatever its weight.
    for weight in (0.0, 1.0):
        assert combine([own, earlier], [1.0, weight])[0].isnan().all()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.filterwarnings("ignore:the n-gram exit was never fitted")
@torch.no_grad()
def test_an_unfitted_ngram_exit_has_no_part_in_later_exits(threshold):
    case = make_case("bert", "mean", EXIT_LAYERS, with_ngrams=True)
    case = copy.copy(case)
    case.exits = copy.deepcopy(case.exits)
    case.exits.ngrams.marks[3] = 0
    inputs = random_inputs([4, 12, 5])
    without = [[1.0, 0, 0, 0], *([0.0, *row[1:]] for row in COMBINATION[1:])]
    found, wanted = run(case, inputs, threshold), run(case, inputs, threshold, without)
    assert (found.exit_index > 0).all() and found.probs.isfinite().all()
    torch.testing.assert_close(found.probs, wanted.probs)
    assert found.exit_index.tolist() == wanted.exit_index.tolist()


@torch.no_grad()
def test_only_exits_with_a_weight_are_asked(monkeypatch):
    case = make_case("bert", "mean", EXIT_LAYERS, with_ngrams=True)
    asked = []
    original = case.exits.score
    monkeypatch.setattr(case.exits, "score", lambda k, *rest: asked.append(k) or original(k, *rest))
    ngrams, name = case.exits.ngrams, "logits_and_seen_share"
    score = ngrams.logits_and_seen_share
    monkeypatch.setattr(ngrams, name, lambda x: asked.append(0) or score(x))
    inputs = random_inputs([4, 12])
    last_row = {(0.25, 0, 0.5): [0, 2, 3], (0, 0, 0): [3], (0, 1, 0): [1, 3]}
    for earlier, wanted in last_row.items():
        asked.clear()
        run(case, inputs, 1.0, [*COMBINATION[:3], [*earlier, 1]], record_exits=False)
        assert asked == wanted
    asked.clear()
    run(case, inputs, 1.0, None, record_exits=False)
    assert asked == [3]


@torch.no_grad()
def test_without_a_combination_nothing_is_combined(monkeypatch):
    monkeypatch.setattr(exit_rule, "combine", lambda *arguments: pytest.fail("it was combined"))
    case = make_case("bert", "mean", EXIT_LAYERS)
    assert run(case, random_inputs([4, 12]), 0.6, None).probs.isfinite().all()


@torch.no_grad()
def test_records_of_combined_exits_have_their_own_logits_and_are_combined_afterwards():
    case = make_case("bert", "mean", EXIT_LAYERS)
    inputs = random_inputs([4, 12, 5, 1, 9, 7, 8])
    output = run(case, inputs, 0.9, token_budget=12)
    logits, _ = plain_outputs(case, *inputs)
    combined = plain_combined(logits, COMBINATION)
    assert len(set(output.exit_index.tolist())) > 1
    for k, record in enumerate(output.exit_records):
        instances = record.instances.tolist()
        np.testing.assert_allclose(record.scores.logits, logits[k, instances], atol=1e-4)
        found = combine_records(output.exit_records[: k + 1], COMBINATION[k])
        np.testing.assert_allclose(found, combined[k, instances], atol=1e-4)


def test_weights_are_kept_and_those_from_before_have_none():
    class Kept(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("temperatures", torch.ones(4))
            self.combination = ExitCombination(4)
            self._register_load_state_dict_pre_hook(add_none_to_older_weights)

    kept, other = Kept(), Kept()
    assert kept.combination.weights is None
    kept.combination.weights = COMBINATION
    file = io.BytesIO()
    torch.save(kept.half().state_dict(), file)
    file.seek(0)
    other.load_state_dict(read_weights(file))
    assert other.combination.weights == COMBINATION
    other.load_state_dict({}, strict=False)
    assert other.combination.weights == COMBINATION
    other.load_state_dict({"temperatures": torch.ones(4)})
    assert other.combination.weights is None


def changed(k, j, weight):
    weights = torch.tensor(COMBINATION, dtype=torch.float64)
    weights[k, j] = weight
    return weights


@pytest.mark.parametrize(
    "weights, message",
    [
        (torch.ones(3, 3), r"has shape \(3, 3\): wanted numbers from 0 of shape \(4, 4\)"),
        (torch.ones(4), r"has shape \(4,\): wanted"),
        (changed(2, 1, -0.5), "has -0.5 as the weight of exit 1 at exit 2, counted from 0: wanted"),
        (changed(3, 0, NAN), "has nan as the weight of exit 0 at exit 3"),
        (changed(3, 0, float("inf")), "has inf as the weight"),
        (changed(1, 2, 1.0), "has 1 as the weight of exit 2 at exit 1.* 0 for later exits"),
        (changed(0, 0, 0.0), "has no weight above 0 for exit 0"),
        ("weights", "is 'weights': wanted"),
        (torch.eye(4).to(torch.complex64), r"is tensor\((.|\n)*: wanted"),
    ],
)
def test_weights_that_are_no_combination_are_refused(weights, message):
    with pytest.raises(ValueError, match=f"the combination of exits {message}"):
        ExitCombination(4).load_state_dict({"_extra_state": weights})
