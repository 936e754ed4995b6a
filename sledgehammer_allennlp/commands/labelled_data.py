"""What the subcommands share: an archive, labelled data, and the scores of all exits for it."""

import argparse
import logging
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Dict, Iterator, List, Tuple

from allennlp.common import logging as common_logging
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import parse_overrides
from allennlp.common.tqdm import Tqdm
from allennlp.data import Instance, Vocabulary
from allennlp.data.data_loaders import SimpleDataLoader
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import PretrainedTransformerIndexer
from allennlp.models.archival import Archive

from sledgehammer_allennlp.calibration import check_logits
from sledgehammer_allennlp.labeled_lines import unseen_label
from sledgehammer_allennlp.models import MultiExitClassifier
from sledgehammer_allennlp.models.checked_archive import load_checked_archive
from sledgehammer_allennlp.models.quiet_loading import without_lists_of_settings
from sledgehammer_allennlp.training.full_depth import FullDepth, run_at_full_depth
from sledgehammer_allennlp.values import short_repr

logger = logging.getLogger(__name__)

BATCH_SIZE = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that name the model and the data, as those of `allennlp evaluate`."""
    parser.add_argument("archive_file", help="model.tar.gz, or the folder of a training run")
    parser.add_argument("input_file", help="labelled data, in the format of the archive's reader")
    parser.add_argument(
        "-o",
        "--overrides",
        default="",
        help='JSON to override the archive\'s config, e.g. \'{"model.precision": "int8"}\'',
    )
    parser.add_argument(
        "--trust-archive",
        action="store_true",
        help="load the archive even if that may run code which it names; see check-archive",
    )
    parser.add_argument("--cuda-device", type=int, default=-1, help="id of the GPU to use, if any")
    parser.add_argument(
        "--batch-size", type=int, default=BATCH_SIZE, help="how many texts run together"
    )
    parser.add_argument(
        "--file-friendly-logging",
        action="store_true",
        help="print progress on separate lines, and seldom",
    )


@contextmanager
def writing(argument: str) -> Iterator[None]:
    """
    # Raises

    ConfigurationError
        If what is done meanwhile cannot write, because the disk is full, say.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"the results cannot be written: wanted room for them, or another {argument}. {error}"
        ) from error


def overrides_in(args: argparse.Namespace) -> Dict[str, Any]:
    """
    What `--overrides` says.

    # Raises

    ConfigurationError
        If it is not a JSON object.
    """
    try:
        overrides = parse_overrides(args.overrides)
    except (RuntimeError, ValueError) as error:  # Jsonnet's, and json's
        raise ConfigurationError(
            f"--overrides is {short_repr(args.overrides)}: wanted a JSON object. {str(error)[:500]}"
        ) from error
    if not isinstance(overrides, dict):
        raise ConfigurationError(
            f"--overrides is {short_repr(args.overrides)}: wanted a JSON object"
        )
    return overrides


def load(args: argparse.Namespace) -> Tuple[Archive, MultiExitClassifier]:
    """
    The archive and its model, in evaluation mode.

    # Raises

    ConfigurationError
        If the archive is not of a multi_exit_classifier, or should not be loaded (see
        `load_checked_archive`), or not with `--overrides`, or the batch size is below 1.
    """
    common_logging.FILE_FRIENDLY_LOGGING = args.file_friendly_logging
    if args.batch_size < 1:
        raise ConfigurationError(f"--batch-size is {args.batch_size}: wanted at least 1")
    overrides = overrides_in(args)
    try:
        with without_lists_of_settings():
            archive = load_checked_archive(
                args.archive_file, args.cuda_device, args.overrides, args.trust_archive
            )
    except ConfigurationError as error:
        # What AllenNLP says of values that it does not expect.
        cause = error.__cause__
        if not overrides or not isinstance(
            cause, (AttributeError, KeyError, TypeError, ValueError)
        ):
            raise
        raise ConfigurationError(
            f"'{args.archive_file}' does not load with --overrides {short_repr(args.overrides)}: "
            f"wanted what its config takes. {str(cause)[:1000]}"
        ) from cause
    model = archive.model
    assert isinstance(model, MultiExitClassifier)
    return archive, model.eval()


def read_labelled(archive: Archive, model: MultiExitClassifier, path: str) -> List[Instance]:
    """
    The instances of a file, in the file's order, each with one of the model's labels.

    # Raises

    ConfigurationError
        If there are none, or one has no label, or one that is not among the model's.
    """
    reader, known = archive.validation_dataset_reader, model.label_names()
    instances = []
    for number, instance in enumerate(Tqdm.tqdm(reader.read(path), desc="reading"), start=1):
        _check_label(instance, model.vocab, known, f"'{path}', instance {number}")
        instances.append(instance)
    if not instances:
        raise ConfigurationError(f"'{path}' has no instances: wanted labelled data")
    return instances


def _check_label(instance: Instance, vocab: Vocabulary, known: List[str], where: str) -> None:
    field = instance.fields.get("label")
    if field is None:
        raise ConfigurationError(f"{where} has no label: wanted labelled data")
    try:
        field.index(vocab)
    except KeyError:
        label = field.label  # type: ignore[attr-defined]
        raise ConfigurationError(unseen_label(where, label, known)) from None
    if not 0 <= int(field.as_tensor({})) < len(known):
        raise ConfigurationError(
            f"{where}: label {int(field.as_tensor({}))}: wanted a number below {len(known)}"
        )


def run_all_exits_on(
    model: MultiExitClassifier, instances: List[Instance], batch_size: int
) -> FullDepth:
    """
    What every exit says, and the labels, from one full-depth pass.

    # Raises

    ConfigurationError
        If logits are not finite numbers.
    """
    if model.windows is not None:
        logger.warning(
            "The model reads long texts in windows. What follows is of their first windows alone; "
            "`allennlp evaluate` measures them as they are read."
        )
    loader = SimpleDataLoader(instances, batch_size, vocab=model.vocab)
    full_depth = run_at_full_depth(model, loader, model.encoder.device, "running all exits")
    for exit_layer, exit_logits in zip(model.exit_layers, full_depth.logits):
        try:
            check_logits(exit_logits, full_depth.labels, f"cannot use exit layer {exit_layer}")
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
    return full_depth


def text_of(instance: Instance) -> str:
    """The text of an instance as the model sees it, with a slash between those of a pair."""
    field = instance["tokens"]
    assert isinstance(field, TextField)
    pieces = [token.text or "" for token in field.tokens]
    tokenizers = [
        indexer._tokenizer
        for indexer in field.token_indexers.values()
        if isinstance(indexer, PretrainedTransformerIndexer)
    ]
    if not tokenizers:
        return " ".join(pieces)
    specials = set(tokenizers[0].all_special_tokens) - {tokenizers[0].unk_token}
    texts = [
        tokenizers[0].convert_tokens_to_string(list(among)).strip()
        for is_special, among in groupby(pieces, key=lambda piece: piece in specials)
        if not is_special
    ]
    return " / ".join(texts)
