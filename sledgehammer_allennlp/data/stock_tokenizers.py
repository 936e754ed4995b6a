"""
Has AllenNLP make tokenizers without a setting that newer transformers libraries refuse.

Its tokenizers, indexers, vocabularies and data collators all get them of one function.
"""

from functools import wraps
from typing import Any

from allennlp.common import cached_transformers
from transformers import PreTrainedTokenizerBase

_get_tokenizer = cached_transformers.get_tokenizer


@wraps(_get_tokenizer)
def _get_tokenizer_without_the_setting(model_name: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    # No tokenizer has ever read it: each call that tokenises says again whether it adds them. From
    # transformers 4.44 on, it "conflicts with the method add_special_tokens".
    kwargs.pop("add_special_tokens", None)
    return _get_tokenizer(model_name, **kwargs)


cached_transformers.get_tokenizer = _get_tokenizer_without_the_setting
