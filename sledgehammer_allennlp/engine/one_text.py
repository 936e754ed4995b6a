"""A text by itself: if short, in ONNX Runtime (`one_text_graph`); the rule in Python's numbers.

What an exit computes for one text is little, and so is what the exit rule does; a call of torch
takes longer than that, and there are some forty calls an exit. This is the same computation, for
the exits and rules that most models have; any other takes the general way.
"""

import math
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.onnx_layers import ONNXRUNTIME
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.engine.combination import Weights
from sledgehammer_allennlp.engine.exit_decisions import ExitDecisions
from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.one_text_session import OneTextSession, WordsOfPair
from sledgehammer_allennlp.engine.output import EarlyExitOutput
from sledgehammer_allennlp.exits.classifiers import ExitClassifiers, ExitScores
from sledgehammer_allennlp.exits.confidence import max_probability
from sledgehammer_allennlp.ngrams.one_text import score_one_text

_LARGEST = 1e30
"""Of logits; what is larger, or no number, takes the general way, which keeps sums finite."""


class AtNgrams(NamedTuple):
    """
    What the exit over n-grams makes of a text: its `output`, `None` if it stays active; and its
    `scores`, as `ActiveInstances.earlier_scores`, empty if it exits or there is no such exit.
    """

    output: Optional[EarlyExitOutput]
    scores: List[Optional[ExitScores]]


def decide_one_by_ngrams(
    exits: ExitClassifiers, rule: ExitRule, text: TokenBatch, decisions: ExitDecisions
) -> Optional[AtNgrams]:
    """
    The exit over n-grams for one text, if there is one.

    # Parameters

    exits : `ExitClassifiers`
    rule : `ExitRule`
        With the threshold of this text.
    text : `TokenBatch`
        Of one text.
    decisions : `ExitDecisions`
        Which scores make a difference, perhaps to others.

    # Returns

    `AtNgrams`, optional
        `None` if this model, rule or text is to take the general way.
    """
    ngrams = exits.ngrams
    if ngrams is None:
        return AtNgrams(None, [])
    if not decisions.needs_scores_of(0):
        return AtNgrams(None, [None])
    if text.token_ids.device.type != "cpu" or not _is_usual(exits, rule):
        return None
    scored = score_one_text(ngrams, text)
    if scored is None:
        return None
    if decisions.may_exit_at(0):
        answer = _answer(rule, [scored.logits], 0)
        if answer is None:
            return None
        if np.float32(scored.seen_share) < np.float32(rule.min_seen_share):
            answer = answer._replace(confidence=0.0)
        if decisions.is_last(0) or answer.is_confident(rule):
            return AtNgrams(answer.output(0), [])
    scores = ExitScores(torch.tensor([scored.logits]), seen_share=torch.tensor([scored.seen_share]))
    return AtNgrams(None, [decisions.for_later_exits(0, scores)])


def run_one_text(
    encoder: LayeredEncoder,
    exits: ExitClassifiers,
    rule: ExitRule,
    text: TokenBatch,
    scores: Sequence[Optional[ExitScores]],
    decisions: ExitDecisions,
) -> Optional[EarlyExitOutput]:
    """
    Runs a text that is still active after the exit over n-grams until it exits.

    # Parameters

    encoder : `LayeredEncoder`
    exits : `ExitClassifiers`
    rule : `ExitRule`
    text : `TokenBatch`
        Of one text.
    scores : `Sequence[Optional[ExitScores]]`
        Of the exit over n-grams, if there is one; `None` where no later exit depends on it.
    decisions : `ExitDecisions`
        Of this text alone: which scores make a difference.

    # Returns

    `EarlyExitOutput`, optional
        `None` if this model, rule or text is to take the general way.
    """
    if text.token_ids.device.type != "cpu" or not _is_usual(exits, rule):
        return None
    words = None
    if exits.pair_texts is not None:
        words = WordsOfPair.of(exits.pair_texts, text)
        if words is None:
            return None
    encoder.prepare()
    if not encoder.runs_in_onnx(text.lengths):
        return None
    session = OneTextSession.of(encoder, exits)
    if session is None:
        return None
    num_exits = len(exits.exit_layers)
    are_asked = [decisions.needs_scores_of(k) for k in range(num_exits)]
    logits = session.logits(
        encoder.embed_before_norm(text),
        [None if one is None else one.logits.tolist()[0] for one in scores],
        words,
        _weights(rule),
        are_asked,
        None if rule.never_early else rule.threshold,
    )
    for k in range(exits.num_fitted, len(logits)):
        if not decisions.may_exit_at(k):
            continue
        answer = _answer(rule, logits[: k + 1], k)
        if answer is None:
            return None
        if decisions.is_last(k) or answer.is_confident(rule):
            return answer.output(k)
    return None  # its confidence is at the threshold but for rounding


