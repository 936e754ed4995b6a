"""The tokenizer of an archive's reader, where the reader does nothing but tokenise."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sledgehammer_allennlp.archives.contents import dictionary_in
from sledgehammer_allennlp.archives.safety_checks import (
    check_tokenizer_files,
    check_tokenizer_kwargs,
)
from sledgehammer_allennlp.encoders.archived_files import find_tokenizer
from sledgehammer_allennlp.encoders.tokenizing import panics_as_errors
from sledgehammer_allennlp.values import short_repr

_PLAIN_READERS = {
    "labeled_tsv": {"encoding", "label_namespace", "max_instances", "with_exit_layers"},
    "labeled_table": {
        *("label_namespace", "max_instances"),
        *("text_column", "second_text_column", "label_column", "format"),
    },
    "text_classification_json": {"max_instances", "skip_label_indexing"},
    "snli": {"max_instances", "collapse_labels"},
}
"""Readers whose tokens are the tokenizer's own, and settings of theirs that do not matter here."""


class ReaderTokenizer(NamedTuple):
    """A pretrained model's tokenizer as a config describes it; longer texts are truncated."""

    model_name: str
    max_length: Optional[int]
    kwargs: Optional[Dict[str, Any]]

    def problems(self, folder: Path) -> List[str]:
        """Why the tokenizer in an archive's folder should not be loaded."""
        key = "dataset_reader.tokenizer.tokenizer_kwargs"
        return check_tokenizer_files(self.model_name, folder) + check_tokenizer_kwargs(
            self.kwargs, key
        )

    def load(self, folder: Path) -> PreTrainedTokenizerBase:
        """
        The tokenizer in an archive's folder.

        # Raises

        ValueError
            If it cannot be read.
        """
        files = find_tokenizer(self.model_name, folder)
        kwargs = {**(self.kwargs or {}), "trust_remote_code": False}
        try:
            with panics_as_errors():
                return AutoTokenizer.from_pretrained(files, **kwargs)
        except Exception as error:  # of many kinds, by what cannot be parsed
            raise ValueError(
                f"cannot read the tokenizer of '{self.model_name}': wanted the files that its "
                f"library writes. {error}"
            ) from error


def tokenizer_of_reader(config: Dict[str, Any]) -> Optional[ReaderTokenizer]:
    """
    What a config's reader tokenises with; `None` if the reader does more than that.

    # Raises

    ValueError
        If the config is not one that AllenNLP wrote.
    """
    # The reader that AllenNLP's predictors take by default.
    is_other = config.get("validation_dataset_reader") is not None
    key = "validation_dataset_reader" if is_other else "dataset_reader"
    reader = dictionary_in(config, key)
    kind, settings = reader.get("type"), dictionary_in(reader, "tokenizer", key)
    if (
        not isinstance(kind, str)
        or kind not in _PLAIN_READERS
        or settings.get("type") != "pretrained_transformer"
    ):
        return None
    indexers = dictionary_in(reader, "token_indexers", key)
    others = set(reader) - _PLAIN_READERS[kind] - {"type", "tokenizer", "token_indexers"}
    if others or any(
        dictionary_in(indexers, name, f"{key}.token_indexers").get("max_length")
        for name in indexers
    ):
        return None
    max_length = settings.get("max_length")
    if kind not in ("labeled_tsv", "labeled_table") and not settings.get(
        "add_special_tokens", True
    ):
        return None
    if kind == "snli" and max_length is not None:
        return None  # which is of each text there
    if not isinstance(settings.get("model_name"), str):
        raise ValueError(
            f"config key {key}.tokenizer.model_name is {short_repr(settings.get('model_name'))}: "
            "wanted a name"
        )
    return ReaderTokenizer(settings["model_name"], max_length, settings.get("tokenizer_kwargs"))
