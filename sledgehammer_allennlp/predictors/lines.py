"""The lines of a bulk job: the number of each, and how many could be answered."""

import logging
import weakref
from typing import Any, Dict, List, Optional

from sledgehammer_allennlp.encoders.cut_texts import CutTexts

logger = logging.getLogger(__name__)

_NUM_SHOWN = 10


class Line(Dict[str, Any]):
    """
    What stands in a line.

    # Parameters

    number : `int`
        Of the line, from 1. Blank lines, which AllenNLP leaves out, are not counted, so that it is
        also the number of the line's answer in the output.
    content : `Dict[str, Any]`
    """

    def __init__(self, number: int, content: Dict[str, Any]) -> None:
        super().__init__(content)
        self.number = number


class BadLine(Line):
    """In place of a line, and of its answer, that cannot be answered."""

    def __init__(self, number: int, error: str) -> None:
        super().__init__(number, {"line": number, "error": error})


class LineCounts:
    """
    How many lines were read, answered and skipped, and of how many the text was cut; it says so in
    the log when `owner` is gone, or the process ends.

    # Parameters

    owner : `object`
    cut : `CutTexts`, optional (default = `None`)
    """

    def __init__(self, owner: object, cut: Optional[CutTexts] = None) -> None:
        self.cut = cut
        self.num_read = 0
        self.num_answered = 0
        self.num_skipped = 0
        self._first_skipped: List[int] = []
        # AllenNLP calls a predictor for each line, but not at the end, normal or not.
        weakref.finalize(owner, self._report)

    def skip(self, number: int) -> None:
        """Counts a line that is skipped."""
        self.num_skipped += 1
        if len(self._first_skipped) < _NUM_SHOWN:
            self._first_skipped.append(number)

    def _report(self) -> None:
        which = ", ".join(map(str, self._first_skipped))
        which += ", …" if self.num_skipped > _NUM_SHOWN else ""
        logger.log(
            logging.WARNING if self.num_skipped else logging.INFO,
            "Lines read, without blank ones: %d. Answered: %d. Skipped: %d%s",
            self.num_read,
            self.num_answered,
            self.num_skipped,
            f" (lines {which})" if which else "",
        )
        said = self.cut and self.cut.sentence()
        if said:
            logger.warning("%s.", said)
