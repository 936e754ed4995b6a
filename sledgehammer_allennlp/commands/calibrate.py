"""`allennlp calibrate`: a trained model calibrated anew, on any labelled data."""

import argparse
import io
import logging
import tarfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import torch
from allennlp.commands.subcommand import Subcommand
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.data import Instance
from allennlp.models.archival import CONFIG_NAME

from sledgehammer_allennlp.archives.contents import read_config
from sledgehammer_allennlp.archives.extraction import archive_folder
from sledgehammer_allennlp.archives.model_card import MODEL_CARD_FILE, base_model_line
from sledgehammer_allennlp.commands.error_line import ending_in_a_line
from sledgehammer_allennlp.commands.labelled_data import (
    add_arguments,
    load,
    overrides_in,
    read_labelled,
    run_all_exits_on,
    writing,
)
from sledgehammer_allennlp.commands.wishes import add_metric_argument
from sledgehammer_allennlp.files import temporary_folder, write_whole
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.tradeoff.results import shortest, times
from sledgehammer_allennlp.training.card_of_model import (
    card_of,
    look_like_pairs,
    pretrained_model_in,
)
from sledgehammer_allennlp.training.full_depth import FullDepth
from sledgehammer_allennlp.training.model_calibration import (
    CALIBRATION_FILE,
    ModelCalibration,
    ThresholdWish,
    calibrate_model,
    check_threshold_can_be_chosen,
    combination_lines,
    temperature_lines,
    with_calibration_of,
)
from sledgehammer_allennlp.training.output_folder import check_writable
from sledgehammer_allennlp.training.whole_archive import archive_whole
from sledgehammer_allennlp.weights_file import read_weights

logger = logging.getLogger(__name__)

WEIGHTS_FILE = "weights.th"
FEW_INSTANCES = 100