def runs_one_by_one(
    encoder: LayeredEncoder, exits: ExitClassifiers, rule: ExitRule, texts: TokenBatch
) -> bool:
    """Whether texts are faster one after the other, by `run_one_text`, than together."""
    # First the number of texts, which says no to most batches.
    may_run = encoder.runs_one_by_one(texts.lengths) and texts.token_ids.device.type == "cpu"
    return may_run and _is_usual(exits, rule)


def _weights(rule: ExitRule) -> Weights:
    """Of each exit, with which weights it combines the logits so far."""
    if rule.combination is not None:
        return rule.combination
    temperatures: List[float] = rule.temperatures.tolist()
    return [[0.0] * k + [1 / temperature] for k, temperature in enumerate(temperatures)]


@torch.no_grad()
def make_session_of_one_text(encoder: LayeredEncoder, exits: ExitClassifiers) -> None:
    """
    Makes now what `run_one_text` needs, before the encoder gives up its weights, if the runtime is
    `"onnxruntime"`.
    """
    encoder.prepare()
    if encoder.runtime == ONNXRUNTIME and _are_usual(exits):
        OneTextSession.of(encoder, exits)


def _is_usual(exits: ExitClassifiers, rule: ExitRule) -> bool:
    return _are_usual(exits) and rule.measure.function is max_probability and rule.ensemble is None


def _are_usual(exits: ExitClassifiers) -> bool:
    return (
        exits.pooling == "mean"
        and not exits.use_previous_logits
        and not exits.with_correctness
        and not exits.training
        and exits.dtype == torch.float32
        and not exits.has_hooks
    )


class _Answer(NamedTuple):
    logits: List[float]
    probs: List[float]
    confidence: float

    def is_confident(self, rule: ExitRule) -> bool:
        # Confidences are rounded: a threshold of 1 must not be compared.
        return not rule.never_early and bool(
            np.float32(self.confidence) >= np.float32(rule.threshold)
        )

    def output(self, exit_index: int) -> EarlyExitOutput:
        return EarlyExitOutput(
            torch.from_numpy(np.array([self.logits], np.float32)),
            torch.from_numpy(np.array([self.probs], np.float32)),
            torch.from_numpy(np.array([self.confidence], np.float32)),
            torch.from_numpy(np.array([exit_index], np.int64)),
            [],
        )


def _answer(
    rule: ExitRule, logits: Sequence[Optional[List[float]]], exit_index: int
) -> Optional[_Answer]:
    """What the rule predicts at an exit; `None` where logits are very large or not numbers."""
    own = logits[-1]
    assert own is not None
    if rule.combination is None:
        temperature = rule.temperatures.tolist()[exit_index]
        calibrated = [x / temperature for x in own]
    else:
        calibrated = [0.0] * len(own)
        for weight, one in zip(rule.combination[exit_index], logits):
            if weight != 0:
                assert one is not None
                mean = math.fsum(one) / len(one)
                calibrated = [x + weight * (y - mean) for x, y in zip(calibrated, one)]
        own = calibrated
    if not all(-_LARGEST < x < _LARGEST for x in calibrated):
        return None
    largest = max(calibrated)
    exponentials = [math.exp(x - largest) for x in calibrated]
    total = math.fsum(exponentials)
    probs = [x / total for x in exponentials]
    return _Answer(own, probs, max(probs))
