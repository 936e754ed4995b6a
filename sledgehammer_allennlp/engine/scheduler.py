"""What runs next, where requests come and go: texts of different requests go on together.

A step takes a batch to its next exit. Which batch, in this order:

1. Survivors that were passed over by `max_passed` steps, the longest waiting first. So nothing
   starves: a text waits at an exit for at most `max_passed` steps and one for each exit.
2. Survivors of the deepest exit with more than half a token budget of them.
3. Texts that are new, up to the token budget: one of each request in turn, then the next of each,
   so that a request of many texts does not hold up one of few.
4. Survivors of the first exit that has any. On their way they meet those of later exits.

But where no survivors wait and no more than `ONE_BY_ONE` requests of one text are new, they run
one after the other, each from exit to exit in one step, if they can by `one_text`: so few gain
little or nothing by company, and the first would wait for the others.

So a text that comes alone runs at once; many that come while a step runs start together in the
next; and survivors wait for company only while there is something else to do.
"""

import threading
import time
from collections import deque
from dataclasses import replace
from typing import Callable, Deque, Dict, List, Optional, Sequence

import torch

from sledgehammer_allennlp.encoders import LayeredEncoder
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.engine.active_instances import ActiveInstances
from sledgehammer_allennlp.engine.chunks import default_token_budget, sort_by_length
from sledgehammer_allennlp.engine.early_exit import FEW_TOKENS, decide_by_ngrams, run_to_exit
from sledgehammer_allennlp.engine.exit_decisions import ExitDecisions
from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.one_text import decide_one_by_ngrams, run_one_text
from sledgehammer_allennlp.engine.output import EarlyExitOutput
from sledgehammer_allennlp.engine.regrouping import WaitingSurvivors
from sledgehammer_allennlp.engine.requests import OpenTexts, Request, RequestDecisions
from sledgehammer_allennlp.exits.classifiers import (
    ExitClassifiers,
    ExitScores,
    concatenate_scores,
)

ONE_BY_ONE = 8
"""
So many new requests of one text, or fewer, run one after the other. On two cores, MiniLM-L6, two
took 0.8 to 1.0 of the time that they took together, four 1.1 to 1.4, eight 1.3 to 1.7. Yet under
loads near the most that can be held, 99 % were answered in half to two thirds of the time that they
took with 1; 16 were no better.
"""


class _NewTexts:
    """Texts of a request that have not entered layer 0 yet."""

    def __init__(
        self, texts: TokenBatch, numbers: torch.Tensor, scores: List[Optional[ExitScores]]
    ) -> None:
        self.texts = texts
        self.numbers = numbers
        self.scores = scores
        self._lengths: List[int] = texts.lengths.tolist()
        self._first = 0  # of those that are left

    def __len__(self) -> int:
        return len(self._lengths) - self._first

    def num_tokens(self, place: int) -> int:
        """Of the text at a place among those that are left."""
        return self._lengths[self._first + place]

    def take(self, num_texts: int) -> "_NewTexts":
        """The first of those that are left, which then are left no more."""
        places = torch.arange(self._first, self._first + num_texts)
        self._first += num_texts
        scores = [one and one.select(places) for one in self.scores]
        return _NewTexts(self.texts.select(places), self.numbers[places], scores)

    @staticmethod
    def embed(
        parts: List["_NewTexts"], encoder: LayeredEncoder, exits: ExitClassifiers
    ) -> ActiveInstances:
        """Texts of several requests as one batch, sorted by length."""
        batches = [part.texts for part in parts]
        order, texts = sort_by_length(
            TokenBatch(
                torch.cat([batch.token_ids for batch in batches]),
                torch.cat([batch.type_ids for batch in batches]),
                torch.cat([batch.lengths for batch in batches]),
            ).to(encoder.device)
        )
        numbers = torch.cat([part.numbers for part in parts])[order].to(encoder.device)
        scores: List[Optional[ExitScores]] = []
        for of_exit in zip(*(part.scores for part in parts)):
            found = [one for one in of_exit if one is not None]
            together = concatenate_scores(found).select(order) if found else None
            scores.append(together and together.map(lambda part: part.to(encoder.device)))
        return ActiveInstances.embed(encoder, exits, texts, numbers, scores)


def _by_request(requests: Sequence[Request], together: _NewTexts) -> List[_NewTexts]:
    """The texts of each request that has any left."""
    if len(requests) == 1:
        return [together] if len(together) else []
    parts = []
    numbers = together.numbers.tolist()
    first = 0
    for request in requests:
        last = first
        while last < len(numbers) and numbers[last] in request.numbers:
            last += 1
        if last > first:
            parts.append(together.take(last - first))
        first = last
    return parts


