"""Holding a latency: how long a new text would wait, and the threshold that this leads to."""

import math
from typing import Optional

_MEMORY = 0.5
"""Seconds of computing after which a measurement counts for 1/e."""

_TOKENS_OF_A_TEXT = 25
"""
What a text takes beside its tokens, in tokens: on two cores, MiniLM-L6, one of 7 tokens took 7 ms,
one of 41 15 ms. Else a service that was last asked something short would seem slow.
"""

_KEEPS_HIGHEST = 0.15
_REACHES_LOWEST = 0.6
_REFUSES = 0.8
"""Expected waits, in shares of the target. A text also takes time after its wait."""


class Speed:
    """How long a service computes for texts, of late."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._tokens = 0.0

    def measured(self, seconds: float, num_texts: int, num_tokens: int) -> None:
        """A step took `seconds`, and `num_texts` texts of `num_tokens` tokens exited in it."""
        kept = math.exp(-seconds / _MEMORY)
        self._seconds = self._seconds * kept + seconds
        self._tokens = self._tokens * kept + num_tokens + _TOKENS_OF_A_TEXT * num_texts

    def seconds_for(self, num_texts: float, num_tokens: float) -> float:
        """Of so many texts, which have so many tokens; 0 as long as nothing was measured."""
        if not self._tokens:
            return 0.0
        return (num_tokens + _TOKENS_OF_A_TEXT * num_texts) * self._seconds / self._tokens


class LatencyControl:
    """
    The threshold of a new text by how long it would wait: the highest as long as that is short
    against the target, then falling in proportion, down to the lowest; beyond that, new texts are
    refused. It depends on nothing else, and so it rises again as soon as the queue is shorter.

    # Parameters

    highest : `float`
        In [0, 1], the threshold of an idle service.
    lowest : `float`, optional (default = `highest`)
        In [0, `highest`].
    target : `float`, optional (default = `None`)
        Seconds within which texts are to be answered; without it the threshold is `highest`, and
        nothing is refused.

    # Raises

    ValueError
        If the target is not positive, the lowest threshold is above the highest, or has no target.
    """

    def __init__(
        self, highest: float, lowest: Optional[float] = None, target: Optional[float] = None
    ) -> None:
        if target is not None and not 0 < target < math.inf:
            raise ValueError(f"the latency target is {target:g} s: wanted a positive number")
        if lowest is not None and target is None:
            raise ValueError(
                f"the lowest threshold is {lowest:g}, and there is no latency target for which the "
                "threshold would fall: wanted both"
            )
        if lowest is not None and not 0 <= lowest <= highest:
            raise ValueError(
                f"the lowest threshold is {lowest:g}: wanted a number from 0 to the threshold, "
                f"{highest:g}"
            )
        self.highest = highest
        self.lowest = highest if lowest is None else lowest
        self.target = target

    def threshold(self, wait: float) -> float:
        """For a text that is expected to wait so many seconds."""
        if self.target is None or self.lowest == self.highest:
            return self.highest
        share = (wait / self.target - _KEEPS_HIGHEST) / (_REACHES_LOWEST - _KEEPS_HIGHEST)
        return self.highest - (self.highest - self.lowest) * min(max(share, 0.0), 1.0)

    def refuses(self, wait: float) -> bool:
        """Whether a text that is expected to wait so long would be too late."""
        return self.target is not None and wait > _REFUSES * self.target
