"""From texts to token ids, many at once."""

import re
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sledgehammer_allennlp.encoders.archived_files import StrPath, warn_of_missing_folder
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.encoders.encoding import encode
from sledgehammer_allennlp.encoders.locks import fork_safe_lock
from sledgehammer_allennlp.encoders.token_batch import TokenBatch

# A tokenizer keeps the settings of truncation from call to call, and several readers of a process
# may have the same one: another thread's would raise "Already borrowed", or be taken for ours.
TOKENIZER_LOCK = fork_safe_lock()
"""Held by whoever uses a tokenizer in a way that may change its settings."""

# A text is cut at first to so many characters a token that it may keep, if it has far more: for
# others, to see whether that is enough takes longer than it saves.
_CHARACTERS_PER_TOKEN = 32
_FAR_MORE = 8
_UP_TO_A_SPACE = re.compile(r".*\S(?= )", re.DOTALL)


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """
    A panic of the tokenizers library is of no `Exception`, and would end a thread or a service.

    # Raises

    ValueError
        In place of a panic.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(
            f"the tokenizer ended in a panic: wanted another tokenizer or other text. {error}"
        ) from error


def load_tokenizer(transformer_model: StrPath) -> PreTrainedTokenizerBase:
    """
    The tokenizer of a pretrained model, a Hugging Face name or a local folder.

    # Raises

    ValueError
        If it has none that can be read.
    """
    warn_of_missing_folder(transformer_model)
    try:
        with panics_as_errors():
            tokenizer = AutoTokenizer.from_pretrained(transformer_model, trust_remote_code=False)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):
            # Transformers 5 makes one for a folder that has none.
            raise ValueError("It has no vocabulary.")
    except Exception as error:  # of many kinds, by what is missing or cannot be parsed
        raise ValueError(
            f"cannot read the tokenizer of transformer_model '{transformer_model}': wanted a "
            f"Hugging Face name or a folder with the tokenizer's files. {error}"
        ) from error
    return tokenizer


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    second_texts: Optional[Sequence[str]] = None,
    max_length: Optional[int] = None,
    cut: Optional[CutTexts] = None,
) -> TokenBatch:
    """
    Texts, or pairs of texts, as token ids with special tokens. Can be called by several threads.

    # Parameters

    texts, second_texts : `Sequence[str]`
        Of the same number.
    max_length : `int`, optional (default = what the tokenizer says its model takes)
        Longer texts are truncated; of a pair, the longer first. (Where both are very long, the
        token that is left over when room is shared may be of the other one.)
    cut : `CutTexts`, optional (default = `None`)
        Counts the texts, and those of them that have more tokens than its limit.

    # Raises

    ValueError
        If the numbers of texts differ.
    """
    if second_texts is not None and len(second_texts) != len(texts):
        raise ValueError(
            f"found {len(texts)} texts and {len(second_texts)} second texts: wanted as many"
        )
    if not texts:
        return TokenBatch.from_lists([])
    num_tokens = max_tokens(tokenizer, max_length)
    with TOKENIZER_LOCK, panics_as_errors():
        given = [_cut(tokenizer, _readable(text), num_tokens) for text in texts]
        second_given = (
            None
            if second_texts is None
            else [_cut(tokenizer, _readable(text), num_tokens) for text in second_texts]
        )
        encoded = encode(tokenizer, given, second_given, num_tokens)
        if cut is not None:
            num_cut = sum(
                len(ids) > cut.limit or (len(ids) >= num_tokens and encoded.was_cut(i))
                for i, ids in enumerate(encoded.token_ids)
            )
            cut.add(len(texts), num_cut)
    return TokenBatch.from_lists(encoded.token_ids, encoded.type_ids)


def max_tokens(tokenizer: PreTrainedTokenizerBase, max_length: Optional[int]) -> int:
    """To how many tokens `tokenize` cuts a text, or a pair together."""
    limit: int = tokenizer.model_max_length if max_length is None else max_length
    return limit


def _readable(text: str) -> str:
    """
    With replacement characters for lone surrogates, which are no text. Older tokenizers read them
    so, newer ones raise an error.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _cut(tokenizer: PreTrainedTokenizerBase, text: str, num_tokens: int) -> str:
    """
    A beginning of a very long text that has the same first `num_tokens` tokens, and one more.

    Megabytes would else be tokenised for some hundred tokens, in a hundred times their memory. What
    stands before a space has the same tokens whatever follows. Text without spaces is not cut.
    """
    num_characters = _CHARACTERS_PER_TOKEN * max(num_tokens, 1)
    if (
        len(text) <= _FAR_MORE * num_characters
        or tokenizer.truncation_side != "right"
        or any(" " in token for token in tokenizer.get_added_vocab())
    ):
        return text
    while num_characters < len(text):
        found = _UP_TO_A_SPACE.match(text, 0, num_characters)
        if found is not None:
            tokens = tokenizer(
                found.group(), add_special_tokens=False, truncation=True, max_length=num_tokens + 1
            )
            if len(tokens["input_ids"]) > num_tokens:
                return found.group()
        num_characters *= 4
    return text
