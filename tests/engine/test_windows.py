"""Texts read in windows, against the definition written out, window by window."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.engine import Windows, run_early_exit
from sledgehammer_allennlp.engine.windows import TextsInWindows, check_windows, read_in_windows
from sledgehammer_allennlp.exits.confidence import confidence_by_name
from tests.engine.plain_computation import make_case, plain_logits, plain_rule, rule, token_budgets

MAX_PROBABILITY = confidence_by_name("max_probability")


def windows_of(ids, size, stride):
    """By Python's slices."""
    pieces = ids[1:-1]
    found, begin = [], 0
    while True:
        found.append([*ids[:1], *pieces[begin : begin + size], *ids[1:][-1:]])
        if begin + size >= len(pieces):
            return found
        begin += stride


def plain_answer(case, windows, threshold):
    """Probabilities, exit of the last window read, exits of all, and how sure each step was."""
    logs, exits, confidences = [], [], []
    for window in windows:
        ids = torch.tensor([window])
        logits = plain_logits(case, ids, torch.ones_like(ids).bool(), torch.zeros_like(ids))
        probs, exit_index = plain_rule(logits, case.temperatures.numpy(), threshold)
        confidences += probs[:, 0].max(-1).tolist()
        exits.append(int(exit_index[0]))
        logs.append([math.log(p) for p in probs[exits[-1], 0]])
        powers = [math.exp(sum(of_label) / len(logs)) for of_label in zip(*logs)]
        found = [power / sum(powers) for power in powers]
        confidences.append(max(found))
        if threshold < 1 and max(found) >= threshold:
            break
    return found, exits, confidences


def texts_of_lengths(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 120, (n,), generator=generator).tolist() for n in lengths]


def read(case, ids, windows, threshold, token_budget=64):
    the_rule = rule(case.temperatures, MAX_PROBABILITY.function, threshold)

    def classify(texts):
        return run_early_exit(case.encoder, case.exits, the_rule, texts, token_budget)

    texts = TokenBatch.from_lists(ids)
    with torch.no_grad():
        return read_in_windows(classify, texts, windows, the_rule, len(case.exits.exit_layers))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(1, 12).flatmap(lambda size: st.tuples(st.just(size), st.integers(1, size))),
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.3, 1.0)),
    st.booleans(),
    token_budgets,
    st.integers(0, 100),
)
def test_predictions_equal_the_definition(
    lengths, size_and_stride, threshold, with_ngrams, token_budget, seed
):
    case = make_case("bert", "mean", [-1, 0, 2, 3], with_ngrams)
    ids = texts_of_lengths(lengths, seed)
    output = read(case, ids, Windows(*size_and_stride), threshold, token_budget)
    for i, text in enumerate(ids):
        windows = windows_of(text, *size_and_stride)
        probs, exits, confidences = plain_answer(case, windows, threshold)
        # A confidence within rounding of the threshold may fall on either side.
        assume(threshold in (0, 1) or np.abs(np.array(confidences) - threshold).min() > 1e-4)
        assert int(output.windows.numbers[i]) == len(windows)
        assert output.windows.exits[i].tolist() == np.bincount(exits, minlength=4).tolist()
        assert int(output.exit_index[i]) == exits[-1]
        np.testing.assert_allclose(output.probs[i].numpy(), probs, atol=1e-5)
        assert float(output.confidence[i]) == pytest.approx(max(probs), abs=1e-5)
        if len(exits) > 1:
            np.testing.assert_allclose(output.logits[i].softmax(-1).numpy(), probs, atol=1e-5)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_texts_of_one_window_are_answered_as_without_windows(threshold):
    case = make_case("roberta", "mean", [0, 2, 3])
    ids = texts_of_lengths([1, 2, 3, 12, 14])
    output = read(case, ids, Windows(12, 6), threshold)
    texts = TokenBatch.from_lists(ids)
    the_rule = rule(case.temperatures, MAX_PROBABILITY.function, threshold)
    with torch.no_grad():
        wanted = run_early_exit(case.encoder, case.exits, the_rule, texts, 64)
    for field in dataclasses.fields(wanted):
        if field.name not in ("windows", "exit_records"):
            assert torch.equal(getattr(output, field.name), getattr(wanted, field.name))
    assert output.windows.numbers.tolist() == output.windows.exits.sum(1).tolist() == [1] * 5


def test_at_threshold_one_all_windows_are_read_and_at_zero_one():
    case = make_case("bert", "mean", [-1, 0, 2, 3])
    ids = texts_of_lengths([40, 5, 23])
    for threshold, wanted in ((1.0, [8, 1, 4]), (0.0, [1, 1, 1])):
        output = read(case, ids, Windows(10, 4), threshold)
        assert output.windows.exits.sum(1).tolist() == wanted
        assert output.windows.numbers.tolist() == [8, 1, 4]


def test_no_texts_are_no_answers():
    case = make_case("bert", "mean", [0, 2, 3])
    output = read(case, [], Windows(10, 4), 0.5)
    assert output.logits.shape == (0, 3) and output.windows.exits.shape == (0, 3)


def test_pairs_are_refused():
    pair = TokenBatch.from_lists([[1, 7, 2, 8, 2]], [[0, 0, 0, 1, 1]])
    with pytest.raises(ValueError, match="windows are of single texts: found a pair"):
        TextsInWindows(pair, Windows(10, 4), [1.0], MAX_PROBABILITY, 3)
    with pytest.raises(ValueError, match="windows are of single texts: found a pair"):
        Windows(10, 4).first(pair)


def test_settings_that_fit_are_taken():
    assert check_windows(None, 64, MAX_PROBABILITY, 8) is None
    assert check_windows({"size": 62, "stride": 62}, 64, MAX_PROBABILITY, None) == Windows(62, 62)


@pytest.mark.parametrize(
    "value, confidence, alignment, message",
    [
        (256, "entropy", None, "windows is 256: wanted null, or a size and a stride"),
        ({"size": 9}, "entropy", None, "wanted null, or a size and a stride"),
        ({"size": 63, "stride": 9}, "entropy", None, "size at most 62"),
        ({"size": 9, "stride": 10}, "entropy", None, "stride from 1 to size"),
        ({"size": 9, "stride": 0}, "entropy", None, "stride from 1 to size"),
        ({"size": 9.0, "stride": 3}, "entropy", None, "whole numbers"),
        ({"size": True, "stride": True}, "entropy", None, "whole numbers"),
        ({"size": 9, "stride": 3, "x": 1}, "entropy", None, "wanted null, or a size and a stride"),
        ({"size": 9, "stride": 3}, "patience", None, "depends on probabilities alone"),
        ({"size": 9, "stride": 3}, "learned", None, "depends on probabilities alone"),
        ({"size": 9, "stride": 3}, "margin", 8, "alignment is 8, which is for pairs"),
    ],
)
def test_settings_that_do_not_fit_are_refused(value, confidence, alignment, message):
    with pytest.raises(ValueError, match=message):
        check_windows(value, 64, confidence_by_name(confidence), alignment)
