"""The dataset reader of tables: labelled texts in columns that have names."""

from os import PathLike
from typing import Any, Dict, Iterator, Optional, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, TokenIndexer, Tokenizer

from sledgehammer_allennlp.bulk.needs_arrow import require_arrow
from sledgehammer_allennlp.data.labeled_tsv import LabeledTsvReader
from sledgehammer_allennlp.labeled_lines import Row


@DatasetReader.register("labeled_table")
class LabeledTableReader(LabeledTsvReader):
    """
    Reads labelled texts, or pairs of texts, by the names of columns: JSON lines, CSV and TSV with a
    header, and Parquet, compressed or not, by their names' ends, also from the URLs that fsspec
    opens. A path may be a folder or a pattern. CSV has quotes, TSV has none. Blank lines are left
    out. Other columns are not read.

    Gives instances as `labeled_tsv` does; the `line` of their `metadata` is the number of the row
    in its file, from 1, a header counted. Labels that are whole numbers or booleans are taken as
    they are written in Python.

    Registered as a `DatasetReader` with name "labeled_table".

    # Parameters

    tokenizer, token_indexers, label_namespace
        See `LabeledTsvReader`.
    text_column : `str`, optional (default = `"text"`)
    second_text_column : `str`, optional (default = `None`)
        The second text's, for pairs.
    label_column : `str`, optional (default = `"label"`)
    format : `str`, optional (default = by each file's name)
        `"jsonl"`, `"csv"`, `"tsv"` or `"parquet"`.

    # Raises

    ValueError
        While reading, with file and row, if a text or a label is missing or empty, or a row cannot
        be read.
    ConfigurationError
        If there is no such format, or the extra `bulk` is not installed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        token_indexers: Optional[Dict[str, TokenIndexer]] = None,
        text_column: str = "text",
        second_text_column: Optional[str] = None,
        label_column: str = "label",
        format: Optional[str] = None,
        label_namespace: str = "labels",
        **kwargs: Any,
    ) -> None:
        super().__init__(tokenizer, token_indexers, label_namespace=label_namespace, **kwargs)
        if format not in (None, "jsonl", "csv", "tsv", "parquet"):
            raise ConfigurationError(
                f"format is {format!r}: wanted 'jsonl', 'csv', 'tsv' or 'parquet'"
            )
        try:
            require_arrow()
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        self._text_column = text_column
        self._second_text_column = second_text_column
        self._label_column = label_column
        self._format = format

    def rows(self, file_path: Union[str, "PathLike[str]"]) -> Iterator[Row]:
        """The rows of `file_path`, checked; raises as reading does."""
        from sledgehammer_allennlp.bulk.labeled_rows import labeled_rows

        return labeled_rows(
            str(file_path),
            self._text_column,
            self._second_text_column,
            self._label_column,
            self._format,
        )
