"""
Has AllenNLP find the special tokens of every tokenizer. It looks where they stand around "a" and
"b", or "1" and "2". In vocabularies of scripts without spaces those may be several pieces, and then
it gives up, in its indexer without a setting that would help.
"""

from functools import wraps
from typing import Any, Dict, Iterator, Optional

from allennlp.data.tokenizers import PretrainedTransformerTokenizer
from transformers import PreTrainedTokenizerBase

_find_special_tokens = PretrainedTransformerTokenizer._reverse_engineer_special_tokens
_TRIED_LAST = ("1", "2")


def _single_pieces(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Texts that are one word piece each."""
    specials = set(tokenizer.all_special_ids)
    for id_ in range(len(tokenizer)):
        if id_ not in specials:
            text = tokenizer.decode([id_])
            if tokenizer.encode(text, add_special_tokens=False) == [id_]:
                yield text


@wraps(_find_special_tokens)
def _find_by_pieces_that_there_are(
    tokenizer: PretrainedTransformerTokenizer,
    token_a: str,
    token_b: str,
    model_name: str,
    tokenizer_kwargs: Optional[Dict[str, Any]],
) -> None:
    try:
        _find_special_tokens(tokenizer, token_a, token_b, model_name, tokenizer_kwargs)
    except AssertionError:
        if (token_a, token_b) != _TRIED_LAST:
            raise
        pieces = _single_pieces(tokenizer.tokenizer)
        first, second = next(pieces, None), next(pieces, None)
        if first is None or second is None:
            raise
        _find_special_tokens(tokenizer, first, second, model_name, tokenizer_kwargs)


# Its indexer makes tokenizers of its own.
PretrainedTransformerTokenizer._reverse_engineer_special_tokens = (  # type: ignore[method-assign]
    _find_by_pieces_that_there_are  # type: ignore[assignment]
)
