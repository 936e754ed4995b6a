"""`predict-files`, also without AllenNLP: answers files, and goes on where it was killed."""

import argparse
import signal
import sys
from contextlib import contextmanager
from typing import Any, Iterator, List, NoReturn

from sledgehammer_allennlp.bulk.formats import FORMATS
from sledgehammer_allennlp.bulk.needs_arrow import require_arrow
from sledgehammer_allennlp.files import no_room

HELP = "Answer files of texts, and go on after any interruption."

DESCRIPTION = (
    "Answer files of texts: JSON lines, CSV and TSV with a header, Parquet or plain text, "
    "compressed or not. The answers are in OUTPUT_DIR/parts, a file for each part of the input, in "
    "the order of the input, and what it cost in OUTPUT_DIR/summary.json. The same command goes on "
    "after it was killed."
)
_TERMINATED = 143


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = DESCRIPTION
    add = parser.add_argument
    add("archive_file", help="model.tar.gz, or the folder of a training run")
    add("inputs", nargs="+", metavar="INPUT", help="a file, a folder, a pattern or a URL")
    add("--output-dir", help="of this job alone: a folder or a URL, such as s3://bucket/folder")
    add("--input-format", choices=FORMATS, help="else by name")
    add(
        "--text-column",
        help="by default text, sentence, or premise and hypothesis; of plain text, text",
    )
    add("--second-text-column", help="of pairs")
    add(
        "--keep",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="columns that stand beside the answers, or all; one that is called as an answer, such "
        "as label, is then called input_label. With all, keys of JSON lines that the first 1,000 "
        "rows of a file have not are kept, too, in Parquet as JSON in the column other_keys, and "
        "counted in summary.json",
    )
    add("--threshold", type=float, help="from 0 to 1, by default the archive's")
    add("--precision", help="float32, bfloat16 or int8, by default the archive's")
    add("--runtime", help="auto, torch or onnxruntime, by default the archive's")
    add("--top-labels", type=_positive, help="so many labels and probabilities, not all")
    add("--format", choices=["parquet", "jsonl"], default="parquet", help="of the answers")
    add("--batch-size", type=_positive, default=4096, help="rows that run together (4096)")
    add("--rows-per-part", type=_positive, default=8192, help="what a kill may cost (8192)")
    add(
        "--bad-rows",
        choices=["stop", "skip"],
        default="stop",
        help="skip: in place of an answer stands why there is none",
    )
    add("--limit", type=_positive, help="only the first rows, up to the end of a part")
    add(
        "--estimate",
        action="store_true",
        help="run a sample of 10,000 rows, or of --limit rows, from all over the input, and say "
        "how long all would take at some thresholds",
    )
    add("--workers", type=_positive, help="so many processes, by Ray")
    add("--ray", metavar="ADDRESS", help="of a Ray cluster, auto, or local (with --workers)")
    add("--cpus-per-worker", type=_positive, default=1, help="threads of each worker (1)")
    add("--device", help="cpu, cuda, cuda:1; by default a GPU if there is one")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def run(args: argparse.Namespace) -> int:
    """
    Runs the job, and prints what it did.

    # Raises

    ValueError, OSError
        For errors of the user's, and where the disk is full. What is done stays.
    """
    require_arrow()
    from sledgehammer_allennlp.bulk.job import InputSettings, estimate_job, run_job
    from sledgehammer_allennlp.bulk.part_worker import PredictionSettings
    from sledgehammer_allennlp.bulk.ray_workers import RaySettings

    input_settings = InputSettings(
        args.inputs,
        args.input_format,
        args.text_column,
        args.second_text_column,
        args.keep,
        args.rows_per_part,
        args.limit,
    )
    settings = PredictionSettings(
        args.threshold,
        args.precision,
        args.top_labels,
        args.format,
        args.batch_size,
        args.bad_rows,
        args.runtime,
    )
    if args.estimate:
        print(estimate_job(args.archive_file, input_settings, settings, args.device))
        return 0
    if args.output_dir is None:
        raise ValueError("found no folder for the answers: wanted --output-dir, or --estimate")
    ray_settings = None
    if args.workers is not None or args.ray is not None:
        ray_settings = RaySettings(args.ray or "local", args.workers or 1, args.cpus_per_worker)
    try:
        with _ending_in_order():
            print(
                run_job(
                    args.archive_file,
                    input_settings,
                    settings,
                    args.output_dir,
                    args.device,
                    ray_settings,
                )
            )
    except OSError as error:
        if no_room(error) is None:
            raise
        raise ValueError(
            f"the answers cannot be written: wanted room for them in --output-dir "
            f"'{args.output_dir}', where the same command then goes on. {error}"
        ) from error
    return 0


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """
    Has SIGTERM end the process in order, as Ctrl-C does: what is unfinished is removed. Libraries
    that were called at that moment may make errors of their own of either.
    """
    signals: List[int] = []

    def handle(number: int, frame: Any) -> None:
        signals.append(number)
        _end(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except Exception:
        if signals:
            _end(signals[0])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(_TERMINATED)
