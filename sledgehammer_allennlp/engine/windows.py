"""Long texts, read window by window until the classifier is sure.

A text of n word pieces, special tokens not counted, is one window if n is at most `size`. Else its
windows are of `size` pieces, and begin at the pieces 0, `stride`, 2 `stride`, … up to the first
window that reaches the end of the text, which may be shorter. Each is classified as a text of its
own, between the text's special tokens, by the exit rule and its threshold.

Windows are read in order. After the first, the prediction for the text is that for the window.
After more, its logits are the mean of the logarithms of the windows' calibrated probabilities, of
each at the exit at which it exited; its probabilities are the softmax of that, and its confidence
is measured on them. A text is read no further once its confidence is at least the threshold, or
when there is no window left. At threshold 1 all windows are read.

A prediction does not depend on the rest of the batch, up to rounding.
"""

from dataclasses import dataclass, replace
from typing import Any, Callable, List, Mapping, Optional, Sequence

import torch
from torch.nn.functional import one_hot

from sledgehammer_allennlp.encoders.token_batch import TokenBatch, positions_in_text, starts_of
from sledgehammer_allennlp.engine.exit_rule import ExitRule
from sledgehammer_allennlp.engine.output import EarlyExitOutput, WindowsRead
from sledgehammer_allennlp.exits.confidence import AtExit, ConfidenceMeasure
from sledgehammer_allennlp.values import short_repr

SPECIAL_TOKENS = 2
"""One before a text, and one after it."""

NO_PAIRS = "windows are of single texts: found a pair, wanted windows null, or no pairs"


@dataclass(frozen=True)
class Windows:
    """
    How long texts are divided.

    # Parameters

    size : `int`
        The most word pieces of a window, without special tokens.
    stride : `int`
        How many pieces after a window the next begins.
    """

    size: int
    stride: int

    def numbers(self, texts: TokenBatch) -> torch.Tensor:
        """How many windows each of `texts` has, `(num_texts,)`."""
        beyond_first = (texts.lengths - SPECIAL_TOKENS - self.size).clamp(min=0)
        return 1 + (beyond_first + self.stride - 1) // self.stride

    def of_texts(self, texts: TokenBatch, which: torch.Tensor, number: int) -> TokenBatch:
        """
        The windows of a `number`, counted from 0, of those of `texts` that `which` has,
        `(num_selected,)`, on the CPU. They must have so many.
        """
        begins = starts_of(texts.lengths)[which]
        lasts = begins + texts.lengths[which] - 1
        first_pieces = begins + 1 + number * self.stride
        lengths = (lasts + 1 - first_pieces).clamp(max=self.size + 1)  # with the token after it
        positions = positions_in_text(lengths + 1)
        ends = lengths.repeat_interleave(lengths + 1)
        tokens = first_pieces.repeat_interleave(lengths + 1) + positions - 1
        tokens = torch.where(positions == 0, begins.repeat_interleave(lengths + 1), tokens)
        tokens = torch.where(positions == ends, lasts.repeat_interleave(lengths + 1), tokens)
        tokens = tokens.to(texts.token_ids.device)
        return TokenBatch(texts.token_ids[tokens], texts.type_ids[tokens], lengths + 1)

    def first(self, texts: TokenBatch) -> TokenBatch:
        """
        The first window of each of `texts`, all that training and calibration see of it.

        # Raises

        ValueError
            If there are pairs, as far as type ids show.
        """
        check_no_pairs(texts)
        return self.of_texts(texts, torch.arange(len(texts)), 0)


def check_windows(
    value: Any, max_positions: int, measure: ConfidenceMeasure, alignment: Optional[int]
) -> Optional[Windows]:
    """
    # Parameters

    value : optional
        `{"size": …, "stride": …}`; `None` for texts that are read in one piece.
    max_positions : `int`
        Of the encoder.
    measure : `ConfidenceMeasure`
    alignment : `int`, optional
        That of the exits.

    # Raises

    ValueError
        If it is something else, does not fit the encoder, or does not go with the others.
    """
    if value is None:
        return None
    most = max_positions - SPECIAL_TOKENS
    if (
        not isinstance(value, Mapping)
        or set(value) != {"size", "stride"}
        or not all(type(number) is int for number in value.values())
        or not 1 <= value["stride"] <= value["size"] <= most
    ):
        raise ValueError(
            f"windows is {short_repr(value)}: wanted null, or a size and a stride, whole numbers "
            f"of word pieces, size at most {most}, which the model has positions for, and stride "
            "from 1 to size"
        )
    if measure.looks_back or measure.is_learned:
        raise ValueError(
            "windows need a confidence that depends on probabilities alone: wanted "
            "'max_probability', 'entropy' or 'margin', or windows null"
        )
    if alignment is not None:
        raise ValueError(
            f"alignment is {alignment}, which is for pairs, and windows are of single texts: "
            "wanted one of them null"
        )
    return Windows(value["size"], value["stride"])