class Scheduler:
    """
    Runs the texts of many requests, each with its own threshold. Any thread may add requests; one
    thread runs `run`, or `step`. An answer does not depend on which other requests there are, up to
    rounding.

    # Parameters

    encoder : `LayeredEncoder`
        In evaluation mode; weights, precision and hooks are not to be changed any more.
    exits : `ExitClassifiers`
    rule : `ExitRule`
        Its threshold makes no difference: each request has one.
    token_budget : `int`, optional (default = by device and model, see `default_token_budget`)
        About how many tokens run together. A step takes the longer, the more there are.
    max_passed : `int`, optional (default = 1)
        After how many steps of others survivors go on, however few they are. More gave hardly more
        throughput, and longer waits of what exits late.
    clock : optional (default = `time.monotonic`)
    """

    def __init__(
        self,
        encoder: LayeredEncoder,
        exits: ExitClassifiers,
        rule: ExitRule,
        token_budget: Optional[int] = None,
        max_passed: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encoder = encoder
        self._exits = exits
        self._rule = rule
        self._num_exits = len(exits.exit_layers)
        self._token_budget = token_budget or default_token_budget(encoder)
        self._few_tokens = min(FEW_TOKENS, self._token_budget // 4)
        self._max_passed = max_passed
        self._clock = clock
        self.texts = OpenTexts()
        self._decisions = RequestDecisions(exits, rule, self.texts)
        self._changed = threading.Condition()  # of the two that follow
        self._new: Deque[_NewTexts] = deque()
        self._is_closed = False
        self._survivors = WaitingSurvivors(self._num_exits)
        self._waiting_since: Dict[int, int] = {}  # by next exit, the step
        self.num_steps = 0
        self.num_texts_done = self.num_tokens_done = 0
        """All texts that exited in a step, and their tokens."""
        with torch.inference_mode():
            encoder.prepare()

    def add(self, requests: Sequence[Request], texts: TokenBatch) -> None:
        """
        The tokens of the texts of some requests, on the CPU. Those that exit at the n-grams do so
        at once, in the thread that calls.

        # Raises

        RuntimeError
            If the scheduler is closed.
        """
        if self._is_closed:
            raise RuntimeError("the scheduler is closed")
        texts = self._encoder.truncate(texts)
        numbers = self.texts.add(requests, texts.lengths.tolist())
        with torch.inference_mode():
            at_ngrams = None
            if len(texts) == 1:
                rule = replace(self._rule, threshold=requests[0].thresholds[0])
                at_ngrams = decide_one_by_ngrams(self._exits, rule, texts, self._decisions)
            if at_ngrams is None:
                texts, numbers, scores = decide_by_ngrams(
                    texts, self._exits, self._decisions, numbers
                )
            elif at_ngrams.output is not None:
                self._answer_one(numbers, at_ngrams.output)
                return
            else:
                scores = at_ngrams.scores
        parts = _by_request(requests, _NewTexts(texts, numbers, scores))
        with self._changed:
            self._new.extend(parts)
            self._changed.notify()

    def drop(self, request: Request) -> None:
        """Nobody waits for this request any more: it is not run further, and is never done."""
        self.texts.drop(request)

    def close(self) -> None:
        """From now on no request is added. `run` ends when those that were are answered."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def run(
        self,
        after_step: Callable[[float, int, int], None] = lambda seconds, num_texts, num_tokens: None,
    ) -> None:
        """
        Steps until it is closed and all is answered.

        # Parameters

        after_step : optional
            Called after each step with its seconds, the number of texts that exited, and that of
            their tokens.
        """
        while True:
            began, texts, tokens = self._clock(), self.num_texts_done, self.num_tokens_done
            if self.step():
                after_step(
                    self._clock() - began,
                    self.num_texts_done - texts,
                    self.num_tokens_done - tokens,
                )
                continue
            with self._changed:
                if not self._new and self._is_closed:
                    return
                self._changed.wait_for(lambda: self._new or self._is_closed)

    def step(self) -> bool:
        """Takes a batch to its next exit; `False` if there was none. Requests it fails at, fail."""
        with torch.inference_mode():
            return self._step()

    def _step(self) -> bool:
        next_exit = self._next_exit_of_survivors()
        if next_exit is not None:
            batch = self._taken_survivors(next_exit)
        else:
            if not self._waiting_since and self._run_first_of_few():
                return True
            new = self._take_new()
            if not new:
                return False
            next_exit = self._exits.num_fitted
            batch = self._embedded(new)
        if batch is not None:
            numbers, num_tokens = batch.indices.tolist(), batch.num_tokens
            try:
                survivors = run_to_exit(batch, next_exit, self._decisions, self._few_tokens)
            except Exception as error:  # of torch, out of memory for example
                self._fail(numbers, error)
                survivors = None
            self.num_steps += 1
            self.num_texts_done += len(numbers) - (len(survivors.indices) if survivors else 0)
            self.num_tokens_done += num_tokens - (survivors.num_tokens if survivors else 0)
            if survivors is not None:
                self._survivors.add(next_exit + 1, survivors)
                self._waiting_since.setdefault(next_exit + 1, self.num_steps)
        return True

    def _next_exit_of_survivors(self) -> Optional[int]:
        """Of the survivors that run next; `None` if it is the turn of new texts."""
        if not self._waiting_since:
            return None
        oldest = min(self._waiting_since, key=self._waiting_since.__getitem__)
        if self.num_steps - self._waiting_since[oldest] >= self._max_passed:
            return oldest
        for next_exit in sorted(self._waiting_since, reverse=True):
            if self._survivors.num_tokens(next_exit) > self._token_budget // 2:
                return next_exit
        return None if self._new else min(self._waiting_since)

    def _take_new(self) -> List[_NewTexts]:
        """Up to a token budget of new texts, one at least, of each request in turn."""
        taken: Dict[_NewTexts, int] = {}
        left = self._token_budget
        with self._changed:
            while self._new:
                new = self._new[0]
                num_tokens = new.num_tokens(taken.get(new, 0))
                if taken and num_tokens > left:
                    break
                left -= num_tokens
                taken[new] = taken.get(new, 0) + 1
                self._new.popleft()
                if taken[new] < len(new):
                    self._new.append(new)
        return [new.take(num_texts) for new, num_texts in taken.items()]

    def _run_first_of_few(self) -> bool:
        """Runs the first of few new texts to its exit; `False` if they take the general way."""
        with self._changed:
            are_few = 1 <= len(self._new) <= ONE_BY_ONE
            if not are_few or any(len(new) > 1 for new in self._new):
                return False
            first = self._new.popleft()
        if self._run_alone(first):
            return True
        with self._changed:
            self._new.appendleft(first)
        return False

    def _run_alone(self, new: _NewTexts) -> bool:
        """Runs one text to its exit; `False` if it is to take the general way."""
        numbers: List[int] = new.numbers.tolist()
        if not all(self.texts.are_open(numbers)):
            return False
        self._mark_as_started(numbers)
        rule = replace(self._rule, threshold=self.texts.thresholds(numbers)[0])
        decisions = ExitDecisions(self._exits, rule, record_exits=False, forced_exits=None)
        try:
            output = run_one_text(
                self._encoder, self._exits, rule, new.texts, new.scores, decisions
            )
        except Exception as error:
            self._fail(numbers, error)
            return True
        if output is None:
            return False
        self.num_steps += 1
        self.num_texts_done += 1
        self.num_tokens_done += new.texts.token_ids.numel()
        self._answer_one(new.numbers, output)
        return True

    def _answer_one(self, numbers: torch.Tensor, output: EarlyExitOutput) -> None:
        row = (output.logits[0], output.probs[0], output.confidence[0], output.exit_index[0])
        self.texts.answer(numbers.tolist(), [row])

    def _embedded(self, new: List[_NewTexts]) -> Optional[ActiveInstances]:
        """New texts as a batch, without those of requests that were dropped."""
        numbers = [number for part in new for number in part.numbers.tolist()]
        self._mark_as_started(numbers)
        try:
            return self._without_dropped(_NewTexts.embed(new, self._encoder, self._exits))
        except Exception as error:
            self._fail(numbers, error)
            return None

    def _taken_survivors(self, next_exit: int) -> Optional[ActiveInstances]:
        """Those that wait for an exit as a batch, without those of requests that were dropped."""
        del self._waiting_since[next_exit]
        numbers = self._survivors.indices(next_exit)
        try:
            batch = self._survivors.take_if_enough(next_exit, more_than=0)
            assert batch is not None
            return self._without_dropped(batch)
        except Exception as error:  # memory, for example, in which to lay them together
            self._fail(numbers, error)
            return None

    def _mark_as_started(self, numbers: List[int]) -> None:
        for request in self.texts.requests(numbers):
            if request.started_at is None:
                request.started_at = self._clock()

    def _without_dropped(self, batch: ActiveInstances) -> Optional[ActiveInstances]:
        are_open = self.texts.are_open(batch.indices.tolist())
        if all(are_open):
            return batch
        if not any(are_open):
            return None
        batch.compact(torch.tensor(are_open).nonzero().squeeze(1).to(batch.indices.device))
        return batch

    def _fail(self, numbers: List[int], error: Exception) -> None:
        for request in self.texts.requests(numbers):
            self.texts.drop(request, error)
