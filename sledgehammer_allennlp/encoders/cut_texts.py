"""How many texts were too long, and were cut."""

from typing import Optional

from sledgehammer_allennlp.encoders.locks import fork_safe_lock

_LOCK = fork_safe_lock()


class CutTexts:
    """
    Counts of texts that were tokenised, and of those that were cut. Several threads may count.

    # Parameters

    limit : `int`
        The most tokens of a text, special ones included, or of a pair together. Longer ones are
        cut, be it by the tokenizer or later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.num_texts = 0
        self.num_cut = 0

    def add(self, num_texts: int, num_cut: int) -> None:
        """Counts so many more texts, of which so many were cut."""
        with _LOCK:
            self.num_texts += num_texts
            self.num_cut += num_cut

    def sentence(self) -> Optional[str]:
        """What is said of them at the end; `None` if no text was cut."""
        if not self.num_cut:
            return None
        verb = "was" if self.num_cut == 1 else "were"
        return (
            f"{self.num_cut:,} of {self.num_texts:,} texts {verb} cut to {self.limit:,} word "
            "pieces (max_length, or what the model takes)"
        )
