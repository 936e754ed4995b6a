"""From texts to answers: two threads, one that makes tokens and one that runs layers.

One process does, because what takes time runs without Python's lock: tokenising, and the products
of layers, on as many cores as there are. Several processes would need the model several times, and
could not run each other's texts together.
"""

import math
import threading
from collections import deque
from functools import partial
from typing import Callable, Deque, List, Optional, Sequence, Tuple

import torch

from sledgehammer_allennlp.archives.archived_classifier import ArchivedClassifier, as_dicts
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.encoders.token_batch import TokenBatch
from sledgehammer_allennlp.encoders.tokenizing import tokenize
from sledgehammer_allennlp.engine import EarlyExitOutput
from sledgehammer_allennlp.engine.requests import Request
from sledgehammer_allennlp.engine.scheduler import Scheduler
from sledgehammer_allennlp.engine.windows import NO_PAIRS, TextsInWindows
from sledgehammer_allennlp.serving.jobs import Job as Job
from sledgehammer_allennlp.serving.jobs import Piece, Reading, of_each
from sledgehammer_allennlp.serving.jobs import Question as Question
from sledgehammer_allennlp.serving.jobs import Texts as Texts
from sledgehammer_allennlp.serving.latency import LatencyControl, Speed
from sledgehammer_allennlp.serving.refusal import (
    CLOSING,
    FAILED,
    OVERLOADED,
    TOO_LARGE,
    Refusal,
    bad_value,
)

TOKENS_AT_A_TIME = 512
"""
What runs together by default: with more, a step takes longer and a layer's products hardly gain.
"""

_TEXTS_OF_A_PIECE = 32
_PIECES_AT_A_TIME = 2
_TEXTS_TOKENIZED_TOGETHER = 128