@Subcommand.register("calibrate")
class Calibrate(Subcommand):
    """
    Fits the temperatures of a trained `multi_exit_classifier`, and its combination, to labelled
    data, and writes an archive with them.

    Registered as a `Subcommand` with name "calibrate".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Fit the temperatures of a trained multi_exit_classifier to labelled data, print what "
            "that changes, and write a new archive. Overrides are used for the fit and are not "
            "kept."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Fit the temperatures of a trained model."
        )
        add_arguments(subparser)
        subparser.add_argument(
            "--output-archive",
            type=Path,
            metavar="FILE",
            help="the archive to write; by default model.calibrated.tar.gz beside the old one",
        )
        subparser.add_argument(
            "--force",
            action="store_true",
            help="replace the output archive if it exists, be it the old one",
        )
        subparser.add_argument(
            "--max-accuracy-drop",
            type=float,
            metavar="DROP",
            help="also make the fastest threshold that loses at most this share of accuracy the "
            "archive's default, 0.01 for one point",
        )
        add_metric_argument(subparser)
        subparser.add_argument(
            "--max-recall-drop",
            type=float,
            metavar="DROP",
            help="in place of it: the fastest threshold at which no label loses more than this "
            "share of its recall, 0.02 for two points",
        )
        combine = subparser.add_mutually_exclusive_group()
        combine.add_argument(
            "--combine-exits",
            action="store_true",
            default=None,
            help="also fit how each exit combines its logits with those of earlier ones; by "
            "default if the archive's exits are combined",
        )
        combine.add_argument(
            "--no-combine-exits",
            action="store_false",
            dest="combine_exits",
            help="calibrate each exit by its temperature alone",
        )
        subparser.set_defaults(func=ending_in_a_line(self.name, calibrate_from_args))
        return subparser


def calibrate_from_args(args: argparse.Namespace) -> ModelCalibration:
    """
    Fits, prints and writes.

    # Raises

    ConfigurationError
        If an argument or the data cannot be used.
    """
    output = _output_archive(args)
    try:
        wish = ThresholdWish(args.max_accuracy_drop, args.max_recall_drop, args.metric)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if wish.is_any:
        _check_overrides(overrides_in(args))
    archive, model = load(args)
    if wish.is_any:
        check_threshold_can_be_chosen(model)
    instances = read_labelled(archive, model, args.input_file)
    full_depth = run_all_exits_on(model, instances, args.batch_size)
    _check_labels(full_depth.labels, model.label_names(), args.input_file)
    if not wish.is_any and model.exits.default_threshold < 1:
        logger.warning(
            "The archive's default threshold, %s, was chosen with its old temperatures, and stays. "
            "To choose one anew, use --max-accuracy-drop or --max-recall-drop.",
            shortest(model.exits.default_threshold),
        )
    combine_exits = args.combine_exits
    if combine_exits is None:
        combine_exits = model.combination.weights is not None
    calibration = calibrate_model(
        model,
        full_depth,
        wish if wish.is_any else None,
        model.temperatures.tolist(),
        combine_exits,
    )
    with writing("--output-archive"):
        card_in = partial(_card_in, args, model, calibration, full_depth, instances)
        _write_archive(args.archive_file, output, model, calibration, card_in)
    print(_summary(calibration, output))
    return calibration


def _output_archive(args: argparse.Namespace) -> Path:
    old = Path(args.archive_file)
    folder = old if old.is_dir() else old.parent if old.exists() else Path()
    output = args.output_archive or folder / "model.calibrated.tar.gz"
    if output.is_dir() or not output.parent.is_dir():
        raise ConfigurationError(
            f"--output-archive is '{output}': wanted a file in a folder that exists"
        )
    check_writable(output.parent, "--output-archive")
    if output.exists() and not args.force:
        raise ConfigurationError(
            f"'{output}' exists: wanted another --output-archive, or --force to replace it"
        )
    return output


def _check_overrides(given: Dict[str, Any]) -> None:
    """Refuses to choose a threshold for a rule that the new archive will not have."""
    keys = {key.split(".")[1] for key in given if key.startswith("model.")}
    model = given.get("model")
    keys |= set(model) if isinstance(model, dict) else set()
    for key in sorted(keys & {"confidence", "ensemble"}):
        raise ConfigurationError(
            f"--overrides change the model's {key}, which the new archive will not have, and a "
            "threshold would be chosen for it: wanted these overrides, or --max-accuracy-drop or "
            "--max-recall-drop"
        )


def _check_labels(labels: np.ndarray, names: List[str], path: str) -> None:
    found = np.unique(labels)
    if len(found) == 1:
        raise ConfigurationError(
            f"all {len(labels)} instances of '{path}' have the label '{names[found[0]]}', which "
            "says nothing of confidence: wanted instances of several labels"
        )
    if len(labels) < FEW_INSTANCES:
        logger.warning(
            "'%s' has only %d instances: temperatures will be uncertain. Some hundred are wanted.",
            *(path, len(labels)),
        )
    if len(found) < len(names):
        missing = [name for number, name in enumerate(names) if number not in found]
        logger.warning(
            "'%s' has no instance of %d of the %d labels, among them %s.",
            *(path, len(missing), len(names), ", ".join(missing[:5])),
        )


def _card_in(
    args: argparse.Namespace,
    model: MultiExitClassifier,
    calibration: ModelCalibration,
    full_depth: FullDepth,
    instances: List[Instance],
    folder: Path,
) -> str:
    """The card of the new archive, which has the config of the old one, in this folder."""
    config = read_config(folder)
    old_card = folder / MODEL_CARD_FILE
    name = pretrained_model_in(config)
    # Where training was, it was known whether there was a folder of that name.
    line = f"\n{base_model_line(name or '')}\n"
    is_on_hub = old_card.is_file() and line in old_card.read_text("utf-8", errors="replace")
    return card_of(
        model,
        calibration,
        full_depth,
        config,
        calibrated_on=args.input_file,
        training_counts=None,
        is_on_hub=is_on_hub,
        are_pairs=look_like_pairs(instances),
        overrides=overrides_in(args),
    )


def _write_archive(
    archive_file: str,
    output: Path,
    model: MultiExitClassifier,
    calibration: ModelCalibration,
    card_in: Callable[[Path], str],
) -> None:
    """A copy of the old archive, with other weights, another `calibration.json` and card."""
    old = Path(cached_path(archive_file))
    with temporary_folder() as folder:
        if old.is_dir():
            config = Params.from_file(str(old / CONFIG_NAME))
            old = Path(
                archive_whole(
                    old,
                    weights=str(_weights_in(old).resolve()),
                    archive_path=folder,
                    include_in_archive=config.get("include_in_archive"),
                )
            )
        with archive_folder(old) as content:
            card = card_in(content)
            write_whole(
                output,
                lambda beside: _copy_with_calibration(content, beside, model, calibration, card),
            )


def _weights_in(folder: Path) -> Path:
    """The weights of a folder that AllenNLP loads."""
    return next(path for path in (folder / WEIGHTS_FILE, folder / "best.th") if path.exists())


def _copy_with_calibration(
    old: Path, new: Path, model: MultiExitClassifier, calibration: ModelCalibration, card: str
) -> None:
    """An archive of a folder's files, of which none is a link or has rights or an owner."""
    if not (old / WEIGHTS_FILE).is_file():
        raise ConfigurationError(f"found no {WEIGHTS_FILE} in the archive")
    with tarfile.open(new, "w:gz") as target:
        for path in sorted(old.rglob("*")):
            name = path.relative_to(old).as_posix()
            if name == WEIGHTS_FILE:
                _add(target, WEIGHTS_FILE, _calibrated_weights(path, model))
            elif name not in (CALIBRATION_FILE, MODEL_CARD_FILE):
                target.add(path, name, recursive=False, filter=_without_owner)
        _add(target, CALIBRATION_FILE, calibration.report().encode("utf-8"))
        _add(target, MODEL_CARD_FILE, card.encode("utf-8"))


def _calibrated_weights(weights: Path, model: MultiExitClassifier) -> bytes:
    written = io.BytesIO()
    torch.save(with_calibration_of(model, read_weights(weights, WEIGHTS_FILE)), written)
    return written.getvalue()


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mtime = int(time.time())
    archive.addfile(member, io.BytesIO(content))


def _summary(calibration: ModelCalibration, output: Path) -> str:
    temperatures = "\n".join(temperature_lines(calibration.exits))
    combined = "\n".join(combination_lines(calibration.exits))
    if combined:
        combined = f"\nExits combined with those before them:\n\n{combined}\n"
    unknown = calibration.seen_share_sentence()
    combined += f"\n{unknown}.\n" if unknown else ""
    threshold = ""
    if calibration.recommended is not None:
        point = calibration.recommended.point
        threshold = (
            f"\nDefault threshold of the new archive: {shortest(point.threshold)}. Predictions "
            f"without an override will be made at it: accuracy {point.accuracy:.4f} here, at the "
            f"last exit {point.accuracy + point.accuracy_drop:.4f}; {times(point.speed_up)}\n"
        )
        losses = calibration.losses_sentence()
        threshold += f"{losses}.\n" if losses else ""
    return (
        f"\nTemperatures fitted to {calibration.num_instances:,} instances:\n\n{temperatures}\n"
        f"{combined}{threshold}\n"
        f"Written: {output}\n"
        "Next, choose a threshold, on data that was not used here:\n"
        f"  allennlp tradeoff {output} DATA --output-dir DIR"
    )
