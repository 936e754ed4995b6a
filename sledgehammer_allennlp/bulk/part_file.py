"""The file of a part's answers, Parquet or JSON lines."""

import json
from pathlib import Path
from typing import Any, Dict, Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from sledgehammer_allennlp.bulk.columns import as_scalar
from sledgehammer_allennlp.bulk.kept_names import ANSWER_NAMES, OTHER_KEYS, kept_name
from sledgehammer_allennlp.bulk.output_folder import OutputFolder

PARTS = "parts"
"""The folder of these files, in that of the job."""

OUTPUT_FORMATS = ("parquet", "jsonl")


def part_name(input_index: int, part_index: int, format_: str) -> str:
    """The name of a part's file; sorted, names are in the order of the input."""
    return f"{part_key(input_index, part_index)}.{format_}"


def part_key(input_index: int, part_index: int) -> str:
    """The name without its end."""
    return f"part-{input_index:05d}-{part_index:07d}"


def write_part(
    folder: OutputFolder, name: str, tables: Iterable[pa.Table], schema: pa.Schema
) -> int:
    """
    Writes tables one after the other, in the format that the name ends in. The file is there whole
    or not at all, whatever happens meanwhile.

    # Returns

    The size of the file, in bytes.
    """
    write = _write_parquet if name.endswith(".parquet") else _write_lines
    return folder.write_file(f"{PARTS}/{name}", lambda path: write(path, tables, schema))


def _write_parquet(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    with open(path, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _write_lines(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            for row in map(_with_other_keys, table.to_pylist()):
                # Of a bad row there is no answer, and of a good one no error.
                answer = {
                    key: value
                    for key, value in row.items()
                    if value is not None or key not in ANSWER_NAMES or _abstains(key, row)
                }
                file.write(json.dumps(answer, ensure_ascii=False, default=str) + "\n")


def _with_other_keys(row: Dict[str, Any]) -> Dict[str, Any]:
    """The row with its other keys in place of the JSON that holds them."""
    if OTHER_KEYS not in row:
        return row
    found: Dict[str, Any] = {}
    for name, value in row.items():
        if name != OTHER_KEYS:
            found[name] = value
        elif value is not None:
            others = json.loads(value)
            found.update({kept_name(key): as_scalar(others[key]) for key in others})
    return found


def _abstains(key: str, row: Dict[str, Any]) -> bool:
    """Whether this is the label of an answer that is none of the labels."""
    return key == "label" and row.get("best_label") is not None
