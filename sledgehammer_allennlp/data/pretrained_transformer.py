"""AllenNLP's own `pretrained_transformer` tokenizer and indexer, whose files travel in archives.

They take the place of the stock classes under the stock names, so that every config and every
reader gives archives that load without the pretrained model. All else is as in AllenNLP.
"""

import logging
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.data.token_indexers import PretrainedTransformerIndexer, TokenIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer, Token, Tokenizer

from sledgehammer_allennlp.data import verification_tokens as verification_tokens
from sledgehammer_allennlp.encoders.archived_files import (
    find_tokenizer,
    is_trained,
    keep_tokenizer,
)
from sledgehammer_allennlp.encoders.tokenizing import TOKENIZER_LOCK, panics_as_errors

# AllenNLP would say of both classes, in every command, that they take the place of others.
logging.getLogger("allennlp.common.registrable").addFilter(
    lambda record: "pretrained_transformer has already been registered" not in record.getMessage()
)


@Tokenizer.register("pretrained_transformer", exist_ok=True)
class ArchivedTransformerTokenizer(PretrainedTransformerTokenizer):
    """
    AllenNLP's `PretrainedTransformerTokenizer`, which also keeps the tokenizer's files in the
    serialization directory when training starts, and reads them from there in an archive.

    Registered as a `Tokenizer` with name "pretrained_transformer", in place of AllenNLP's.

    # Parameters

    model_name, add_special_tokens, max_length, tokenizer_kwargs, verification_tokens
        See `PretrainedTransformerTokenizer`.
    serialization_dir : `str`, optional (default = `None`)
        Given by AllenNLP, not by configs.
    """

    def __init__(
        self,
        model_name: str,
        add_special_tokens: bool = True,
        max_length: Optional[int] = None,
        tokenizer_kwargs: Optional[Dict[str, Any]] = None,
        verification_tokens: Optional[Tuple[str, str]] = None,
        serialization_dir: Optional[str] = None,
    ) -> None:
        with _naming(model_name):
            files = _tokenizer_files(model_name, tokenizer_kwargs, serialization_dir)
            # Which AllenNLP may have loaded before, for a reader that is at work now.
            with TOKENIZER_LOCK:
                super().__init__(
                    files, add_special_tokens, max_length, tokenizer_kwargs, verification_tokens
                )
        self._model_name = model_name

    def tokenize(self, text: str) -> List[Token]:
        with TOKENIZER_LOCK, panics_as_errors():
            return super().tokenize(text)


@TokenIndexer.register("pretrained_transformer", exist_ok=True)
class ArchivedTransformerIndexer(PretrainedTransformerIndexer):
    """
    AllenNLP's `PretrainedTransformerIndexer`, which keeps and finds the tokenizer's files as
    `ArchivedTransformerTokenizer` does.

    Registered as a `TokenIndexer` with name "pretrained_transformer", in place of AllenNLP's.

    # Parameters

    model_name, namespace, max_length, tokenizer_kwargs
        See `PretrainedTransformerIndexer`.
    serialization_dir : `str`, optional (default = `None`)
        Given by AllenNLP, not by configs.
    """

    def __init__(
        self,
        model_name: str,
        namespace: str = "tags",
        max_length: Optional[int] = None,
        tokenizer_kwargs: Optional[Dict[str, Any]] = None,
        serialization_dir: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        with _naming(model_name):
            super().__init__(
                _tokenizer_files(model_name, tokenizer_kwargs, serialization_dir),
                namespace,
                max_length,  # type: ignore[arg-type]  # AllenNLP means Optional
                tokenizer_kwargs,
                **kwargs,
            )


def _tokenizer_files(
    model_name: str, tokenizer_kwargs: Optional[Dict[str, Any]], serialization_dir: Optional[str]
) -> str:
    if serialization_dir is not None and not is_trained(serialization_dir):
        keep_tokenizer(model_name, serialization_dir, **(tokenizer_kwargs or {}))
    return str(find_tokenizer(model_name, serialization_dir))


@contextmanager
def _naming(model_name: str) -> Iterator[None]:
    """Makes errors of the transformers library name the key."""
    try:
        with panics_as_errors():
            yield
    except Exception as error:  # of many kinds, by what is missing or cannot be parsed
        raise ConfigurationError(
            f"cannot read the tokenizer of model_name '{model_name}': wanted a Hugging Face name "
            f"or a local folder with tokenizer files. {error}"
        ) from error
