"""Evaluates an archive at several thresholds and prints one table.

The metrics are those of `allennlp evaluate` with
--overrides '{"model.confidence_threshold": …}'. The seconds are those of the model alone, over
batches that are made before; the thresholds take turns, and the median of the rounds is shown.
"""

import argparse
import json
import logging
import time
from pathlib import Path
from statistics import median
from typing import Any, Dict, List

import torch
from allennlp.common.plugins import import_plugins
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import import_module_and_submodules
from allennlp.data import DataLoader
from allennlp.models.archival import load_archive
from allennlp.nn.util import move_to_device

from sledgehammer_allennlp.training.temperature_calibration import write_whole

COLUMNS = "{:>9}  {:>8}  {:>18}  {:>17}  {:>8}  {:>17}"


def evaluate_thresholds(
    archive_file: str,
    data: str,
    thresholds: List[float],
    rounds: int,
    batch_size: int,
    cuda_device: int,
) -> List[Dict[str, float]]:
    """The metrics and seconds of each threshold, in the order given, with speed-ups over 1.0."""
    archive = load_archive(archive_file, cuda_device=cuda_device)
    model: Any = archive.model.eval()
    loader_params = archive.config.get("validation_data_loader") or archive.config["data_loader"]
    sampler = loader_params.get("batch_sampler")
    (loader_params if sampler is None else sampler)["batch_size"] = batch_size
    loader = DataLoader.from_params(
        loader_params, reader=archive.validation_dataset_reader, data_path=data
    )
    loader.index_with(model.vocab)
    batches = [move_to_device(batch, cuda_device) for batch in Tqdm.tqdm(loader, desc="reading")]
    wanted = thresholds if 1.0 in thresholds else [*thresholds, 1.0]
    seconds: Dict[float, List[float]] = {threshold: [] for threshold in wanted}
    metrics: Dict[float, Dict[str, float]] = {}
    turns = [threshold for _ in range(rounds) for threshold in wanted]
    with torch.inference_mode():
        for threshold in Tqdm.tqdm(turns, desc="evaluating"):
            model.confidence_threshold = threshold
            start = time.perf_counter()
            for batch in batches:
                model(**batch)
            if cuda_device >= 0:
                torch.cuda.synchronize()
            seconds[threshold].append(time.perf_counter() - start)
            metrics[threshold] = model.get_metrics(reset=True)
    return [
        {
            "threshold": threshold,
            **metrics[threshold],
            "seconds": median(seconds[threshold]),
            "speed_up": median(seconds[1.0]) / median(seconds[threshold]),
        }
        for threshold in thresholds
    ]


def table(rows: List[Dict[str, float]]) -> str:
    """The rows as text."""
    header = COLUMNS.format(
        *("threshold", "accuracy", "average exit layer", "layer-equivalents"),
        *("seconds", "speed-up over 1.0"),
    )
    lines = [
        COLUMNS.format(
            f"{row['threshold']:g}",
            f"{row['accuracy']:.4f}",
            f"{row['average_exit_layer']:.2f}",
            f"{row['layer_equivalents']:.2f}",
            f"{row['seconds']:.2f}",
            f"{row['speed_up']:.1f}x",
        )
        for row in rows
    ]
    return "\n".join([header, *lines])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive_file", help="model.tar.gz, or the folder of a training run")
    parser.add_argument("data", help="labelled data, in the format of the archive's reader")
    parser.add_argument(
        "--thresholds", type=float, nargs="+", default=[0, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--cuda-device", type=int, default=-1)
    parser.add_argument(
        "--include-package", action="append", default=[], help="also import this package"
    )
    parser.add_argument("--output", type=Path, help="a JSON file to write the rows to")
    args = parser.parse_args()
    logging.getLogger("allennlp").setLevel(logging.WARNING)
    import_plugins()
    for package in args.include_package:
        import_module_and_submodules(package)
    rows = evaluate_thresholds(
        args.archive_file,
        args.data,
        args.thresholds,
        args.rounds,
        args.batch_size,
        args.cuda_device,
    )
    print()
    print(table(rows))
    if args.output is not None:
        rows_json = json.dumps(rows, indent=2) + "\n"
        write_whole(args.output, lambda beside: beside.write_text(rows_json, encoding="utf-8"))


if __name__ == "__main__":
    main()
