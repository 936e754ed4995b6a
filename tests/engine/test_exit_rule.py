"""Rules of leaving, through the engine, against a plain computation one instance at a time."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from sledgehammer_allennlp.engine import (
    ExitRule,
    check_ensemble,
    most_probable,
    run_early_exit,
    run_exits,
)
from sledgehammer_allennlp.engine.prediction import most_probable_of
from sledgehammer_allennlp.exits import ExitScores
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from tests.engine.plain_computation import (
    combinations,
    exit_layer_lists,
    length_lists,
    make_case,
    plain_combined,
    plain_outputs,
    token_budgets,
)
from tests.tiny import random_inputs, texts_of


def plain_confidence(name, probs_so_far, answer, correctness, num_exits) -> float:
    """One instance at one exit, from lists of numbers."""
    if name == "learned" and not np.isnan(correctness):
        return correctness
    if name == "entropy":
        return 1 + sum(p * np.log(p) for p in answer if p > 0) / np.log(len(answer))
    if name == "margin":
        second, first = sorted(answer)[-2:]
        return first - second
    if name == "patience":
        labels = [np.argmax(probs) for probs in probs_so_far]
        same = 0
        for label in labels[-2::-1]:
            if label != labels[-1]:
                break
            same += 1
        return same / max(num_exits - 1, 1)
    return max(answer)


def plain_answers(logits, correctness, temperatures, name, weights):
    """
    The answer and the confidence of each exit, instance by instance. Combined logits are calibrated
    already: their temperatures are 1.
    """
    num_exits, num_texts, _ = logits.shape
    answers = np.zeros_like(logits)
    confidences = np.zeros((num_exits, num_texts))
    for row in range(num_texts):
        so_far = []
        for k in range(num_exits):
            powers = np.exp(logits[k, row] / temperatures[k])
            so_far.append(powers / powers.sum())
            answer = so_far[-1]
            if weights is not None and sum(weights[: k + 1]) > 0:
                weighted = [w * probs for w, probs in zip(weights, so_far)]
                answer = sum(weighted) / sum(weights[: k + 1])
            answers[k, row] = answer
            confidences[k, row] = plain_confidence(
                name, so_far, answer, correctness[k, row], num_exits
            )
    return answers, confidences


@settings(max_examples=120, deadline=None)
@given(
    family=st.sampled_from(["bert", "distilbert"]),
    exit_layers=exit_layer_lists,
    with_ngrams=st.booleans(),
    use_previous_logits=st.booleans(),
    confidence=st.sampled_from(["max_probability", "entropy", "margin", "patience", "learned"]),
    ensemble=st.sampled_from([None, "reached", "all", "weighted"]),
    threshold=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0)),
    lengths=length_lists,
    token_budget=token_budgets,
    record_exits=st.booleans(),
    is_combined=st.booleans(),
    seed=st.integers(0, 1000),
    data=st.data(),
)
@torch.no_grad()
def test_every_rule_equals_a_plain_computation(
    family,
    exit_layers,
    with_ngrams,
    use_previous_logits,
    confidence,
    ensemble,
    threshold,
    lengths,
    token_budget,
    record_exits,
    is_combined,
    seed,
    data,
):
    case = make_case(
        family, "mean", exit_layers, with_ngrams, use_previous_logits, confidence == "learned"
    )
    num_exits = len(exit_layers)
    if ensemble == "weighted":
        few = st.just(0.0) | st.floats(1e-3, 3)  # float32 would round the tiniest to 0
        weights = data.draw(st.lists(few, min_size=num_exits, max_size=num_exits))
        assume(sum(weights) > 0.1)
        ensemble = {"over": "reached", "weights": weights}
    checked = check_ensemble(ensemble, num_exits)
    combination = data.draw(combinations(num_exits)) if is_combined else None
    rule = ExitRule(
        case.temperatures, confidence_by_name(confidence), threshold, checked, combination
    )
    inputs = random_inputs(lengths, seed=seed)
    output = run_early_exit(
        case.encoder, case.exits, rule, texts_of(inputs), token_budget, record_exits
    )
    logits, correctness = plain_outputs(case, *inputs)
    weights = None if checked is None else checked.weights
    calibrated = plain_combined(logits, combination) if is_combined else logits
    temperatures = [1.0] * num_exits if is_combined else case.temperatures.tolist()
    answers, confidences = plain_answers(calibrated, correctness, temperatures, confidence, weights)
    # What is within rounding of the threshold, or of another label, may fall on either side.
    near = np.abs(confidences - threshold) < 1e-4
    if confidence == "patience":
        near = np.abs(np.diff(np.sort(calibrated, axis=-1)[:, :, -2:])) < 1e-3
        assume(min(abs(threshold - k / max(num_exits - 1, 1)) for k in range(num_exits)) > 1e-6)
    assume(not near.any() or threshold in (0, 1))
    exits = []
    for row in range(len(lengths)):
        k = 0
        never_early = threshold == 1 or ensemble == "all"
        while k < num_exits - 1 and (never_early or confidences[k, row] < threshold):
            k += 1
        exits.append(k)
    rows = np.arange(len(lengths))
    assert output.exit_index.tolist() == exits
    np.testing.assert_allclose(output.probs.numpy(), answers[exits, rows], atol=1e-5)
    np.testing.assert_allclose(output.confidence.numpy(), confidences[exits, rows], atol=1e-4)
    found, wanted = output.logits.numpy(), calibrated[exits, rows]
    if checked:
        # Of smaller probabilities float32 has few digits, or none.
        least = np.log(np.finfo(np.float32).tiny)
        with np.errstate(divide="ignore"):
            found, wanted = (
                np.maximum(found, least),
                np.maximum(np.log(answers[exits, rows]), least),
            )
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    if record_exits:
        for k, record in enumerate(output.exit_records):
            assert sorted(record.instances.tolist()) == [row for row in rows if exits[row] >= k]
            scores = record.scores_in_order()
            instances = record.instances.sort().values.tolist()
            np.testing.assert_allclose(scores.logits.numpy(), logits[k, instances], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    exit_layers=exit_layer_lists,
    with_ngrams=st.booleans(),
    use_previous_logits=st.booleans(),
    lengths=length_lists,
    token_budget=token_budgets,
    threshold=st.sampled_from([0.0, 0.5, 1.0]),
    is_combined=st.booleans(),
    data=st.data(),
)
@torch.no_grad()
def test_texts_leave_where_they_are_told_to(
    exit_layers,
    with_ngrams,
    use_previous_logits,
    lengths,
    token_budget,
    threshold,
    is_combined,
    data,
):
    case = make_case("bert", "mean", exit_layers, with_ngrams, use_previous_logits)
    choice = st.integers(0, len(exit_layers) - 1)
    told = data.draw(st.lists(choice, min_size=len(lengths), max_size=len(lengths)))
    inputs = random_inputs(lengths)
    combination = data.draw(combinations(len(exit_layers))) if is_combined else None
    measure = confidence_by_name("max_probability")
    rule = ExitRule(case.temperatures, measure, threshold, combination=combination)
    output = run_early_exit(
        case.encoder,
        case.exits,
        rule,
        texts_of(inputs),
        token_budget,
        forced_exits=torch.tensor(told),
    )
    assert output.exit_index.tolist() == told
    logits, _ = plain_outputs(case, *inputs)
    if is_combined:
        logits = plain_combined(logits, combination)
    wanted = logits[told, np.arange(len(lengths))]
    np.testing.assert_allclose(output.logits.numpy(), wanted, atol=1e-4)


def test_some_exits_say_the_same_as_all_of_them():
    for use_previous_logits in (False, True):
        case = make_case("bert", "mean", [-1, 0, 2, 3], True, use_previous_logits, True)
        texts = texts_of(random_inputs([4, 11, 1, 7]))
        everything = run_exits(case.encoder, case.exits, texts)
        assert list(everything) == [0, 1, 2, 3]
        for wanted in ([0], [2], [1, 3], [0, 1, 2, 3]):
            some = run_exits(case.encoder, case.exits, texts, wanted)
            assert sorted(some) == wanted
            for k, scores in some.items():
                torch.testing.assert_close(scores, everything[k], atol=1e-5, rtol=0)


def test_an_exit_before_those_wanted_is_not_run_for_nothing(monkeypatch):
    case = make_case("bert", "mean", [0, 1, 3])
    layers = []
    original = case.encoder.keys_values
    monkeypatch.setattr(
        case.encoder, "keys_values", lambda i, hidden: layers.append(i) or original(i, hidden)
    )
    run_exits(case.encoder, case.exits, texts_of(random_inputs([4, 6])), [1])
    assert layers == [0, 1]


def test_where_the_encoder_does_not_learn_only_the_exits_get_gradients():
    case = make_case("bert", "mean", [0, 2, 3])
    scores = run_exits(
        case.encoder, case.exits, texts_of(random_inputs([4, 6])), [0, 1], encoder_learns=False
    )
    sum(one.logits.sum() for one in scores.values()).backward()
    assert all(parameter.grad is None for parameter in case.encoder.parameters())
    with_gradient = {
        name.split(".")[1] for name, p in case.exits.named_parameters() if p.grad is not None
    }
    assert with_gradient == {"0", "1"}
    case.exits.zero_grad()


def test_a_head_gives_no_gradient_to_what_the_exit_sees():
    case = make_case("bert", "mean", [0, 3], with_correctness=True)
    scores = run_exits(case.encoder, case.exits, texts_of(random_inputs([4, 6])))
    sum(one.correctness.sum() for one in scores.values()).backward()
    names = {name for name, p in case.exits.named_parameters() if p.grad is not None}
    assert names == {
        f"classifiers.{k}.correctness.{part}" for k in (0, 1) for part in ("weight", "bias")
    }
    assert all(parameter.grad is None for parameter in case.encoder.parameters())
    case.exits.zero_grad()


def test_an_ensemble_without_weight_so_far_says_what_its_last_exit_says():
    ensemble = check_ensemble({"over": "reached", "weights": [0, 0, 2, 1]}, 4)
    probs = [torch.tensor([[0.9, 0.1]]), torch.tensor([[0.3, 0.7]]), torch.tensor([[0.2, 0.8]])]
    assert ensemble.average(probs[:1]).tolist() == probs[0].tolist()
    assert ensemble.average(probs[:2]).tolist() == probs[1].tolist()
    assert ensemble.average(probs).tolist() == probs[2].tolist()


def test_an_exit_that_says_nan_has_no_part_in_an_ensemble():
    ensemble = check_ensemble({"over": "reached", "weights": [1, 1, 2]}, 3)
    nan, first, last = [[float("nan")] * 2], [[0.9, 0.1]], [[0.3, 0.7]]
    found = ensemble.average([torch.tensor(probs) for probs in (nan, first, last)])
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5]]))
    assert ensemble.average([torch.tensor(nan)]).isnan().all()


def test_an_answer_of_an_ensemble_is_right_where_an_exit_is_sure():
    rule = ExitRule(
        torch.ones(2), confidence_by_name("max_probability"), 0.5, check_ensemble("reached", 2)
    )
    scores = [ExitScores(torch.tensor([[200.0, 0.0]])), ExitScores(torch.tensor([[200.0, 0.0]]))]
    answer = rule.predict(scores, 1)
    assert answer.probs.tolist() == [[1.0, 0.0]] and answer.confidence.tolist() == [1.0]
    assert answer.logits[0].argmax() == 0


@pytest.mark.parametrize(
    "setting, message",
    [
        ("some", "ensemble is 'some': wanted null, one of reached, all"),
        (3, "ensemble is 3"),
        ({"weights": [1, 1, 1]}, "ensemble is {'weights'"),
        ({"over": "reached", "weight": [1, 1, 1]}, "has the keys over, weight"),
        ({"over": "all", "weights": [1, 1]}, r"weights are \[1, 1\]: .*each of the 3 exits"),
        ({"over": "all", "weights": [1, -1, 1]}, r"weights are \[1, -1, 1\]"),
        ({"over": "all", "weights": [0, 0, 0]}, r"weights are \[0, 0, 0\]"),
        ({"over": "all", "weights": [1, True, 1]}, "weights are"),
        ({"over": ["all"], "weights": [1, 1, 1]}, "ensemble is"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        check_ensemble(setting, 3)


def test_no_ensemble_is_none():
    assert check_ensemble(None, 3) is None
    assert check_ensemble("all", 3).weights == [1.0, 1.0, 1.0]


LARGEST = 3.4e38  # almost, of float32

extreme_numbers = st.sampled_from([0.0, 1e-38, 1e-30, 1.0, 1e10, 1e30, 1e38, LARGEST]).flatmap(
    lambda size: st.sampled_from([size, -size])
)


@settings(max_examples=60, deadline=None)
@given(
    num_labels=st.sampled_from([1, 2, 3, 1000]),
    temperatures=st.lists(st.sampled_from([1e-36, 1e-3, 1, 1e10, 1e36]), min_size=3, max_size=3),
    confidence=st.sampled_from(["max_probability", "entropy", "margin", "patience"]),
    ensemble=st.sampled_from([None, "reached"]),
    data=st.data(),
)
def test_answers_are_finite_whatever_the_logits_and_temperatures(
    num_labels, temperatures, confidence, ensemble, data
):
    few = data.draw(st.lists(extreme_numbers, min_size=12, max_size=12))
    logits = np.resize(np.array(few, dtype=np.float32), (3, 4, num_labels))
    rule = ExitRule(
        torch.tensor(temperatures),
        confidence_by_name(confidence),
        0.5,
        check_ensemble(ensemble, 3),
    )
    answers = rule.predict_at_each_exit(
        [ExitScores(at_exit) for at_exit in torch.from_numpy(logits)]
    )
    in_float32 = rule.temperatures.double().numpy()[:, None, None]
    wanted = softmax(logits.astype(np.float64) / in_float32, axis=-1)
    if ensemble is not None:
        wanted = wanted.cumsum(0) / np.arange(1, 4)[:, None, None]
    for answer, probs in zip(answers, wanted):
        np.testing.assert_allclose(answer.probs.numpy(), probs, atol=1e-5)
        np.testing.assert_allclose(answer.probs.sum(-1).numpy(), 1, atol=1e-5)
        assert answer.logits.isfinite().all()
        assert ((answer.confidence >= 0) & (answer.confidence <= 1)).all()


@settings(max_examples=10, deadline=None)
@given(
    lengths=length_lists,
    scales=st.lists(st.sampled_from([1e-30, 1.0, 1e10, 1e30]), min_size=3, max_size=3),
    temperatures=st.lists(st.sampled_from([1e-36, 1.0, 1e30, 1e36]), min_size=3, max_size=3),
    threshold=st.sampled_from([0.0, 0.34, 0.6, 0.999, 1.0]),
    token_budget=token_budgets,
)
@torch.no_grad()
def test_exits_of_any_magnitude_answer_as_a_plain_computation(
    lengths, scales, temperatures, threshold, token_budget
):
    case = make_case("bert", "mean", [-1, 1, 3])
    case = replace(case, exits=deepcopy(case.exits))
    for classifier, scale in zip(case.exits.classifiers, scales):
        classifier.linear.weight.mul_(scale)
        classifier.linear.bias.mul_(scale)
    inputs = random_inputs(lengths)
    measure = confidence_by_name("max_probability")
    rule = ExitRule(torch.tensor(temperatures), measure, threshold)
    output = run_early_exit(case.encoder, case.exits, rule, texts_of(inputs), token_budget)
    logits = plain_outputs(case, *inputs)[0].astype(np.float64)
    probs = softmax(logits / rule.temperatures.double().numpy()[:, None, None], axis=-1)
    assume((np.abs(probs.max(-1) - threshold) > 1e-3).all() or threshold in (0, 1))
    leaves = (probs.max(-1) >= threshold) & (threshold < 1)
    leaves[-1] = True
    exits, rows = leaves.argmax(0), np.arange(len(lengths))
    assert output.exit_index.tolist() == exits.tolist()
    np.testing.assert_allclose(output.probs.sum(-1).numpy(), 1, atol=1e-5)
    # Near a tie a difference in rounding is one in probability, however large logits are.
    gaps = np.diff(np.sort(logits, axis=-1)[:, :, -2:])[exits, rows, 0]
    clear = gaps > 1e-3 * np.abs(logits[exits, rows]).max(-1)
    np.testing.assert_allclose(output.probs.numpy()[clear], probs[exits, rows][clear], atol=1e-4)


@settings(deadline=None)
@given(
    logits=arrays(np.float32, (5, 3), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    probs=arrays(np.float32, (5, 3), elements=st.sampled_from([0.25, 0.375, 0.5])),
)
def test_the_label_is_the_most_probable_and_of_those_the_one_of_the_largest_logit(logits, probs):
    found = most_probable(torch.from_numpy(logits), torch.from_numpy(probs)).tolist()
    for label, text_logits, text_probs in zip(found, logits.tolist(), probs.tolist()):
        assert text_probs[label] == max(text_probs)
        rivals = [x for x, p in zip(text_logits, text_probs) if p == max(text_probs)]
        assert text_logits[label] == max(rivals)
        assert most_probable_of(text_logits, text_probs) == label


def test_the_label_of_no_numbers_is_the_first():
    no_numbers = torch.full((1, 3), float("nan"))
    assert most_probable(no_numbers, no_numbers).tolist() == [0]
    assert most_probable_of(no_numbers[0].tolist(), no_numbers[0].tolist()) == 0


def _half_on_cpu() -> bool:
    try:
        torch.ones(1, 2).half().amax(-1).softmax(-1)
    except RuntimeError:
        return False
    return True


@pytest.mark.skipif(not _half_on_cpu(), reason="this torch does not compute in float16 on CPUs")
def test_half_precision_is_answered():
    logits = torch.tensor([[2.0, 1.0], [-60000.0, 60000.0]]).half()
    rule = ExitRule(torch.tensor([0.5]), confidence_by_name("max_probability"), 0.9)
    found = rule.predict([ExitScores(logits)], 0).probs.float()
    wanted = torch.tensor([[0.8808, 0.1192], [0.0, 1.0]])
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


def test_of_a_text_that_the_exit_over_ngrams_does_not_know_confidence_is_zero():
    logits = torch.tensor([[9.0, 0.0]] * 3)
    scores = ExitScores(logits, seen_share=torch.tensor([0.2, 0.5, 0.9]))
    rule = ExitRule(torch.ones(2), confidence_by_name("max_probability"), 0.8, min_seen_share=0.5)
    prediction = rule.predict([scores], 0)
    sure = logits.softmax(-1)[0, 0].item()
    assert prediction.confidence.tolist() == pytest.approx([0, sure, sure])
    assert rule.is_confident(prediction).tolist() == [False, True, True]
    torch.testing.assert_close(prediction.probs, logits.softmax(-1))
    at_zero = replace(rule, threshold=0.0)  # the first exit for every text
    assert at_zero.is_confident(at_zero.predict([scores], 0)).all()
    without = replace(rule, min_seen_share=0.0)
    assert without.is_confident(without.predict([scores], 0)).all()
    later = rule.predict([scores, ExitScores(logits)], 1)
    assert later.confidence.tolist() == pytest.approx([sure] * 3)
