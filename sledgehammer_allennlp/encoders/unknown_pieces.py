"""Whether a tokenizer's vocabulary fits the texts: how many of their pieces it does not know."""

from typing import List, Optional, Sequence

from transformers import PreTrainedTokenizerBase

from sledgehammer_allennlp.encoders.tokenizing import tokenize

MAX_SHARE = 0.05
"""
More unknown pieces than this are warned of. With the vocabulary of uncased BERT, none of the 1.1
million pieces of four English data sets is unknown; of sentences in Korean, Georgian, Hindi,
Japanese, Chinese and Thai 5 to 100 %.
"""

ADVICE = (
    "The model cannot tell them apart. Take one whose tokenizer knows the language or the script: "
    "a multilingual one, such as xlm-roberta-base"
)

_NUM_TEXTS_KEPT = 3
_NUM_WORDS_SHOWN = 3
_CHARACTERS_TO_SEARCH = 2000
_CHARACTERS_SHOWN = 20


class UnknownPieces:
    """
    Counts the word pieces of texts, and those that are the tokenizer's unknown token. Tokenizers
    that can write every text, as those of bytes, have none.

    # Parameters

    tokenizer : `PreTrainedTokenizerBase`
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._unknown_id: Optional[int] = tokenizer.unk_token_id
        self._specials = set(tokenizer.all_special_ids) - {self._unknown_id}
        self._texts: List[str] = []
        self.num_pieces = 0
        self.num_unknown = 0

    def add(self, ids: Sequence[int], *texts: str) -> None:
        """
        Counts the pieces of a text, of a pair of texts, or of several.

        # Parameters

        ids : `Sequence[int]`
            Token ids; special ones do not count.
        texts : `str`
            The texts, if they are known, of which some may be shown.
        """
        ids = list(ids)
        self.num_pieces += len(ids) - sum(map(ids.count, self._specials))
        num_unknown = 0 if self._unknown_id is None else ids.count(self._unknown_id)
        self.num_unknown += num_unknown
        if num_unknown and texts and len(self._texts) < _NUM_TEXTS_KEPT:
            self._texts.append(" ".join(text[:_CHARACTERS_TO_SEARCH] for text in texts))

    @property
    def share(self) -> float:
        """Of the pieces, those that are unknown, in [0, 1]."""
        return self.num_unknown / max(self.num_pieces, 1)

    def warning(self) -> Optional[str]:
        """What is said of them; `None` if there are at most 5 % of them."""
        if self.share <= MAX_SHARE:
            return None
        words = ", ".join(map(repr, self._words()))
        return (
            f"{self.share:.1%} of the word pieces are {self._tokenizer.unk_token}, unknown to the "
            f"tokenizer{f', for example in {words}' if words else ''}. {ADVICE}"
        )

    def _words(self) -> List[str]:
        """Some words with unknown pieces, or their beginnings."""
        words = [*dict.fromkeys(word for text in self._texts for word in text.split())]
        tokens = tokenize(self._tokenizer, words)
        of_words = tokens.token_ids.split(tokens.lengths.tolist()) if words else ()
        unknown = [word for word, ids in zip(words, of_words) if self._unknown_id in ids.tolist()]
        return [
            word if len(word) <= _CHARACTERS_SHOWN else f"{word[:_CHARACTERS_SHOWN]}…"
            for word in unknown[:_NUM_WORDS_SHOWN]
        ]
