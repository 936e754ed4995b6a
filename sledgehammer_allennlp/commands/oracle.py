"""`allennlp oracle`: the cheapest exit that is right, for each labelled text."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any, Dict, List

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from sledgehammer_allennlp.commands.error_line import ending_in_a_line
from sledgehammer_allennlp.commands.labelled_data import (
    add_arguments,
    load,
    overrides_in,
    read_labelled,
    run_all_exits_on,
    writing,
)
from sledgehammer_allennlp.data.labeled_table import LabeledTableReader
from sledgehammer_allennlp.data.labeled_tsv import LabeledTsvReader
from sledgehammer_allennlp.files import write_whole
from sledgehammer_allennlp.tradeoff.oracle import OraclePoint, cheapest_right_exit, oracle_curve
from sledgehammer_allennlp.tradeoff.results import aligned, times
from sledgehammer_allennlp.training.full_depth import predictions_at_exits
from sledgehammer_allennlp.training.output_folder import check_writable


@Subcommand.register("oracle")
class Oracle(Subcommand):
    """
    Runs a `multi_exit_classifier` once at full depth over labelled data, says what early exit
    would give if it always left at the first exit that is right, and writes the data with that
    exit's layer, for a reader `with_exit_layers`.

    Registered as a `Subcommand` with name "oracle".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Find for each labelled text the cheapest exit of a multi_exit_classifier that is "
            "right, say how accurate and how fast early exit by that rule would be, and write "
            "label<TAB>layer<TAB>text lines, with which the model exits there."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Find the cheapest exit that is right."
        )
        add_arguments(subparser)
        subparser.add_argument(
            "--output-file", required=True, type=Path, help="the TSV file to write"
        )
        subparser.set_defaults(func=ending_in_a_line(self.name, oracle_from_args))
        return subparser


def oracle_from_args(args: argparse.Namespace) -> List[OraclePoint]:
    """
    Finds the exits, writes the file, and prints what they give.

    # Raises

    ConfigurationError
        If an argument or the data cannot be used.
    """
    if args.output_file.is_dir():
        raise ConfigurationError(f"--output-file is '{args.output_file}', a folder: wanted a file")
    check_writable(args.output_file.parent, "--output-file")
    archive, model = load(args)
    reader = archive.validation_dataset_reader
    if not isinstance(reader, LabeledTsvReader) or isinstance(reader, LabeledTableReader):
        raise ConfigurationError(
            f"the archive's reader is {type(reader).__name__}: wanted labeled_tsv, whose files "
            "can say at which layer to exit"
        )
    instances = read_labelled(archive, model, args.input_file)
    full_depth = run_all_exits_on(model, instances, args.batch_size)
    predicted, _ = predictions_at_exits(model, full_depth)
    correct = predicted == full_depth.labels
    chosen = cheapest_right_exit(correct).tolist()
    lines = []
    for row, exit_index in zip(reader.rows(args.input_file), chosen):
        columns = [row.label, str(model.exit_layers[exit_index]), row.text]
        if row.second_text is not None:
            columns.append(row.second_text)
        lines.append("\t".join(columns) + "\n")
    content = "".join(lines).encode(reader.encoding)
    with writing("--output-file"):
        write_whole(args.output_file, lambda beside: beside.write_bytes(content))
    points = oracle_curve(correct, model.exit_costs)
    has_own_reader = "validation_dataset_reader" in archive.config
    reader_key = "validation_dataset_reader" if has_own_reader else "dataset_reader"
    overrides = {**overrides_in(args), f"{reader_key}.with_exit_layers": True}
    print(_summary(points, model.exit_layers, len(lines), args, overrides))
    return points


def _summary(
    points: List[OraclePoint],
    exit_layers: List[int],
    num_texts: int,
    args: argparse.Namespace,
    overrides: Dict[str, Any],
) -> str:
    last = points[-1]
    rows = [["exits up to layer", "oracle", "layer-equivalents", "this exit alone", "its cost"]]
    rows += [
        [
            str(exit_layers[point.exit_index]),
            f"{point.accuracy:.4f}",
            f"{point.layer_equivalents:.2f}",
            f"{point.accuracy_of_exit:.4f}",
            f"{point.layer_equivalents_of_exit:.2f}",
        ]
        for point in points
    ]
    speed_up = float("inf")
    if last.layer_equivalents > 0:
        speed_up = last.layer_equivalents_of_exit / last.layer_equivalents
    return "\n".join(
        [
            "",
            f"{num_texts:,} instances. An oracle exits at the first exit that is right, and where "
            "none is at the first:",
            "",
            aligned(rows),
            "",
            f"With all exits: accuracy {last.accuracy:.4f} instead of {last.accuracy_of_exit:.4f} "
            f"at the last exit, {times(speed_up)}.",
            "",
            f"Written to {args.output_file}. To have the model exit there:",
            f"  allennlp evaluate {args.archive_file} {args.output_file} --include-package "
            "sledgehammer_allennlp \\",
            f"    --overrides {shlex.quote(json.dumps(overrides))}",
        ]
    )
