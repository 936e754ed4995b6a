"""A single short text in ONNX Runtime: as the general way, and as a plain computation."""

from copy import deepcopy
from dataclasses import replace
from typing import List, Optional, Tuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import inference_layers, onnx_layers
from sledgehammer_allennlp.engine import (
    EarlyExitOutput,
    ExitRule,
    early_exit,
    one_text_session,
    run_early_exit,
)
from sledgehammer_allennlp.engine.one_text import make_session_of_one_text
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from tests.engine.pairs import (
    BY_ONE_SEPARATOR,
    BY_TWO_SEPARATORS,
    BY_TYPE_IDS,
    FIRST,
    PAIRS,
    SEPARATOR,
    inputs_of,
    make_pair_case,
    pairs,
)
from tests.engine.plain_computation import (
    Case,
    assert_equals_plain,
    combinations,
    exit_layer_lists,
    last_exits,
    make_case,
    plain_combined,
    plain_logits,
    plain_rule,
    thresholds,
)
from tests.tiny import (
    FAMILIES_HERE,
    needs_int8,
    needs_layout,
    needs_modernbert,
    needs_onnx,
    random_inputs,
    texts_of,
)

pytestmark = needs_onnx


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> List[Optional[EarlyExitOutput]]:
    """What this way answered, text by text; `None` where it left a text to the general way."""
    return _watch(monkeypatch)


def _watch(monkeypatch: pytest.MonkeyPatch) -> List[Optional[EarlyExitOutput]]:
    found: List[Optional[EarlyExitOutput]] = []
    run_one_text = early_exit.run_one_text

    def watched(*args):
        found.append(run_one_text(*args))
        return found[-1]

    monkeypatch.setattr(early_exit, "run_one_text", watched)
    return found


def _rule(case: Case, threshold: float, confidence: str = "max_probability", **settings):
    return ExitRule(case.temperatures, confidence_by_name(confidence), threshold, **settings)


def _run(case: Case, rule: ExitRule, inputs, record_exits: bool = False) -> EarlyExitOutput:
    if case.encoder.runtime != "onnxruntime":
        case.encoder.runtime = "onnxruntime"
    with torch.no_grad():
        return run_early_exit(
            case.encoder, case.exits, rule, texts_of(inputs), record_exits=record_exits
        )


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(FAMILIES_HERE),
    exit_layers=exit_layer_lists,
    last_exit=last_exits,
    token_features=st.sampled_from([None, 6]),
    with_ngrams=st.booleans(),
    length=st.integers(1, 20),
    threshold=thresholds,
    data=st.data(),
    is_combined=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_it_equals_a_plain_computation(
    family,
    exit_layers,
    last_exit,
    token_features,
    with_ngrams,
    length,
    threshold,
    data,
    is_combined,
    seed,
):
    settings = {"last_exit": last_exit, "token_features": token_features}
    case = make_case(family, "mean", exit_layers, with_ngrams, **settings)
    inputs = random_inputs([length], seed=seed)
    combination = data.draw(combinations(len(exit_layers))) if is_combined else None
    with pytest.MonkeyPatch.context() as monkeypatch:
        answers = _watch(monkeypatch)
        output = _run(case, _rule(case, threshold, combination=combination), inputs)
    exited_at_ngrams = case.exits.ngrams is not None and int(output.exit_index) == 0
    assert (len(answers) == 0) if exited_at_ngrams else (answers[0] is not None)
    _assert_equals_plain(case, inputs, output, threshold, combination)


@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(["bert", "modernbert"] if "modernbert" in FAMILIES_HERE else ["bert"]),
    exit_layers=exit_layer_lists,
    last_exit=last_exits,
    with_ngrams=st.booleans(),
    pair=pairs,
    special_tokens=st.sampled_from([BY_TYPE_IDS, BY_ONE_SEPARATOR, BY_TWO_SEPARATORS]),
    threshold=thresholds,
    data=st.data(),
    is_combined=st.booleans(),
)
def test_a_pair_equals_a_plain_computation(
    family, exit_layers, last_exit, with_ngrams, pair, special_tokens, threshold, data, is_combined
):
    settings = {"with_ngrams": with_ngrams, "last_exit": last_exit}
    case = make_pair_case(family, "mean", exit_layers, special_tokens, **settings)
    inputs = inputs_of([pair], special_tokens)
    combination = data.draw(combinations(len(exit_layers))) if is_combined else None
    with pytest.MonkeyPatch.context() as monkeypatch:
        answers = _watch(monkeypatch)
        output = _run(case, _rule(case, threshold, combination=combination), inputs)
    if case.exits.ngrams is None and special_tokens == BY_TYPE_IDS:
        # A text without words is left to the general way.
        both_have_words = all(set(text or ()) - {FIRST, SEPARATOR} for text in pair)
        assert (answers[0] is not None) == both_have_words
    _assert_equals_plain(case, inputs, output, threshold, combination)


