"""The dataset reader: labelled texts, one a line."""

import codecs
import logging
from os import PathLike
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Union

from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.data import DatasetReader, Field, Instance, Token, TokenIndexer, Tokenizer, Vocabulary
from allennlp.data.fields import LabelField, MetadataField, TextField
from allennlp.data.token_indexers import PretrainedTransformerIndexer
from allennlp.data.tokenizers import PretrainedTransformerTokenizer

from sledgehammer_allennlp.data.pretrained_transformer import ArchivedTransformerIndexer
from sledgehammer_allennlp.data.read_texts import ReadTexts
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.encoders.cut_texts import CutTexts
from sledgehammer_allennlp.encoders.tokenizing import max_tokens, tokenize
from sledgehammer_allennlp.labeled_lines import Row, checked_rows, unreadable, unseen_label

logger = logging.getLogger(__name__)


@DatasetReader.register("labeled_tsv")
class LabeledTsvReader(DatasetReader):
    """
    Reads `label<TAB>text`, or for pairs `label<TAB>text<TAB>second text`, one instance a line.

    There is no quoting and no header: a tab always separates columns. Every line of a file has
    the same number of columns. Blank lines are allowed at the end of the file only.

    Gives instances with the fields `tokens` (a `TextField`, of both texts for pairs), `label`
    (a `LabelField`), `exit_layer` (another one) if asked for, and `metadata` with the number of
    the `line` and the `gold_label`.

    When a file is read, warns if texts were truncated, of how many, and if more than 5 % of their
    word pieces are unknown to the tokenizer; of the same file once.

    Registered as a `DatasetReader` with name "labeled_tsv".

    # Parameters

    tokenizer : `Tokenizer`
        With type "pretrained_transformer", texts longer than its `max_length`, by default what
        the pretrained tokenizer says its model takes, are truncated; of a pair, the longer first.
        Special tokens are added whatever its `add_special_tokens`.
    token_indexers : `Dict[str, TokenIndexer]`, optional
        (default = the "pretrained_transformer" indexer of the tokenizer's model)
    encoding : `str`, optional (default = `"utf-8"`)
        The encoding of the files.
    label_namespace : `str`, optional (default = `"labels"`)
    with_exit_layers : `bool`, optional (default = `False`)
        Whether there is another column after the label, `label<TAB>layer<TAB>text…`: the layer of
        the exit at which a `multi_exit_classifier` is to answer, -1 for one before layer 0, for
        oracle experiments (Schwartz et al. 2020, section 2).

    # Raises

    ValueError
        While reading, with file and line, if a line has too few or too many columns, an empty
        text or label, one of more than 1,000 characters, a carriage return before its last column,
        or bytes that are not in the encoding; if a file has no instances, more than 100,000
        different labels, or is not a file that can be read again and again.
    ConfigurationError
        If there is no such encoding.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        token_indexers: Optional[Dict[str, TokenIndexer]] = None,
        encoding: str = "utf-8",
        label_namespace: str = "labels",
        with_exit_layers: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs
        )
        self._tokenizer = tokenizer
        self._token_indexers = token_indexers or self._default_indexers()
        try:
            "".encode(encoding)  # codecs that are not of text are found, too
            self.encoding = codecs.lookup(encoding).name
        except (LookupError, ValueError):
            raise ConfigurationError(
                f"encoding is {encoding!r}: wanted the name of a text encoding, such as utf-8"
            )
        self._label_namespace = label_namespace
        self._with_exit_layers = with_exit_layers
        self._cut: Optional[CutTexts] = None  # of the file whose text is made an instance now
        self._warned: Set[str] = set()

    def _default_indexers(self) -> Dict[str, TokenIndexer]:
        if not isinstance(self._tokenizer, PretrainedTransformerTokenizer):
            raise ConfigurationError(
                "labeled_tsv needs token_indexers when its tokenizer is not of type "
                "'pretrained_transformer'"
            )
        return {
            "tokens": ArchivedTransformerIndexer(
                self._tokenizer._model_name,
                tokenizer_kwargs=self._tokenizer._tokenizer_kwargs,
                serialization_dir=self.serialization_dir,
            )
        }

    def _read(self, file_path: Union[str, "PathLike[str]"]) -> Iterator[Instance]:
        counts = None
        if isinstance(self._tokenizer, PretrainedTransformerTokenizer):
            counts = ReadTexts(self._tokenizer)
        for row in self.shard_iterable(self.rows(file_path)):
            instance = self._counted_instance(row, counts)
            source = f"{file_path}, line {row.line_number}"
            label = _SourcedLabelField(row.label, self._label_namespace, source)
            instance.add_field("label", label)
            if row.exit_layer is not None:
                instance.add_field("exit_layer", LabelField(row.exit_layer, skip_indexing=True))
            about = {"line": row.line_number, "gold_label": row.label}
            instance.add_field("metadata", MetadataField(about))
            yield instance
        for sentence in counts.sentences() if counts else ():
            warning = f"{file_path}: {sentence}."
            if warning not in self._warned:  # by an epoch before
                self._warned.add(warning)
                logger.warning("%s", warning)

    def _counted_instance(self, row: Row, counts: Optional[ReadTexts]) -> Instance:
        self._cut = None if counts is None else counts.cut
        try:
            instance = self.text_to_instance(row.text, row.second_text)
        finally:
            self._cut = None
        if counts is not None:
            counts.add(instance, row.text, row.second_text)
        return instance

    def rows(self, file_path: Union[str, "PathLike[str]"]) -> Iterator[Row]:
        """The lines of `file_path`, checked; raises as reading does."""
        name = str(file_path)
        try:
            path = str(cached_path(file_path))
        except (OSError, ValueError) as error:
            raise unreadable(name, self._with_exit_layers, error) from error
        yield from checked_rows(path, name, self.encoding, self._with_exit_layers)

    def text_to_instance(
        self, text: str, second_text: Optional[str] = None, label: Optional[str] = None
    ) -> Instance:
        """
        # Parameters

        text : `str`
            May be empty.
        second_text : `str`, optional (default = `None`)
            The second text of a pair.
        label : `str`, optional (default = `None`)

        # Returns

        An `Instance` with the field `tokens`, and `label` if one is given.
        """
        fields: Dict[str, Field] = {"tokens": TextField(self._tokenize(text, second_text))}
        if label is not None:
            fields["label"] = LabelField(label, self._label_namespace)
        return Instance(fields)

    def _tokenize(self, text: str, second_text: Optional[str]) -> List[Token]:
        if not isinstance(self._tokenizer, PretrainedTransformerTokenizer):
            if second_text is None:
                return self._tokenizer.tokenize(text)
            return self._tokenizer.add_special_tokens(
                self._tokenizer.tokenize(text), self._tokenizer.tokenize(second_text)
            )
        second_texts = None if second_text is None else [second_text]
        tokens = self._token_ids([text], second_texts, self._cut)
        ids = tokens.token_ids.tolist()
        pieces = self._tokenizer.tokenizer.convert_ids_to_tokens(ids)
        return [
            Token(text=piece, text_id=id_, type_id=type_id)
            for piece, id_, type_id in zip(pieces, ids, tokens.type_ids.tolist())
        ]

    def token_batch(
        self,
        texts: Sequence[str],
        second_texts: Optional[Sequence[str]] = None,
        cut: Optional[CutTexts] = None,
    ) -> Optional[TokenBatch]:
        """
        The token ids that `text_to_instance` and the token indexers would give, without making
        instances, of `texts`, or pairs of these and `second_texts`; `None` if the ids cannot be
        computed without instances. `cut` counts the texts that
        are truncated.
        """
        indexers = list(self._token_indexers.values())
        is_plain = (
            isinstance(self._tokenizer, PretrainedTransformerTokenizer)
            and len(indexers) == 1
            and isinstance(indexers[0], PretrainedTransformerIndexer)
            and type(indexers[0]) in (PretrainedTransformerIndexer, ArchivedTransformerIndexer)
            and indexers[0]._max_length is None
            and type(self).text_to_instance is LabeledTsvReader.text_to_instance
            and type(self).apply_token_indexers is LabeledTsvReader.apply_token_indexers
        )
        return self._token_ids(texts, second_texts, cut) if is_plain else None

    @property
    def max_tokens(self) -> Optional[int]:
        """To how many tokens texts are truncated; `None` if only the tokenizer knows."""
        if not isinstance(self._tokenizer, PretrainedTransformerTokenizer):
            return None
        return max_tokens(self._tokenizer.tokenizer, self._tokenizer._max_length)

    def _token_ids(
        self,
        texts: Sequence[str],
        second_texts: Optional[Sequence[str]],
        cut: Optional[CutTexts],
    ) -> TokenBatch:
        assert isinstance(self._tokenizer, PretrainedTransformerTokenizer)
        tokenizer, max_length = self._tokenizer.tokenizer, self._tokenizer._max_length
        return tokenize(tokenizer, texts, second_texts, max_length, cut)

    def apply_token_indexers(self, instance: Instance) -> None:
        text_field = instance["tokens"]
        assert isinstance(text_field, TextField)
        text_field.token_indexers = self._token_indexers


class _SourcedLabelField(LabelField):
    """A label with the place that it was read from, named if it is not in the vocabulary."""

    __slots__ = ["_source"]

    def __init__(self, label: str, label_namespace: str, source: str) -> None:
        super().__init__(label, label_namespace)
        self._source = source

    def index(self, vocab: Vocabulary) -> None:
        try:
            super().index(vocab)
        except KeyError:
            known = sorted(vocab.get_token_to_index_vocabulary(self._label_namespace))
            raise ValueError(unseen_label(self._source, self.label, known)) from None