class Answerer:
    """
    Answers jobs of any number of threads.

    # Parameters

    classifier : `ArchivedClassifier`
        In evaluation mode, with a tokenizer. Not to be changed any more.
    control : `LatencyControl`
    token_budget : `int`, optional (default = `TOKENS_AT_A_TIME` on a CPU, else by the device)
        About how many tokens run together.
    max_queued_tokens : `int`, optional (default = 200,000)
        When so many wait, new jobs are refused.
    on_step : optional
        Called after each step of the layers with its seconds.
    in_thread : `bool`, optional (default = `True`)
        Whether layers run in a thread of their own. Otherwise the main thread is to call
        `run_layers`, which is faster: OpenMP has a team of threads for each thread that uses it,
        and where it counts more of them in all than there are cores, they wait for each other
        without spinning. So that there is one team, others are then given one thread.
    """

    def __init__(
        self,
        classifier: ArchivedClassifier,
        control: LatencyControl,
        token_budget: Optional[int] = None,
        max_queued_tokens: int = 200_000,
        on_step: Callable[[float], None] = lambda seconds: None,
        in_thread: bool = True,
    ) -> None:
        if classifier.tokenizer is None:
            raise ValueError(
                "how the archive's reader makes tokens is not known without AllenNLP: wanted a "
                "reader that only tokenises"
            )
        self.max_tokens = classifier.max_tokens
        """Of a text, or of a pair together; more are cut off."""
        self.cut = CutTexts(self.max_tokens)
        """Counts the texts that are."""
        self.classifier = classifier
        self.control = control
        self._max_queued_tokens = max_queued_tokens
        self._on_step = on_step
        if token_budget is None and classifier.encoder.device.type == "cpu":
            token_budget = TOKENS_AT_A_TIME
        self._scheduler = Scheduler(
            classifier.encoder, classifier.exits, classifier.rule(), token_budget
        )
        self._speed = Speed()
        self._tokens_per_text = 32.0
        self._changed = threading.Condition()  # of what follows
        self._jobs: Deque[Job] = deque()
        self._to_read_on: Deque[Reading] = deque()
        self._num_texts_left = 0
        self._num_jobs_open = 0
        self._is_closed = False
        self._layers_have_ended = threading.Event()
        self._tokenizing = threading.Thread(
            target=self._tokenize_jobs, args=(in_thread,), name="tokenizing", daemon=True
        )
        self._tokenizing.start()
        if in_thread:
            threading.Thread(target=self.run_layers, name="layers", daemon=True).start()

    @property
    def num_queued_tokens(self) -> int:
        """Of all texts that are not answered yet; of those without tokens yet, about."""
        return self._scheduler.texts.num_tokens + int(self._num_texts_left * self._tokens_per_text)

    @property
    def expected_wait(self) -> float:
        """Of a new text, in seconds. What it need not wait for, of large jobs, is not counted."""
        not_tokenized = sum(min(job.num_left, _TEXTS_OF_A_PIECE) for job in list(self._jobs))
        return self._seconds_for(not_tokenized)

    def _seconds_for(self, not_tokenized: int) -> float:
        """Of computing, for the texts that have tokens and are open, and so many others."""
        texts = self._scheduler.texts
        num_tokens = texts.num_tokens + not_tokenized * self._tokens_per_text
        return self._speed.seconds_for(len(texts) + not_tokenized, num_tokens)

    @property
    def threshold(self) -> float:
        """That of a text that comes now, without one of its own."""
        return self.control.threshold(self.expected_wait)

    def submit(self, job: Job) -> None:
        """
        Takes a job, which is done some time later.

        # Raises

        Refusal
            If there is too much to do, the service is closing, or there are pairs and windows.
        """
        has_pairs = any(len(question.texts) > 1 for question in job.questions)
        if has_pairs and self.classifier.windows is not None:
            raise bad_value(NO_PAIRS)
        wait = self.expected_wait
        is_full = self.num_queued_tokens >= self._max_queued_tokens
        if is_full or self.control.refuses(wait):
            after = max(1, math.ceil(self._seconds_for(self._num_texts_left)))
            raise Refusal(
                OVERLOADED,
                f"too much is waiting, about {self.num_queued_tokens} tokens: try again in {after} "
                "s",
                after,
            )
        with self._changed:
            if self._is_closed:
                raise Refusal(CLOSING, "the service is shutting down and takes no more requests", 1)
            self._num_jobs_open += 1
            self._num_texts_left += job.num_left
            self._jobs.append(job)
            self._changed.notify()

    def drop(self, job: Job) -> None:
        """Nobody waits for this job any more: it is run no further, and is never done."""
        with self._changed:
            if job.is_dropped or job._num_open == 0:
                return
            job.is_dropped = True
            self._take_out(job)
        for request in list(job._requests):
            self._scheduler.drop(request)

    def close(self) -> None:
        """Takes no more jobs; returns when those that were taken are answered."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._tokenizing.join()
        self._layers_have_ended.wait()

    def run_layers(self) -> None:
        """Runs layers until it is closed and all that was taken is answered."""

        def after_step(seconds: float, num_texts: int, num_tokens: int) -> None:
            self._speed.measured(seconds, num_texts, num_tokens)
            self._on_step(seconds)

        try:
            self._scheduler.run(after_step)
        finally:
            self._layers_have_ended.set()

    def _tokenize_jobs(self, layers_in_thread: bool) -> None:
        if not layers_in_thread:
            torch.set_num_threads(1)  # of this thread, and of those that have used none yet
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._jobs
                        or self._to_read_on
                        or (self._is_closed and not self._num_jobs_open)
                    )
                )
                readings = [*self._to_read_on]
                self._to_read_on.clear()
                if not self._jobs and not readings:
                    break
                pieces = self._take_pieces()
            try:
                for reading in readings:
                    self._read_on(reading)
                self._start(pieces)
            except Exception as error:  # whatever a tokenizer raises
                for piece in [*pieces, *(reading.piece for reading in readings)]:
                    self._fail(piece.job, error)
        self._scheduler.close()

    def _take_pieces(self) -> List[Piece]:
        """Pieces of the jobs that wait, each in turn. A job's next waits until one is done."""
        pieces: List[Piece] = []
        num_texts = 0
        while self._jobs and num_texts < _TEXTS_TOKENIZED_TOGETHER:
            job = self._jobs.popleft()
            questions = job.questions[job._next : job._next + _TEXTS_OF_A_PIECE]
            number = len(job._answers)
            job._answers.append([])
            job._next += len(questions)
            num_texts += len(questions)
            self._num_texts_left -= len(questions)
            pieces.append(Piece(job, number, questions))
            if job.num_left and number + 1 < _PIECES_AT_A_TIME:
                self._jobs.append(job)
        return pieces

    def _start(self, pieces: List[Piece]) -> None:
        """Tokenises pieces and gives them to the scheduler."""
        threshold = self.threshold
        pieces = [piece for piece in pieces if not piece.job.is_dropped]
        questions = [question for piece in pieces for question in piece.questions]
        if not questions:
            return
        texts, too_long = self._tokens(questions)
        self._tokens_per_text += 0.05 * (
            float(texts.lengths.float().mean()) - self._tokens_per_text
        )
        if too_long:
            self._refuse_long(pieces, too_long)
            places = torch.tensor(
                [
                    place
                    for place, (piece, _) in enumerate(of_each(pieces))
                    if piece.job.error is None
                ],
                dtype=torch.long,
            )
            texts = texts.select(places)
            pieces = [piece for piece in pieces if piece.job.error is None]
        requests = []
        first_text = 0
        for piece in pieces:
            thresholds = [
                threshold if q.threshold is None else q.threshold for q in piece.questions
            ]
            if self.classifier.windows is not None:
                places = torch.arange(first_text, first_text + len(thresholds))
                first_text += len(thresholds)
                self._read_on(self._reading(piece, texts.select(places), thresholds))
                continue
            request = Request(thresholds, partial(self._done, piece))
            piece.job._requests.append(request)
            requests.append(request)
        if requests:
            self._scheduler.add(requests, texts)
        for request, piece in zip(requests, pieces):
            if piece.job.is_dropped:  # meanwhile
                self._scheduler.drop(request)

    def _reading(self, piece: Piece, texts: TokenBatch, thresholds: Sequence[float]) -> Reading:
        classifier = self.classifier
        assert classifier.windows is not None
        num_exits = len(classifier.exits.exit_layers)
        in_windows = TextsInWindows(
            texts, classifier.windows, thresholds, classifier.rule().measure, num_exits
        )
        return Reading(piece, in_windows, thresholds)

    def _read_on(self, reading: Reading) -> None:
        """Gives the next windows of a piece to the scheduler."""
        job, texts = reading.piece.job, reading.texts
        thresholds = [reading.thresholds[text] for text in texts.active]
        request = Request(thresholds, partial(self._read, reading))
        job._requests.append(request)
        self._scheduler.add([request], texts.next_windows())
        if job.is_dropped:
            self._scheduler.drop(request)

    def _read(self, reading: Reading, request: Request) -> None:
        """Windows are classified: the next are to be read, or their texts are answered."""
        if request.error is not None:
            self._fail(reading.piece.job, request.error)
            return
        reading.texts.add(request.output())
        if not reading.texts.active:
            self._answer(reading.piece, reading.texts.output(), reading.thresholds, request)
            return
        with self._changed:
            # Not at once: what exits at the n-grams is done while it is added.
            reading.piece.job._requests.remove(request)
            self._to_read_on.append(reading)
            self._changed.notify()

    def _tokens(self, questions: Sequence[Question]) -> Tuple[TokenBatch, List[int]]:
        """Of all questions, and which of them are too long and to be refused for it."""
        tokenizer = self.classifier.tokenizer
        assert tokenizer is not None
        too_long = []
        for place, question in enumerate(questions):
            if question.refuse_long:
                second = list(question.texts[1:]) or None
                limit = self.max_tokens
                length = tokenize(tokenizer, question.texts[:1], second, limit + 1).lengths[0]
                if length > limit:
                    too_long.append(place)
        singles = [i for i, question in enumerate(questions) if len(question.texts) == 1]
        pairs = [i for i, question in enumerate(questions) if len(question.texts) == 2]
        self.cut.add(-len(too_long), -len(too_long))  # they are refused
        of_singles = self.classifier.tokenize(
            [questions[i].texts[0] for i in singles], cut=self.cut
        )
        if not pairs:
            return of_singles, too_long
        of_pairs = self.classifier.tokenize(
            [questions[i].texts[0] for i in pairs],
            [questions[i].texts[1] for i in pairs],
            self.cut,
        )
        if not singles:
            return of_pairs, too_long
        together = TokenBatch(
            torch.cat([of_singles.token_ids, of_pairs.token_ids]),
            torch.cat([of_singles.type_ids, of_pairs.type_ids]),
            torch.cat([of_singles.lengths, of_pairs.lengths]),
        )
        return together.select(torch.tensor(singles + pairs).argsort()), too_long

    def _refuse_long(self, pieces: List[Piece], too_long: List[int]) -> None:
        for place, (piece, _) in enumerate(of_each(pieces)):
            if place in too_long:
                message = (
                    f"a text has more than {self.max_tokens} tokens, and 'truncate' is false: "
                    "wanted a shorter one, or 'truncate' true"
                )
                self._end(piece.job, Refusal(TOO_LARGE, message))

    def _done(self, piece: Piece, request: Request) -> None:
        if request.error is not None:
            self._fail(piece.job, request.error)
            return
        self._answer(piece, request.output(), request.thresholds, request)

    def _answer(
        self, piece: Piece, output: EarlyExitOutput, thresholds: Sequence[float], request: Request
    ) -> None:
        """The answers to a piece, whose last request is done."""
        job, classifier = piece.job, self.classifier
        exit_layers = classifier.exits.exit_layers
        answers = as_dicts(output, exit_layers, classifier.labels, classifier.abstain_below)
        if output.windows is not None:
            job.windows_exits.update(dict(zip(exit_layers, output.windows.exits.sum(0).tolist())))
        for answer, threshold in zip(answers, thresholds):
            answer["threshold"] = threshold
        job._answers[piece.number] = answers
        if job.started_at is None:
            job.started_at = request.started_at
        with self._changed:
            job._requests.remove(request)
            job._num_open -= len(answers)
            is_done = job._num_open == 0
            if job.num_left and job not in self._jobs:
                self._jobs.append(job)
                self._changed.notify_all()
        if is_done:
            self._end(job)

    def _fail(self, job: Job, error: BaseException) -> None:
        reason = f"the request failed by an error of the service ({type(error).__name__})"
        self._end(job, Refusal(FAILED, reason))

    def _end(self, job: Job, error: Optional[Refusal] = None) -> None:
        """Once for each job that is not dropped."""
        with self._changed:
            if job.is_dropped:
                return
            job.error = error
            job.is_dropped = error is not None
            self._take_out(job)
        if error is not None:
            for request in list(job._requests):
                self._scheduler.drop(request)
        job._on_done(job)

    def _take_out(self, job: Job) -> None:
        """A job of which nothing more is to be run; `_changed` is held."""
        if job.num_left and job in self._jobs:
            self._jobs.remove(job)
        self._num_texts_left -= job.num_left
        job._next = len(job.questions)
        self._num_jobs_open -= 1
        self._changed.notify_all()
