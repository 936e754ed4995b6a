"""What is to be answered: questions that came together, and the pieces in which they run."""

import time
from typing import Any, Callable, Counter, Dict, List, NamedTuple, Optional, Sequence, Tuple

from sledgehammer_allennlp.engine.requests import Request
from sledgehammer_allennlp.engine.windows import TextsInWindows
from sledgehammer_allennlp.serving.refusal import Refusal

Texts = Tuple[str, ...]
"""One text, or the two of a pair."""


class Question(NamedTuple):
    """
    What is to be classified: `texts`; the `threshold` that was asked for, or `None`; and whether a
    text that is too long is refused, not truncated.
    """

    texts: Texts
    threshold: Optional[float] = None
    refuse_long: bool = False


class Job:
    """
    Questions that are answered together. `answers` and `error` are there when it is done.

    A job of many texts is run in pieces, few at a time, so that it takes its turn with others.
    """

    def __init__(self, questions: Sequence[Question], on_done: Callable[["Job"], None]) -> None:
        self.questions = questions
        self.error: Optional[Refusal] = None
        self.came_at = time.monotonic()
        self.started_at: Optional[float] = None
        self.is_dropped = False
        self.windows_exits: Counter[int] = Counter()
        """Of texts that are read in windows, how many windows exited at each exit layer."""
        self._on_done = on_done
        self._answers: List[List[Dict[str, Any]]] = []
        self._requests: List[Request] = []
        self._next = 0
        self._num_open = len(questions)

    @property
    def answers(self) -> List[Dict[str, Any]]:
        """In the order of the questions, each as a prediction, with its `threshold`."""
        return [answer for of_piece in self._answers for answer in of_piece]

    @property
    def num_left(self) -> int:
        """How many questions have not been taken yet."""
        return len(self.questions) - self._next


class Piece(NamedTuple):
    """Some neighbouring questions of a job."""

    job: Job
    number: int
    questions: Sequence[Question]


class Reading(NamedTuple):
    """A piece whose texts are read in windows, each of `texts` at one of the `thresholds`."""

    piece: Piece
    texts: TextsInWindows
    thresholds: Sequence[float]


def of_each(pieces: Sequence[Piece]) -> List[Tuple[Piece, Question]]:
    """Each question with its piece."""
    return [(piece, question) for piece in pieces for question in piece.questions]