def _assert_equals_plain(case: Case, inputs, output: EarlyExitOutput, threshold, combination):
    if combination is None:
        assert_equals_plain(case, inputs, output, threshold, case.temperatures)
        return
    combined = plain_combined(plain_logits(case, *inputs), combination)
    probs, (exit_index,) = plain_rule(combined, np.ones(len(combination)), threshold)
    assume(np.abs(probs.max(-1) - threshold).min() > 1e-4 or threshold in (0, 1))
    assert output.exit_index.tolist() == [exit_index]
    np.testing.assert_allclose(output.logits[0], combined[exit_index, 0], atol=1e-4)
    np.testing.assert_allclose(output.probs[0], probs[exit_index, 0], atol=1e-5)
    np.testing.assert_allclose(output.confidence, probs[exit_index].max(-1), atol=1e-5)


def test_a_share_of_seen_ngrams_that_is_just_enough_is_enough_in_any_company():
    """Shares are compared in float32, where 0.7 is a little less than in Python's numbers."""
    case = make_case("bert", "mean", [-1, 3], with_ngrams=True)
    case = replace(case, exits=deepcopy(case.exits))
    ngrams = case.exits.ngrams
    torch.manual_seed(0)
    with torch.no_grad():
        ngrams.table[torch.rand(len(ngrams.table)) < 0.4] = 0
    shares = set()
    for length in range(3, 20):
        inputs = random_inputs([length], seed=length)
        buckets = ngrams.buckets(texts_of(inputs)).flatten()
        is_seen = ngrams.table[buckets[buckets > 0], -1] > 0
        shares.add(int(is_seen.sum()) / len(is_seen))
        enough = _rule(case, 0.01, min_seen_share=int(is_seen.sum()) / len(is_seen))
        together = [torch.cat([part, part]) for part in inputs]
        assert _run(case, enough, inputs).exit_index.tolist() == [0]
        assert _run(case, enough, together).exit_index.tolist() == [0, 0]
    assert any(float(np.float32(share)) < share for share in shares)


