"""`new-config`: a first config for data and a pretrained model."""

import argparse
import os
import shlex
import tempfile
import textwrap
from pathlib import Path
from typing import List, Optional, Union

from sledgehammer_allennlp import __version__
from sledgehammer_allennlp.bulk.formats import format_and_compression
from sledgehammer_allennlp.configs import SETTINGS_FILE
from sledgehammer_allennlp.configs.data_summary import (
    DataSummary,
    LabeledFile,
    TableColumns,
    read_summary,
)
from sledgehammer_allennlp.configs.findings import check, kind, warnings
from sledgehammer_allennlp.configs.settings_copy import (
    has_same_settings,
    settings_text,
    write_together,
)
from sledgehammer_allennlp.needs_allennlp import has_allennlp
from sledgehammer_allennlp.values import short_repr

StrPath = Union[str, Path]

HELP = "Write a first config for your data and a pretrained model."
_DESCRIPTION = (
    "Check labelled training and dev data, look at a pretrained model, and write a config for "
    "`allennlp train` whose settings fit both, with the reasons as comments. Beside it comes "
    f"{SETTINGS_FILE.name}, which it imports. Needs no AllenNLP, and trains nothing."
)
_MOST_LABELS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `new-config`."""
    parser.description = _DESCRIPTION
    parser.add_argument("config_file", help="the config to write, such as mine.jsonnet")
    lines = "lines of label<TAB>text, or for pairs label<TAB>text<TAB>second text, UTF-8, no header"
    parser.add_argument("--train", required=True, metavar="FILE", help=f"training data: {lines}")
    parser.add_argument(
        "--dev",
        required=True,
        metavar="FILE",
        help="other data of that kind, some hundred lines, to choose the best epoch and calibrate",
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="a Hugging Face name or a local folder"
    )
    table = parser.add_argument_group(
        "tables", "with any of these, the data are CSV, TSV with a header, JSON lines or Parquet"
    )
    table.add_argument("--text-column", metavar="COLUMN", help="default: text")
    table.add_argument("--second-text-column", metavar="COLUMN", help="of pairs")
    table.add_argument("--label-column", metavar="COLUMN", help="default: label")
    parser.add_argument("--force", action="store_true", help="replace files that are there")


def run(args: argparse.Namespace) -> int:
    """
    Writes the config and prints what was found, and the next command.

    # Raises

    ValueError
        If the data or the model cannot be used, or a file is in the way. Nothing is written then.
    """
    if not args.config_file:
        raise ValueError("the config's name is empty: wanted one such as mine.jsonnet")
    config_file = Path(args.config_file)
    settings_file = config_file.with_name(SETTINGS_FILE.name)
    settings = settings_text(__version__)
    _check_names(args)
    _check_targets(config_file, settings_file, settings, args.force)
    _check_differ(args, config_file, settings_file)
    columns = _columns(args)
    train = _summary(args, LabeledFile(args.train, columns))
    dev = _summary(args, LabeledFile(args.dev, columns))
    check(train, dev)
    # Only now: it takes seconds to import what reads models.
    from sledgehammer_allennlp.configs.choices import all_choices, described_steps
    from sledgehammer_allennlp.configs.config_text import config_text
    from sledgehammer_allennlp.configs.pretrained_model import read_model, tokenize_sample

    model = read_model(args.model)
    lengths, pieces = tokenize_sample(train, model)
    choices = all_choices(train, dev, model, lengths)
    found = [_description(train), _description(dev)]
    to_know = [*warnings(train, dev), *model.warnings()]
    unknown = pieces.warning()
    if unknown is not None:
        to_know.append(f"{model.name}: {unknown}.")
    head = _head(config_file, found + to_know)
    texts = {config_file: config_text(head, choices)}
    is_there = settings_file.exists() and has_same_settings(settings_file, settings)
    if not is_there:
        texts = {settings_file: settings, **texts}
    write_together(texts)

    print("\n".join(found))
    for warning in to_know:
        print(textwrap.fill(f"Warning: {warning}", 100, subsequent_indent="  "))
    print()
    for choice in choices:
        print(f"{choice.name}: {choice.value}")
    chosen = {choice.name: choice.value for choice in choices}
    steps = described_steps(train.num_texts, chosen["batch_size"], chosen["num_epochs"])
    print(f"That is {steps}")
    print()
    print(f"Written to {config_file}, with the reasons.")
    print(f"Beside it {settings_file.name}, {'as it was' if is_there else 'which it imports'}.")
    print(f"Next:\n  {_train_command(config_file)}")
    if not has_allennlp():
        print(
            "This needs AllenNLP, which is not installed here: "
            "pip install 'sledgehammer_allennlp[train]'"
        )
    return 0


def _columns(args: argparse.Namespace) -> Optional[TableColumns]:
    """Those of tables, or `None` if the data are lines."""
    if (args.text_column, args.second_text_column, args.label_column) == (None, None, None):
        return None
    return TableColumns(
        args.text_column or "text", args.second_text_column, args.label_column or "label"
    )


def _summary(args: argparse.Namespace, file: LabeledFile) -> DataSummary:
    try:
        return read_summary(file)
    except ValueError as error:
        hint = _hint(args, file, str(error))
        if hint is None:
            raise
        separator = "\n" if "\n" in str(error) else ". "  # after a list of lines
        raise ValueError(f"{error}{separator}{hint}") from error


def _hint(args: argparse.Namespace, file: LabeledFile, error: str) -> Optional[str]:
    """What to do about an error in the data, if their columns have not been named."""
    if file.columns is None:
        format_, compression = format_and_compression(file.path)
        is_table = format_ in ("csv", "jsonl", "parquet") or compression is not None
        name_both = "If it is a table, name its columns: --text-column and --label-column"
        return name_both if is_table else None
    for role in ("text", "label"):
        is_named = getattr(args, f"{role}_column") is not None
        if not is_named and f"there is no column {role!r}" in error:
            return f"If it has another name: --{role}-column COLUMN"
    return None


def _check_names(args: argparse.Namespace) -> None:
    names = ("train", "dev", "model", "text_column", "second_text_column", "label_column")
    for name in names:
        value = getattr(args, name) or ""
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} is {short_repr(value)}: wanted a name in UTF-8")


def _check_targets(config_file: Path, settings_file: Path, settings: str, force: bool) -> None:
    if config_file.name == SETTINGS_FILE.name:
        raise ValueError(
            f"the config is '{config_file}', the name of the file that it imports: wanted another"
        )
    if not config_file.parent.is_dir():
        raise ValueError(f"there is no folder '{config_file.parent}': wanted one to write in")
    try:
        tempfile.TemporaryFile(dir=config_file.parent).close()
    except OSError as error:
        raise ValueError(
            f"the folder '{config_file.parent}' cannot be written to: wanted another. {error}"
        ) from error
    for path in (config_file, settings_file):
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise ValueError(f"'{path}' is no file: wanted one that can be replaced, or none")
    if force:
        return
    if config_file.exists():
        raise ValueError(f"'{config_file}' is there: wanted another name, or --force to replace it")
    if settings_file.exists() and not has_same_settings(settings_file, settings):
        raise ValueError(
            f"'{settings_file}' is there and has other settings than that of version "
            f"{__version__}: wanted another folder for the config, or --force to replace it, which "
            "changes all configs that import it"
        )


def _check_differ(args: argparse.Namespace, config_file: Path, settings_file: Path) -> None:
    """No data may be replaced, and dev data are no training data."""
    for name in ("train", "dev"):
        for target in (config_file, settings_file):
            if _is_same_file(target, getattr(args, name)):
                raise ValueError(
                    f"--{name} is '{target}', which would be replaced: wanted another name"
                )
    if _is_same_file(args.train, args.dev):
        raise ValueError(
            f"--train and --dev are the same file, '{args.dev}': wanted other texts as dev"
        )


def _is_same_file(one: StrPath, other: StrPath) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def _description(data: DataSummary) -> str:
    counts = [f"{count:,} {short_repr(label)}" for label, count in data.counts.items()]
    more = f", and {len(counts) - _MOST_LABELS:,} more" if len(counts) > _MOST_LABELS else ""
    return (
        f"{data.path}: {data.num_texts:,} {kind(data)}, {len(counts):,} labels: "
        f"{', '.join(counts[:_MOST_LABELS])}{more}."
    )


def _head(config_file: Path, facts: List[str]) -> List[str]:
    return [
        f"Written by `python -m sledgehammer_allennlp new-config`, version {__version__}, to be "
        f"changed. Every setting, with its default, stands in {SETTINGS_FILE.name}.",
        "Paths are relative to the folder where training is started, "
        f"{_working_folder(config_file)}. There:",
        f"    {_train_command(config_file)}",
        *facts,
    ]


def _working_folder(config_file: Path) -> str:
    """Where the command is run, as seen from the config, so that both can be moved together."""
    relative = os.path.relpath(os.getcwd(), config_file.resolve().parent)
    return "that of this file" if relative == "." else f"{relative}, seen from that of this file"


def _train_command(config_file: Path) -> str:
    # With "./" what starts with "-" is not taken for an option.
    path = str(config_file)
    path = f"./{path}" if path.startswith("-") else path
    return (
        f"allennlp train {shlex.quote(path)} -s {shlex.quote(f'runs/{config_file.stem}')} "
        "--include-package sledgehammer_allennlp"
    )
