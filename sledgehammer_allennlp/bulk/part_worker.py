"""Answering parts: what one process does, alone or among others."""

from typing import (
    Any,
    Callable,
    Dict,
    Generator,
    Iterable,
    Iterator,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch

from sledgehammer_allennlp.archives import ArchivedClassifier, load_archived_classifier
from sledgehammer_allennlp.bulk.answers import AnswerTable
from sledgehammer_allennlp.bulk.columns import Columns
from sledgehammer_allennlp.bulk.inputs import InputFile
from sledgehammer_allennlp.bulk.output_folder import OutputFolder
from sledgehammer_allennlp.bulk.part_file import part_name, write_part
from sledgehammer_allennlp.bulk.parts import MAX_OTHER_KEYS_COUNTED, Part, PartResult
from sledgehammer_allennlp.bulk.read_ahead import read_ahead
from sledgehammer_allennlp.bulk.rows import RowBatch
from sledgehammer_allennlp.bulk.tables import OpenTables
from sledgehammer_allennlp.encoders import TokenBatch
from sledgehammer_allennlp.encoders.cut_texts import CutTexts

_NUM_ERRORS_SHOWN = 3


class PredictionSettings(NamedTuple):
    """On what the answers depend, beside the archive and the input."""

    threshold: Optional[float]
    precision: Optional[str]
    top_labels: Optional[int]
    format: str
    batch_size: int
    bad_rows: str
    runtime: Optional[str] = None


class PartWorker:
    """
    Answers parts, and writes a file for each.

    # Parameters

    archive : `str`
    inputs : `Sequence[InputFile]`
    columns : `Columns`
    settings : `PredictionSettings`
    folder : `OutputFolder`
        Of the job.
    device : `str`

    # Raises

    ValueError
        If the archive cannot be loaded, or not without AllenNLP.
    """

    def __init__(
        self,
        archive: str,
        inputs: Sequence[InputFile],
        columns: Columns,
        settings: PredictionSettings,
        folder: OutputFolder,
        device: str = "cpu",
    ) -> None:
        self.classifier = load_classifier(archive, settings, device)
        self._inputs = inputs
        self._columns = columns
        self._settings = settings
        self._folder = folder
        self.on_rows: Optional[Callable[[int], Any]] = None
        """Called with the number of rows that were answered just now."""
        self._tables = OpenTables(inputs)
        self._answers = AnswerTable(
            columns,
            self.classifier.labels,
            self.classifier.exits.exit_layers,
            settings.top_labels,
            with_errors=settings.bad_rows == "skip",
            abstain_below=self.classifier.abstain_below,
            with_windows=self.classifier.windows is not None,
        )

    def run(self, parts: Iterable[Part]) -> Generator[PartResult, None, None]:
        """
        Answers parts, in their order, and writes them one by one.

        # Raises

        ValueError
            With file and row, if a row is bad and bad rows are not skipped. What is written of
            parts before it stays.
        """
        try:
            with read_ahead(self._prepared(parts)) as prepared:
                for part, _ in prepared:
                    yield self._write(part, prepared)
        finally:
            self._tables.close()

    def _prepared(self, parts: Iterable[Part]) -> "Iterator[Tuple[Part, Optional[_Prepared]]]":
        """A part without rows, its batches, and again the part without rows."""
        for part in parts:
            yield part, None
            table = self._tables.get(part.input_index)
            for rows in table.read(part.range, self._columns, self._settings.batch_size):
                if rows.errors and self._settings.bad_rows == "stop":
                    error = rows.errors[min(rows.errors)]
                    raise ValueError(f"{self._inputs[part.input_index].url}, {error}")
                yield part, self._tokenized(rows)
            yield part, None

    def _tokenized(self, rows: RowBatch) -> "_Prepared":
        if not rows.good:
            return _Prepared(rows, None)
        cut = CutTexts(self.classifier.max_tokens)
        tokens = self.classifier.tokenize(rows.texts, rows.second_texts, cut)
        return _Prepared(rows, tokens, cut.num_cut)

    def _write(
        self, part: Part, prepared: "Iterator[Tuple[Part, Optional[_Prepared]]]"
    ) -> PartResult:
        counts = {"num_rows": 0, "num_bad": 0, "num_cut": 0}
        found: Dict[str, Any] = {**counts, "errors": [], "other_keys": {}}
        exits = torch.zeros(len(self.classifier.exits.exit_layers), dtype=torch.long)
        windows_exits = None if self.classifier.windows is None else torch.zeros_like(exits)

        def tables() -> Iterator[Any]:
            for _, batch in prepared:
                if batch is None:
                    return
                output = None
                if batch.tokens is not None:
                    with torch.no_grad():
                        output = self.classifier(batch.tokens)
                    exits.add_(torch.bincount(output.exit_index.cpu(), minlength=len(exits)))
                    if windows_exits is not None and output.windows is not None:
                        windows_exits.add_(output.windows.exits.sum(0).cpu())
                found["num_rows"] += batch.rows.num_rows
                found["num_bad"] += len(batch.rows.errors)
                found["num_cut"] += batch.num_cut
                found["errors"] += [error for _, error in sorted(batch.rows.errors.items())]
                del found["errors"][_NUM_ERRORS_SHOWN:]
                _count_other_keys(batch.rows, found["other_keys"])
                yield self._answers.build(batch.rows, output)
                if self.on_rows is not None:
                    self.on_rows(batch.rows.num_rows)

        name = part_name(part.input_index, part.part_index, self._settings.format)
        size = write_part(self._folder, name, tables(), self._answers.schema)
        if windows_exits is not None:
            found["windows_exits"] = windows_exits.tolist()
        return PartResult(
            part.input_index, part.part_index, exits=exits.tolist(), size=size, **found
        )


def _count_other_keys(rows: RowBatch, counts: Dict[str, int]) -> None:
    """Adds the rows of each key, of so many keys."""
    for keys in rows.other_keys.values():
        for key in keys:
            if key in counts or len(counts) < MAX_OTHER_KEYS_COUNTED:
                counts[key] = counts.get(key, 0) + 1


class _Prepared(NamedTuple):
    rows: RowBatch
    tokens: Optional[TokenBatch]
    num_cut: int = 0


def load_classifier(archive: str, settings: PredictionSettings, device: str) -> ArchivedClassifier:
    """
    The archive's classifier, at the settings' threshold.

    # Raises

    ValueError
        If it cannot be loaded, or its tokens not be made without AllenNLP.
    """
    classifier = load_archived_classifier(
        archive,
        confidence_threshold=settings.threshold,
        precision=settings.precision,
        runtime=settings.runtime,
        device=device,
        inference_only=True,
    )
    if classifier.tokenizer is None:
        raise ValueError(
            f"how the reader of '{archive}' makes tokens is not known without AllenNLP: wanted an "
            "archive with the reader labeled_tsv or labeled_table, or 'allennlp predict'"
        )
    return classifier