def test_it_gives_ordinary_tensors_of_the_same_kinds(answers):
    case = make_case("bert", "mean", [0, 3])
    inputs = random_inputs([7])
    fast = _run(case, _rule(case, 0.0), inputs)
    general = _run(case, _rule(case, 0.0), inputs, record_exits=True)
    assert len(answers) == 1
    for name in ("logits", "probs", "confidence", "exit_index"):
        one, other = getattr(fast, name), getattr(general, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        assert not one.is_inference()


@pytest.mark.parametrize(
    "settings, rule",
    [
        ({"pooling": "first"}, {}),
        ({"use_previous_logits": True}, {}),
        ({"with_correctness": True}, {}),
        ({}, {"confidence": "entropy"}),
        ({}, {"confidence": "patience"}),
    ],
    ids=str,
)
def test_other_exits_and_rules_take_the_general_way(settings, rule, answers):
    case = make_case("bert", exit_layers=[0, 2, 3], **{"pooling": "mean", **settings})
    _run(case, _rule(case, 0.9, **rule), random_inputs([7]))
    assert answers == [None]


@pytest.mark.parametrize("threshold", [0.0, 1.0])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_text_is_answered_without_gradients_and_in_inference_mode(answers, mode, threshold):
    case = make_case("bert", "mean", [-1, 0, 3], with_ngrams=True)
    inputs = random_inputs([7])
    with mode():
        output = _run(case, _rule(case, threshold), inputs)
        assert output.logits.add(1).isfinite().all()
    assert output.logits.is_inference() == (mode is torch.inference_mode)
    assert len(answers) == threshold
    _assert_equals_plain(case, inputs, output, threshold, None)


def test_several_texts_records_and_forced_exits_take_the_general_way(answers):
    case = make_case("bert", "mean", [0, 2, 3])
    _run(case, _rule(case, 0.9), random_inputs([7, 3, 5, 4]))
    _run(case, _rule(case, 0.9), random_inputs([7]), record_exits=True)
    _run(case, _rule(case, 0.9), random_inputs([7, 3]), record_exits=True)
    forced = torch.tensor([1])
    texts = texts_of(random_inputs([7]))
    with torch.no_grad():
        output = run_early_exit(
            case.encoder, case.exits, _rule(case, 0.0), texts, None, False, forced
        )
    assert output.exit_index.tolist() == [1]
    assert answers == []


@settings(max_examples=40, deadline=None)
@given(
    exit_layers=exit_layer_lists,
    with_ngrams=st.booleans(),
    token_features=st.sampled_from([None, 6]),
    lengths=st.lists(st.integers(1, 20), min_size=2, max_size=3),
    threshold=thresholds,
    seed=st.integers(0, 1000),
)
def test_two_or_three_short_texts_run_one_after_the_other(
    exit_layers, with_ngrams, token_features, lengths, threshold, seed
):
    case = make_case("bert", "mean", exit_layers, with_ngrams, token_features=token_features)
    inputs = random_inputs(lengths, seed=seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        answers = _watch(monkeypatch)
        output = _run(case, _rule(case, threshold), inputs)
    at_ngrams = int((output.exit_index == 0).sum()) if case.exits.ngrams is not None else 0
    assert len(answers) == len(lengths) - at_ngrams
    _assert_equals_plain(case, inputs, output, threshold, None)
    assert not output.logits.is_inference()


@pytest.mark.parametrize(
    "precision, num_texts, most, most_weights",
    [
        ("float32", 2, 1.2e8, 2.5e6),
        ("float32", 3, 7.1e7, 2.5e6),
        pytest.param("int8", 2, 1.8e8, 1e7, marks=needs_int8),
        pytest.param("int8", 3, 4.5e7, 1e7, marks=needs_int8),
    ],
)
def test_texts_that_are_long_or_of_large_layers_run_together(
    answers, monkeypatch, precision, num_texts, most, most_weights
):
    case = make_case("bert", "mean", [0, 2, 3])
    encoder = case.encoder
    encoder.precision, work = precision, encoder.work_of_layer
    length = 60  # so long that the work is more than that of the most weights
    monkeypatch.setattr(onnx_layers, "_MOST_TOKENS", length)

    def are_one_by_one(longest: int, work_of_layer: float) -> bool:
        encoder.work_of_layer = work_of_layer
        answers.clear()
        _run(case, _rule(case, 1.0), random_inputs([longest, 3, 4][:num_texts]))
        assert len(answers) in (0, num_texts)
        return bool(answers)

    most_work = most / length
    assert most_work * 1.001 < most_weights
    try:
        assert are_one_by_one(length, most_work * 0.999)
        assert not are_one_by_one(length, most_work * 1.001)
        assert are_one_by_one(1, most_weights * 0.999)
        assert not are_one_by_one(1, most_weights * 1.001)
        assert not are_one_by_one(length + 1, 0)
    finally:
        encoder.precision, encoder.work_of_layer = "float32", work


def _few_in_auto(
    case: Case, with_gradients: bool = False, lengths: Tuple[int, ...] = (7, 3)
) -> EarlyExitOutput:
    if case.encoder.runtime != "auto":
        case.encoder.runtime = "auto"
    texts = texts_of(random_inputs(lengths))
    with torch.set_grad_enabled(with_gradients):
        return run_early_exit(case.encoder, case.exits, _rule(case, 1.0), texts, None, False)


@pytest.mark.parametrize("lengths", [(7, 3), (7, 3, 5)])
def test_few_texts_run_one_after_the_other_without_being_asked_for(answers, lengths):
    case = make_case("bert", "mean", [0, 2, 3])
    output = _few_in_auto(case, lengths=lengths)
    assert len(answers) == len(lengths)
    _assert_equals_plain(case, random_inputs(lengths), output, 1.0, None)


@needs_layout
def test_two_texts_run_together_where_weights_were_given_up(answers):
    case = deepcopy(make_case("bert", "mean", [0, 2, 3]))
    case.encoder.runtime = "auto"
    with torch.no_grad():
        case.encoder.give_up_weights(case.exits.exit_layers)
    _few_in_auto(case)
    assert answers == []


def test_two_texts_run_together_with_gradients_hooks_and_other_exits(answers):
    case = deepcopy(make_case("bert", "mean", [0, 2, 3]))
    _few_in_auto(case, with_gradients=True)
    seen = []
    layer = case.encoder._layers[1].query
    handle = layer.register_forward_hook(lambda *parts: seen.append(parts))
    _few_in_auto(case)
    assert len(seen) > 0
    handle.remove()
    _few_in_auto(make_case("bert", "first", [0, 2, 3]))
    assert answers == []


def test_two_texts_that_ngrams_decide_make_no_session_and_no_error(monkeypatch):
    case = deepcopy(make_case("bert", "mean", [-1, 2, 3], with_ngrams=True))
    case.encoder.runtime = "onnxruntime"
    monkeypatch.setattr(inference_layers, "why_no_onnx", lambda *_: "it cannot")
    texts = texts_of(random_inputs([7, 3]))
    with torch.no_grad():
        output = run_early_exit(case.encoder, case.exits, _rule(case, 0.0), texts, None, False)
    assert output.exit_index.tolist() == [0, 0]
    assert len(case.encoder._inference._sessions) == 0


@settings(max_examples=20, deadline=None)
@given(few=st.lists(pairs, min_size=2, max_size=3), threshold=thresholds)
def test_few_pairs_run_one_after_the_other_or_those_without_words_the_general_way(few, threshold):
    case = make_pair_case("bert", "mean", [-1, 0, 3])
    inputs = inputs_of(few, BY_TYPE_IDS)
    output = _run(case, _rule(case, threshold), inputs)
    _assert_equals_plain(case, inputs, output, threshold, None)


@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9, 1.0])
def test_how_far_the_graph_runs_is_for_the_exit_rule_to_judge(threshold, answers, monkeypatch):
    case = make_case("bert", "mean", [0, 1, 2, 3])
    inputs = random_inputs([7])
    wanted = _run(case, _rule(case, threshold), inputs)
    monkeypatch.setattr(one_text_session, "_ROUNDING", -2.0)  # as if no exit were confident
    too_far = _run(case, _rule(case, threshold), inputs)
    assert (
        answers[1].exit_index.tolist() == wanted.exit_index.tolist() == too_far.exit_index.tolist()
    )
    torch.testing.assert_close(too_far.probs, wanted.probs, atol=1e-6, rtol=0)


