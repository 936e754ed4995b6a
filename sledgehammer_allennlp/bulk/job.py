"""A bulk job from beginning to end.

The order of events: the inputs are found and cut into parts, which the manifest names; parts that
are not done are answered, each file written whole, and then noted as done; the summary is written
when all are.
"""

import json
import time
from contextlib import closing
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from tqdm import tqdm

from sledgehammer_allennlp import __version__
from sledgehammer_allennlp.bulk.columns import Columns
from sledgehammer_allennlp.bulk.estimate import estimate
from sledgehammer_allennlp.bulk.inputs import InputFile, find_inputs
from sledgehammer_allennlp.bulk.manifest import DoneParts, archive_hash, begin
from sledgehammer_allennlp.bulk.output_folder import OutputFolder, output_folder
from sledgehammer_allennlp.bulk.part_file import PARTS, part_name
from sledgehammer_allennlp.bulk.part_worker import PartWorker, PredictionSettings
from sledgehammer_allennlp.bulk.parts import Part, PartRange
from sledgehammer_allennlp.bulk.ray_workers import RaySettings, run_parts
from sledgehammer_allennlp.bulk.summary import as_text, summarize
from sledgehammer_allennlp.bulk.tables import columns_of, plan_parts
from sledgehammer_allennlp.engine.costs import cost_of_exits

PLAN = "plan.json"
SUMMARY = "summary.json"


class InputSettings(NamedTuple):
    """Which rows are read."""

    names: Sequence[str]
    format: Optional[str]
    text_column: Optional[str]
    second_text_column: Optional[str]
    keep: Sequence[str]
    rows_per_part: int
    limit: Optional[int]


def run_job(
    archive: str,
    input_settings: InputSettings,
    settings: PredictionSettings,
    output_dir: str,
    device: Optional[str] = None,
    ray_settings: Optional[RaySettings] = None,
) -> str:
    """
    Runs a job, or goes on with it, in this process or by Ray.

    # Parameters

    archive : `str`
    input_settings : `InputSettings`
    settings : `PredictionSettings`
    output_dir : `str`
        A path or a URL; of this job alone.
    device : `str`, optional (default = a GPU if there is one)
    ray_settings : `RaySettings`, optional (default = this process)

    # Returns

    What is printed at the end.

    # Raises

    ValueError
        If there is an error of the user's, or another job in the folder.
    """
    inputs = find_inputs(input_settings.names, input_settings.format)
    columns = _columns(inputs, input_settings)
    folder = output_folder(output_dir)
    with folder.alone():
        begin(folder, _description(archive, inputs, columns, input_settings, settings))
        parts = _parts(inputs, input_settings, folder)
        done = DoneParts(folder)
        done.forget_changed(_sizes(folder, parts, settings.format))
        to_do = [part for part in parts if part[:2] not in done.results]
        worker = PartWorker(
            archive,
            inputs,
            columns,
            settings,
            folder,
            device or default_device() if ray_settings is None else "cpu",
        )
        with tqdm(
            total=sum(part.range.num_rows for part in parts),
            initial=sum(part.range.num_rows for part in parts if part[:2] in done.results),
            unit=" rows",
            disable=None,
        ) as bar:
            start = time.perf_counter()
            if ray_settings is None:
                worker.on_rows = bar.update
                results = worker.run(to_do)
            else:
                arguments = archive, inputs, columns, settings, folder, device
                results = run_parts(ray_settings, *arguments, to_do)
            with closing(results):
                for result in results:
                    done.add(result)
                    if ray_settings is not None:
                        bar.update(result.num_rows)
            seconds = time.perf_counter() - start
        classifier = worker.classifier
        summary = summarize(
            done.results.values(),
            classifier.exits.exit_layers,
            cost_of_exits(classifier.encoder, classifier.exits),
            [one.url for one in inputs],
            classifier.max_tokens,
        )
        summary["labels"] = classifier.labels
        folder.write(SUMMARY, json.dumps(summary, indent=2) + "\n")
    rows_now = sum(done.results[part[:2]].num_rows for part in to_do)
    return as_text(summary, seconds, rows_now)


def default_device() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def estimate_job(
    archive: str,
    input_settings: InputSettings,
    settings: PredictionSettings,
    device: Optional[str] = None,
) -> str:
    """What a job would cost at some thresholds, by a sample; raises as `run_job` does."""
    inputs = find_inputs(input_settings.names, input_settings.format)
    columns = _columns(inputs, input_settings)
    rows_per_part, num_sampled = input_settings.rows_per_part, input_settings.limit
    device = device or default_device()
    return estimate(archive, inputs, columns, settings, device, rows_per_part, num_sampled)


def _columns(inputs: Sequence[InputFile], settings: InputSettings) -> Columns:
    return columns_of(inputs, settings.text_column, settings.second_text_column, settings.keep)


def _description(
    archive: str,
    inputs: Sequence[InputFile],
    columns: Columns,
    input_settings: InputSettings,
    settings: PredictionSettings,
) -> Dict[str, Any]:
    """All that the answers depend on."""
    return {
        "version": __version__,
        "archive": archive_hash(archive),
        "settings": {
            **settings._asdict(),
            "text_column": columns.text,
            "second_text_column": columns.second_text,
            "keep": {name: str(type_) for name, type_ in columns.kept.items()},
            **({"with_other_keys": True} if columns.with_other_keys else {}),
            "rows_per_part": input_settings.rows_per_part,
            "limit": input_settings.limit,
        },
        "inputs": {one.url: {**one._asdict(), **one.state()} for one in inputs},
    }


def _parts(
    inputs: Sequence[InputFile], settings: InputSettings, folder: OutputFolder
) -> List[Part]:
    """The parts, as they were planned when the job was begun."""
    written = folder.read(PLAN)
    if written is None:
        written = json.dumps(plan_parts(inputs, settings.rows_per_part, settings.limit))
        folder.write(PLAN, written + "\n")
    return [
        Part(input_index, part_index, PartRange(*range_))
        for input_index, ranges in enumerate(json.loads(written))
        for part_index, range_ in enumerate(ranges)
    ]


def _sizes(folder: OutputFolder, parts: Sequence[Part], format_: str) -> Dict[Tuple[int, int], int]:
    """The sizes of the parts' files, of those that are there."""
    found = folder.sizes(PARTS)
    names = {part[:2]: part_name(*part[:2], format_) for part in parts}
    return {place: found[name] for place, name in names.items() if name in found}
