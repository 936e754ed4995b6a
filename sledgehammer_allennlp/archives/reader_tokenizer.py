"""The tokenizer of an archive's reader, where the reader does nothing but tokenise."""

from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sledgehammer_allennlp.archives.contents import check_tokenizer_files, check_tokenizer_kwargs
from sledgehammer_allennlp.encoders.archived_files import find_tokenizer

_PLAIN_READERS = {
    "labeled_tsv": {"encoding", "label_namespace", "max_instances", "with_exit_layers"},
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
        """The tokenizer in an archive's folder."""
        files = find_tokenizer(self.model_name, folder)
        kwargs = {**(self.kwargs or {}), "trust_remote_code": False}
        return AutoTokenizer.from_pretrained(files, **kwargs)


def tokenizer_of_reader(config: Dict[str, Any]) -> Optional[ReaderTokenizer]:
    """What a config's reader tokenises with; `None` if the reader does more than that."""
    # The reader that AllenNLP's predictors take by default.
    reader = config.get("validation_dataset_reader") or config.get("dataset_reader") or {}
    kind, settings = reader.get("type"), reader.get("tokenizer") or {}
    if kind not in _PLAIN_READERS or settings.get("type") != "pretrained_transformer":
        return None
    others = set(reader) - _PLAIN_READERS[kind] - {"type", "tokenizer", "token_indexers"}
    if others or any(
        (indexer or {}).get("max_length")
        for indexer in (reader.get("token_indexers") or {}).values()
    ):
        return None
    max_length = settings.get("max_length")
    if kind != "labeled_tsv" and not settings.get("add_special_tokens", True):
        return None
    if kind == "snli" and max_length is not None:
        return None  # which is of each text there
    return ReaderTokenizer(settings["model_name"], max_length, settings.get("tokenizer_kwargs"))