def check_no_pairs(texts: TokenBatch) -> None:
    """Raises a `ValueError` for pairs, as far as type ids show."""
    if bool(texts.type_ids.any()):
        raise ValueError(NO_PAIRS)


class TextsInWindows:
    """
    Texts of which windows are read until each is answered. Who reads classifies `next_windows()`,
    and adds what came out, while texts are `active`.

    # Parameters

    texts : `TokenBatch`
    windows : `Windows`
    thresholds : `Sequence[float]`
        Of each text, in [0, 1].
    measure : `ConfidenceMeasure`
    num_exits : `int`

    # Raises

    ValueError
        If there are pairs, as far as type ids show.
    """

    def __init__(
        self,
        texts: TokenBatch,
        windows: Windows,
        thresholds: Sequence[float],
        measure: ConfidenceMeasure,
        num_exits: int,
    ) -> None:
        check_no_pairs(texts)
        self._texts = texts
        self._windows = windows
        # Confidences are rounded: a threshold of 1 must not be compared.
        never = float("inf")
        self._thresholds = torch.tensor([never if t >= 1 else t for t in thresholds])
        self._measure = measure
        self._num_exits = num_exits
        self._numbers = windows.numbers(texts)
        self._active = torch.arange(len(texts))
        self._num_read = 0
        self._found: Optional[EarlyExitOutput] = None
        self._log_probs: torch.Tensor  # (num_texts, num_labels), the sum over windows

    @property
    def active(self) -> List[int]:
        """The texts that are read further."""
        return self._active.tolist()

    def next_windows(self) -> TokenBatch:
        """Of each text that is read further, in their order."""
        return self._windows.of_texts(self._texts, self._active, self._num_read)

    def add(self, output: EarlyExitOutput) -> None:
        """What was predicted for those windows."""
        tiny = torch.finfo(output.probs.dtype).tiny
        log_probs = output.probs.clamp(min=tiny).log()
        self._num_read += 1
        confidence = output.confidence
        if self._found is None:
            self._log_probs = log_probs
            exits = one_hot(output.exit_index, self._num_exits)
            self._found = replace(output, windows=WindowsRead(self._numbers, exits))
        else:
            confidence = self._add_further(output, log_probs, self._found)
        reaches = confidence.cpu() >= self._thresholds[self._active].to(confidence.dtype)
        is_read_on = ~reaches & (self._numbers[self._active] > self._num_read)
        self._active = self._active[is_read_on]

    def _add_further(
        self, output: EarlyExitOutput, log_probs: torch.Tensor, found: EarlyExitOutput
    ) -> torch.Tensor:
        """The confidence of the texts, `(num_active,)`."""
        assert found.windows is not None
        rows = self._active.to(log_probs.device)
        self._log_probs = self._log_probs.index_add(0, rows, log_probs)
        logits = self._log_probs[rows] / self._num_read
        probs = logits.softmax(-1)
        at_exit = AtExit(probs, self._num_exits - 1, self._num_exits, [probs], correctness=None)
        confidence = self._measure(at_exit)
        one = torch.ones_like(rows)
        self._found = replace(
            found,
            logits=found.logits.index_copy(0, rows, logits),
            probs=found.probs.index_copy(0, rows, probs),
            confidence=found.confidence.index_copy(0, rows, confidence),
            exit_index=found.exit_index.index_copy(0, rows, output.exit_index),
            windows=WindowsRead(
                found.windows.numbers,
                found.windows.exits.index_put((rows, output.exit_index), one, accumulate=True),
            ),
        )
        return confidence

    def output(self) -> EarlyExitOutput:
        """The predictions for the texts, when none is read further."""
        assert self._found is not None and not len(self._active)
        return self._found


def read_in_windows(
    classify: Callable[[TokenBatch], EarlyExitOutput],
    texts: TokenBatch,
    windows: Windows,
    rule: ExitRule,
    num_exits: int,
) -> EarlyExitOutput:
    """
    The predictions for texts, whose windows `classify` is given as texts; by the rule's threshold
    and measure. Exit records are those of the first windows.

    # Raises

    ValueError
        If there are pairs, as far as type ids show.
    """
    thresholds = [rule.threshold] * len(texts)
    reading = TextsInWindows(texts, windows, thresholds, rule.measure, num_exits)
    reading.add(classify(reading.next_windows()))
    while reading.active:
        reading.add(classify(reading.next_windows()))
    return reading.output()
