"""AllenNLP's own `pretrained_transformer` tokenizer and indexer, whose files travel in archives.

They take the place of the stock classes under the stock names, so that every config and every
reader gives archives that load without the pretrained model. All else is as in AllenNLP.
"""

from typing import Any, Dict, Optional, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.data.token_indexers import PretrainedTransformerIndexer, TokenIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer, Tokenizer

from sledgehammer_allennlp.encoders.archived_files import (
    find_transformer_files,
    has_vocabulary,
    keep_transformer_files,
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
        super().__init__(
            _files_of(model_name, serialization_dir),
            add_special_tokens,
            max_length,
            tokenizer_kwargs,
            verification_tokens,
        )
        self._model_name = model_name


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
        super().__init__(
            _files_of(model_name, serialization_dir),
            namespace,
            max_length,  # type: ignore[arg-type]  # AllenNLP means Optional
            tokenizer_kwargs,
            **kwargs,
        )


def _files_of(model_name: str, serialization_dir: Optional[str]) -> str:
    if serialization_dir is not None and not has_vocabulary(serialization_dir):
        try:
            keep_transformer_files(model_name, serialization_dir)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"cannot read the pretrained model of model_name '{model_name}': wanted a Hugging "
                f"Face name or a local folder. {error}"
            ) from error
    return str(find_transformer_files(model_name, serialization_dir))