def test_a_confidence_just_below_the_threshold_goes_on_the_general_way(answers):
    case = make_case("bert", "mean", [0, 3])
    inputs = random_inputs([7])
    confidence = float(_run(case, _rule(case, 0.0), inputs).confidence)
    output = _run(case, _rule(case, confidence + 5e-6), inputs)
    assert answers[0] is not None and answers[1] is None
    assert output.exit_index.tolist() == [1]


@needs_layout
@pytest.mark.parametrize("threshold", [0.0, 0.9, 1.0])
def test_weights_that_are_given_up_are_not_needed(threshold, answers):
    case = make_case("bert", "mean", [0, 3])
    inputs = random_inputs([7])
    wanted = _run(case, _rule(case, threshold), inputs)
    case = replace(case, encoder=deepcopy(case.encoder))
    make_session_of_one_text(case.encoder, case.exits)
    case.encoder.give_up_weights(case.exits.exit_layers)
    found = _run(case, _rule(case, threshold), inputs)
    assert answers[1] is not None
    torch.testing.assert_close(found.probs, wanted.probs, atol=1e-6, rtol=0)


def test_one_session_serves_all_thresholds_and_calibrations(answers):
    case = make_case("bert", "mean", [0, 2, 3])
    case.encoder.forget_layout()
    for threshold in (0.5, 1.0):
        for combination in (None, [[1.0, 0, 0], [1.0, 1.0, 0], [0, 1.0, 1.0]]):
            _run(case, _rule(case, threshold, combination=combination), random_inputs([7]))
    assert len(case.encoder._inference._sessions) == 1
    assert len(answers) == 4 and None not in answers


