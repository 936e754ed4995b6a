"""Token ids by a tokenizer of transformers, or by the tokenizers library that is under it."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

# More tokens than a text may have: transformers says 10**30 of models without a limit.
_NO_LIMIT = 2**32

# By version of transformers, what a call of a tokenizer runs; and classes whose own only refuses
# texts that are split into words.
_CALLS = ("__call__", "_switch_to_input_mode", "_batch_encode_plus", "_encode_plus")
_OWN_CALLS_CHECK_ONLY = ("RobertaTokenizerFast",)


class Encoded(NamedTuple):
    """
    Of each text, or pair, the ids of its tokens and of their types; and, by its place, whether it
    was cut.
    """

    token_ids: List[List[int]]
    type_ids: List[List[int]]
    was_cut: Callable[[int], bool]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: List[str],
    second_texts: Optional[List[str]],
    num_tokens: int,
) -> Encoded:
    """
    What a call of `tokenizer` gives that cuts to `num_tokens`, of a pair the longer text first.
    Where the call does no more than set up the tokenizers library and call it, this is done here:
    it takes three quarters of the time. To be called with `TOKENIZER_LOCK` held.
    """
    if _calls_do_no_more(tokenizer):
        return _encode_by_library(tokenizer, texts, second_texts, num_tokens)
    settings: Dict[str, Any] = {"truncation": False}
    if num_tokens < _NO_LIMIT:
        settings = {"truncation": "longest_first", "max_length": num_tokens}
    encoded = tokenizer(
        texts, second_texts, return_token_type_ids=True, return_attention_mask=False, **settings
    )

    def was_cut(i: int) -> bool:
        if encoded.encodings is not None:
            return bool(encoded.encodings[i].overflowing)
        # Tokenizers that are written in Python do not say.
        one_more = {**settings, "max_length": num_tokens + 1}
        ids = tokenizer(texts[i], second_texts and second_texts[i], **one_more)["input_ids"]
        return len(ids) > num_tokens

    return Encoded(encoded["input_ids"], encoded["token_type_ids"], was_cut)


def _encode_by_library(
    tokenizer: PreTrainedTokenizerFast,
    texts: List[str],
    second_texts: Optional[List[str]],
    num_tokens: int,
) -> Encoded:
    library = tokenizer.backend_tokenizer
    _set_up(library, num_tokens, tokenizer.truncation_side)
    encode_batch = library.encode_batch
    if second_texts is None or library.post_processor is not None:
        # This computes no offsets, which are not used. Without a post-processor it leaves the type
        # ids of second texts 0. Older versions lack it.
        encode_batch = getattr(library, "encode_batch_fast", encode_batch)
    found = encode_batch(texts if second_texts is None else list(zip(texts, second_texts)))
    return Encoded(
        [one.ids for one in found],
        [one.type_ids for one in found],
        lambda i: bool(found[i].overflowing),
    )


def _set_up(library: Tokenizer, num_tokens: int, truncation_side: str) -> None:
    """Has it cut to so many tokens, and pad nothing, whatever it was set up for before."""
    truncation = {
        "max_length": num_tokens,
        "stride": 0,
        "strategy": "longest_first",
        "direction": truncation_side,
    }
    if num_tokens < _NO_LIMIT and library.truncation != truncation:
        library.enable_truncation(**truncation)
    if num_tokens >= _NO_LIMIT and library.truncation is not None:
        library.no_truncation()
    if library.padding is not None:
        library.no_padding()
    if getattr(library, "encode_special_tokens", False):  # not in older versions
        library.encode_special_tokens = False


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
