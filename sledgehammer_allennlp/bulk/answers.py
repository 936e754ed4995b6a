"""The answers to rows, as columns of Arrow."""

import json
from typing import Any, List, Optional, Sequence

import numpy as np
import pyarrow as pa
import torch

from sledgehammer_allennlp.bulk.columns import Columns
from sledgehammer_allennlp.bulk.kept_names import ANSWER_NAMES, OTHER_KEYS, kept_name
from sledgehammer_allennlp.bulk.rows import RowBatch
from sledgehammer_allennlp.engine import EarlyExitOutput, most_probable
from sledgehammer_allennlp.engine.exit_rule import abstained


class AnswerTable:
    """
    Makes tables of answers. Their columns are those that are kept of the input, `other_keys`, as
    JSON, where the columns are with other keys, `label`,
    `confidence`, `exit_layer`, `probs` in the order of the labels, or with `top_labels` instead
    `top_labels` and `top_probs`, the most probable first; `best_label` with `abstain_below`;
    `windows` and `windows_read` where texts are read in windows; and `error` where bad rows are
    skipped.

    # Parameters

    columns : `Columns`
    labels : `Sequence[str]`
    exit_layers : `Sequence[int]`
    top_labels : `int`, optional
    with_errors : `bool`, optional (default = `False`)
    abstain_below : `float`, optional (default = `None`)
        If given, there is no `label` where confidence is below it, and `best_label` is the most
        probable one in any case.
    with_windows : `bool`, optional (default = `False`)
    """

    def __init__(
        self,
        columns: Columns,
        labels: Sequence[str],
        exit_layers: Sequence[int],
        top_labels: Optional[int] = None,
        with_errors: bool = False,
        abstain_below: Optional[float] = None,
        with_windows: bool = False,
    ) -> None:
        self._labels = pa.array(labels, pa.string())
        self._exit_layers = np.asarray(exit_layers, dtype=np.int32)
        self._num_top = None if top_labels is None else min(top_labels, len(labels))
        self._with_other_keys = columns.with_other_keys
        self._with_errors = with_errors
        self._abstain_below = abstain_below
        probs: List[Any] = [("probs", pa.list_(pa.float32()))]
        if top_labels is not None:
            probs = [
                ("top_labels", pa.list_(pa.string())),
                ("top_probs", pa.list_(pa.float32())),
            ]
        self.schema = pa.schema(
            [(kept_name(name), type_) for name, type_ in columns.kept.items()]
            + ([(OTHER_KEYS, pa.string())] if columns.with_other_keys else [])
            + [("label", pa.string()), ("confidence", pa.float32()), ("exit_layer", pa.int32())]
            + probs
            + ([] if abstain_below is None else [("best_label", pa.string())])
            + ([("windows", pa.int32()), ("windows_read", pa.int32())] if with_windows else [])
            + ([("error", pa.string())] if with_errors else [])
        )

    def build(self, rows: RowBatch, output: Optional[EarlyExitOutput]) -> pa.Table:
        """
        The table of `(num_rows,)` answers, in the order of the rows.

        # Parameters

        rows : `RowBatch`
        output : `EarlyExitOutput`, optional
            Of its good rows; `None` if there are none.
        """
        answers = self._of_nothing() if output is None else self._of(output)
        if len(rows.good) < rows.num_rows:
            answer_of_row = np.zeros(rows.num_rows, dtype=np.int64)
            answer_of_row[rows.good] = np.arange(len(rows.good))
            is_bad = np.ones(rows.num_rows, dtype=bool)
            is_bad[rows.good] = False
            indices = pa.array(answer_of_row, mask=is_bad)
            answers = [column.take(indices) for column in answers]
        if self._with_errors:
            errors = [rows.errors.get(place) for place in range(rows.num_rows)]
            answers.append(
                pa.array([error and _whole_letters(error) for error in errors], pa.string())
            )
        kept = [column.cast(field.type) for column, field in zip(rows.kept, self.schema)]
        if self._with_other_keys:
            others = [rows.other_keys.get(place) for place in range(rows.num_rows)]
            kept.append(pa.array([one and json.dumps(one) for one in others], pa.string()))
        return pa.Table.from_arrays([*kept, *answers], schema=self.schema)

    def _of(self, output: EarlyExitOutput) -> List[pa.Array]:
        labels = most_probable(output.logits, output.probs).cpu()
        probs = output.probs.float().cpu()
        best = self._labels.take(pa.array(labels.numpy()))
        is_none: Any = None
        if self._abstain_below is not None:
            is_none = abstained(output.confidence, self._abstain_below).cpu().numpy()
        columns = [
            self._labels.take(pa.array(labels.numpy(), mask=is_none)),
            pa.array(output.confidence.float().cpu().numpy()),
            pa.array(self._exit_layers[output.exit_index.cpu().numpy()]),
        ]
        others = [] if self._abstain_below is None else [best]
        if output.windows is not None:
            for numbers in (output.windows.numbers, output.windows.exits.sum(1)):
                others.append(pa.array(numbers.cpu().numpy(), pa.int32()))
        if self._num_top is None:
            return [*columns, _lists(pa.array(probs.flatten().numpy()), len(probs)), *others]
        # The label stands first, also where another is as probable.
        is_label = torch.zeros_like(probs).scatter_(1, labels.unsqueeze(1), 1.0)
        order = (probs + is_label).sort(dim=1, descending=True, stable=True).indices
        order = order[:, : self._num_top]
        names = self._labels.take(pa.array(order.flatten().numpy()))
        top = pa.array(probs.gather(1, order).flatten().numpy())
        return [*columns, _lists(names, len(probs)), _lists(top, len(probs)), *others]

    def _of_nothing(self) -> List[pa.Array]:
        return [
            pa.array([], field.type)
            for field in self.schema
            if field.name in ANSWER_NAMES and field.name != "error"
        ]


def _lists(values: pa.Array, num_rows: int) -> pa.ListArray:
    size = len(values) // max(num_rows, 1)
    offsets = np.arange(num_rows + 1, dtype=np.int32) * size
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _whole_letters(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