def test_hooks_on_exits_see_them_at_work(answers):
    case = make_case("bert", "mean", [0, 2, 3])
    seen = []
    hook = case.exits.classifiers[1].linear.register_forward_hook(lambda *x: seen.append(x))
    _run(case, _rule(case, 1.0), random_inputs([7]), record_exits=False)
    assert answers == [None]
    hook.remove()
    _run(case, _rule(case, 1.0), random_inputs([7]))
    assert answers[1] is not None


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("combination", [None, [[1.0, 0, 0], [1.0, 1.0, 0], [0, 1.0, 1.0]]])
def test_what_is_no_number_or_very_large_takes_the_general_way(weight, combination, answers):
    case = make_case("bert", "mean", [0, 2, 3])
    inputs = random_inputs([7])
    linear = case.exits.classifiers[1].linear
    before = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight.fill_(weight)
    try:
        rule = _rule(case, 0.9999999, combination=combination)
        fast, general = _run(case, rule, inputs), _run(case, rule, inputs, record_exits=True)
    finally:
        with torch.no_grad():
            linear.weight.copy_(before)
    assert answers == [None]
    assert fast.exit_index.tolist() == general.exit_index.tolist()
    torch.testing.assert_close(fast.probs, general.probs, equal_nan=True)


@pytest.mark.parametrize(
    "name", ["alignment.project", "alignment.compare", "alignment.norm", "token_features.project"]
)
def test_a_part_of_an_exit_is_seen_at_work_and_its_changed_weights_are_used(name, answers):
    if name.startswith("alignment"):
        case, inputs = make_pair_case(), inputs_of(PAIRS[:1], BY_TYPE_IDS)
    else:
        case = make_case("bert", "mean", [-1, 0, 2, 3], token_features=6)
        inputs = random_inputs([7])
    before = _run(case, _rule(case, 1.0), inputs)
    module = case.exits.classifiers[-1].get_submodule(name)
    with torch.no_grad():
        module.bias += 1
    changed = _run(case, _rule(case, 1.0), inputs)
    seen = []
    hook = module.register_forward_hook(lambda *x: seen.append(x))
    hooked = _run(case, _rule(case, 1.0), inputs)
    hook.remove()
    with torch.no_grad():
        module.bias -= 1
    assert [answer is None for answer in answers] == [False, False, True] and len(seen) == 1
    assert (changed.logits - before.logits).abs().max() > 1e-3
    torch.testing.assert_close(changed.logits, hooked.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_pair_without_numbers_takes_the_general_way(weight, answers):
    case = make_pair_case()
    inputs = inputs_of(PAIRS[:1], BY_TYPE_IDS)
    scale = case.exits.classifiers[0].alignment.scale
    before = scale.detach().clone()
    with torch.no_grad():
        scale.fill_(weight)
    try:
        output = _run(case, _rule(case, 0.0), inputs)
        general = _run(case, _rule(case, 0.0), inputs, record_exits=True)
    finally:
        with torch.no_grad():
            scale.copy_(before)
    assert answers == [None]
    torch.testing.assert_close(output.probs, general.probs, equal_nan=True)


@pytest.mark.parametrize(
    "family, norm",
    [
        ("bert", "embeddings.LayerNorm"),
        pytest.param("modernbert", "final_norm", marks=needs_modernbert),
        pytest.param("modernbert", "layers.2.attn_norm", marks=needs_modernbert),
    ],
)
def test_changed_norms_are_used(family, norm, answers):
    case = make_case(family, "mean", [0, 3])
    inputs = random_inputs([7])
    before = _run(case, _rule(case, 1.0), inputs)
    weight = case.encoder.transformer.get_submodule(norm).weight
    with torch.no_grad():
        weight[:16] *= 2
    changed = _run(case, _rule(case, 1.0), inputs)
    general = _run(case, _rule(case, 1.0), inputs, record_exits=True)
    with torch.no_grad():
        weight[:16] /= 2
    assert len(answers) == 2 and None not in answers
    assert (changed.logits - before.logits).abs().max() > 1e-3
    torch.testing.assert_close(changed.logits, general.logits, atol=1e-5, rtol=0)


def test_changed_weights_of_exits_are_used(answers):
    case = make_case("bert", "mean", [0, 3])
    inputs = random_inputs([7])
    bias = case.exits.classifiers[1].linear.bias
    before = _run(case, _rule(case, 1.0), inputs)
    with torch.no_grad():
        bias += 1
    changed = _run(case, _rule(case, 1.0), inputs)
    with torch.no_grad():
        bias -= 1
    assert len(answers) == 2 and None not in answers
    torch.testing.assert_close(changed.logits, before.logits + 1, atol=1e-5, rtol=0)
