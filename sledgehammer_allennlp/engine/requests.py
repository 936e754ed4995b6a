"""Requests of a service, and the exit decisions for texts that come and go with them."""

import threading
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import torch

from sledgehammer_allennlp.engine.exit_decisions import ExitDecisions
from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.output import EarlyExitOutput
from sledgehammer_allennlp.engine.prediction import Prediction
from sledgehammer_allennlp.exits.classifiers import ExitClassifiers

_Row = Tuple[torch.Tensor, ...]


class Request:
    """
    Texts that are answered together.

    # Parameters

    thresholds : `Sequence[float]`
        Of each text, in [0, 1].
    on_done : `Callable[[Request], None]`
        Called once, by whichever thread ends it: when all texts are answered or it has failed. Not
        called if it is dropped before.
    """

    def __init__(self, thresholds: Sequence[float], on_done: Callable[["Request"], None]) -> None:
        self.thresholds = thresholds
        self.error: Optional[BaseException] = None
        self.started_at: Optional[float] = None
        """When the first of its texts entered layer 0; `None` if all exited at the n-grams."""
        self.numbers = range(0)
        """Of its texts among the open ones."""
        self._rows: List[Optional[_Row]] = [None] * len(thresholds)
        self._num_open = len(thresholds)
        self._on_done: Optional[Callable[[Request], None]] = on_done
        if not thresholds:
            raise ValueError("the request has no texts: wanted one or more")

    def output(self) -> EarlyExitOutput:
        """The predictions, in the order of the texts, of a request that is done without error."""
        rows = [row for row in self._rows if row is not None]
        logits, probs, confidence, exit_index = (torch.stack(parts).cpu() for parts in zip(*rows))
        return EarlyExitOutput(logits, probs, confidence, exit_index, [])

    def _answer(self, place: int, row: _Row) -> None:
        self._rows[place] = row
        self._num_open -= 1
        if self._num_open == 0:
            self._end()

    def _end(self, error: Optional[BaseException] = None) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            self.error = error
            on_done(self)


class _OpenText(NamedTuple):
    request: Request
    place: int
    num_tokens: int


class OpenTexts:
    """
    The texts that are not answered yet, each under a number of its own. Several threads may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: Dict[int, _OpenText] = {}
        self._next_number = 0
        self.num_tokens = 0
        """Of all these texts together."""

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, requests: Sequence[Request], num_tokens: List[int]) -> torch.Tensor:
        """
        All texts of some requests, of so many tokens each: their numbers, `(num_texts,)`, in the
        order of the texts.
        """
        with self._lock:
            first = number = self._next_number
            for request in requests:
                request.numbers = range(number, number + len(request.thresholds))
                for place, number in enumerate(request.numbers):
                    self._texts[number] = _OpenText(request, place, num_tokens[number - first])
                number = request.numbers.stop
            self._next_number = number
            self.num_tokens += sum(num_tokens)
        return torch.arange(first, number)

    def requests(self, numbers: Iterable[int]) -> List[Request]:
        """Of texts that are open, in any order, each once."""
        found = [self._texts.get(number) for number in numbers]
        return list({id(text.request): text.request for text in found if text}.values())

    def thresholds(self, numbers: Iterable[int]) -> List[float]:
        """Of each text; 0 for one that is not open any more, so that it exits."""
        found = [self._texts.get(number) for number in numbers]
        return [0.0 if text is None else text.request.thresholds[text.place] for text in found]

    def are_open(self, numbers: Iterable[int]) -> List[bool]:
        """Of each text."""
        return [number in self._texts for number in numbers]

    def answer(self, numbers: Iterable[int], rows: Iterable[_Row]) -> None:
        """Gives texts that exited to their requests. Texts that are not open any more are left."""
        for number, row in zip(numbers, rows):
            text = self._close(number)
            if text is not None:
                text.request._answer(text.place, row)

    def drop(self, request: Request, error: Optional[BaseException] = None) -> None:
        """
        Closes all texts of a request that are still open. With an error, the request has failed and
        is done; without, nobody waits for it any more.
        """
        for number in request.numbers:
            self._close(number)
        if error is None:
            request._on_done = None
        else:
            request._end(error)

    def _close(self, number: int) -> Optional[_OpenText]:
        with self._lock:
            text = self._texts.pop(number, None)
            if text is not None:
                self.num_tokens -= text.num_tokens
        return text


class RequestDecisions(ExitDecisions):
    """
    Exit decisions in which each text has its request's threshold, and is answered at once.

    # Parameters

    exits : `ExitClassifiers`
    rule : `ExitRule`
        Its threshold makes no difference.
    texts : `OpenTexts`
    """

    def __init__(self, exits: ExitClassifiers, rule: ExitRule, texts: OpenTexts) -> None:
        may_exit_anywhere = ExitRule(
            rule.temperatures,
            rule.measure,
            0.0,
            rule.ensemble,
            rule.combination,
            rule.min_seen_share,
        )
        super().__init__(exits, may_exit_anywhere, record_exits=False, forced_exits=None)
        self._texts = texts

    def _exits_here(
        self, prediction: Prediction, instances: torch.Tensor, exit_index: int
    ) -> torch.Tensor:
        confidence = prediction.confidence
        thresholds = self._texts.thresholds(instances.tolist())
        never = float("inf")  # confidences are rounded: a threshold of 1 must not be compared
        wanted = confidence.new_tensor([never if t >= 1 else t for t in thresholds])
        return confidence >= wanted

    def _keep(self, predicted: Tuple[torch.Tensor, ...]) -> None:
        instances, *parts = predicted
        self._texts.answer(instances.tolist(), zip(*(part.unbind(0) for part in parts)))
