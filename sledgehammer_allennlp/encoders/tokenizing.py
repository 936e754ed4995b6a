"""From texts to token ids, many at once."""

import re
from contextlib import contextmanager
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sledgehammer_allennlp.encoders.archived_files import StrPath, warn_of_missing_folder
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
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
# More tokens than a text may have: transformers says 10**30 of models without a limit.
_NO_LIMIT = 2**32
# By version of transformers, what a call of a tokenizer runs; and classes whose own only refuses
# texts that are split into words.
_CALLS = ("__call__", "_batch_encode_plus", "_encode_plus")
_OWN_CALLS_CHECK_ONLY = ("RobertaTokenizerFast",)
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
        second_given = second_texts and [
            _cut(tokenizer, _readable(text), num_tokens) for text in second_texts
        ]
        encoded = _encode(tokenizer, given, second_given, num_tokens)
        if cut is not None:
            cut.add(
                len(texts),
                sum(
                    len(ids) > cut.limit
                    or (
                        len(ids) >= num_tokens
                        and _was_longer(tokenizer, encoded, i, given, second_given, num_tokens)
                    )
                    for i, ids in enumerate(encoded.token_ids)
                ),
            )
    return TokenBatch.from_lists(encoded.token_ids, encoded.type_ids)


class _Encoded(NamedTuple):
    """Of each text, or pair, the ids of its tokens and of their types."""

    token_ids: List[List[int]]
    type_ids: List[List[int]]
    encodings: Optional[Sequence[Any]]
    """Those of the tokenizers library; `None` of a tokenizer that is written in Python."""


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    second_texts: Optional[Sequence[str]],
    num_tokens: int,
) -> _Encoded:
    """
    What a call of `tokenizer` gives, with truncation. Where that does no more than set up the
    tokenizers library and call it, this is done here, in three quarters of the time.
    """
    is_limited = num_tokens < _NO_LIMIT
    if not _calls_do_no_more(tokenizer):
        encoded = tokenizer(
            texts,
            second_texts,
            truncation="longest_first" if is_limited else "do_not_truncate",
            max_length=num_tokens if is_limited else None,
            return_token_type_ids=True,
            return_attention_mask=False,
        )
        return _Encoded(encoded["input_ids"], encoded["token_type_ids"], encoded.encodings)
    library = tokenizer.backend_tokenizer
    before = library.truncation
    truncation = {
        "max_length": num_tokens,
        "stride": 0,
        "strategy": "longest_first",
        "direction": tokenizer.truncation_side,
    }
    if is_limited and before != truncation:
        library.enable_truncation(**truncation)
    elif not is_limited and before is not None:
        library.no_truncation()
    if library.padding is not None:
        library.no_padding()
    if getattr(library, "encode_special_tokens", False):  # of a call that had them split
        library.encode_special_tokens = False
    encode = library.encode_batch
    if second_texts is None or library.post_processor is not None:
        # Without offsets, which nobody needs here, and where nothing else sets type ids without
        # those of second texts. Older versions do not have it.
        encode = getattr(library, "encode_batch_fast", encode)
    found = encode(texts if second_texts is None else list(zip(texts, second_texts)))
    return _Encoded([one.ids for one in found], [one.type_ids for one in found], found)


def _calls_do_no_more(tokenizer: PreTrainedTokenizerBase) -> bool:
    """
    Whether calls of a tokenizer do no more than set up the tokenizers library and call it: of
    classes of transformers that have no call of their own.
    """
    kind = type(tokenizer)
    is_of_transformers = kind.__module__.startswith("transformers.")
    if not is_of_transformers or not issubclass(kind, PreTrainedTokenizerFast):
        return False
    if getattr(tokenizer, "split_special_tokens", False):  # not in older versions
        return False
    bases = kind.__mro__[: kind.__mro__.index(PreTrainedTokenizerFast)]
    return not any(
        name in vars(base) and base.__name__ not in _OWN_CALLS_CHECK_ONLY
        for base in bases
        for name in _CALLS
    )


def _was_longer(
    tokenizer: PreTrainedTokenizerBase,
    encoded: _Encoded,
    i: int,
    texts: Sequence[str],
    second_texts: Optional[Sequence[str]],
    num_tokens: int,
) -> bool:
    """Whether a text that has so many tokens had more of them before it was truncated."""
    if encoded.encodings is not None:
        return bool(encoded.encodings[i].overflowing)
    # Tokenizers that are written in Python do not say.
    one_more = tokenizer(
        texts[i],
        second_texts and second_texts[i],
        truncation="longest_first",
        max_length=num_tokens + 1,
    )
    return len(one_more["input_ids"]) > num_tokens


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
