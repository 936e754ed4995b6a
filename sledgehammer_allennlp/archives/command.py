"""`check-archive`: what an archive has, and whether loading it would run code."""

import argparse
from typing import Callable, List

from sledgehammer_allennlp.archives.check import ArchiveCheck, check_archive

HELP = "Say whether an archive can be loaded safely."

DESCRIPTION = (
    "Look into an archive of somebody else's before it is loaded: say what it has and what loading "
    "it would run. Nothing of it is run. The exit status is 1 if it should not be loaded."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument("archive_file", help="model.tar.gz, or the folder of a training run")


def run(args: argparse.Namespace) -> int:
    """Checks for `load_archived_classifier`, without AllenNLP, and prints."""
    loads_it = (
        "load_archived_classifier can load it: nothing of it is run. (What AllenNLP would make of "
        "its config was not checked, because AllenNLP is not installed.)"
    )
    return check_and_print(args.archive_file, check_archive, loads_it)


def check_and_print(archive_file: str, check: Callable[[str], ArchiveCheck], when_good: str) -> int:
    """The exit status: 1 if the archive should not be loaded. `when_good` is printed if it may."""
    found = check(archive_file)
    print(summary(archive_file, found, when_good))
    return 1 if found.problems else 0


def summary(archive_file: str, check: ArchiveCheck, when_good: str) -> str:
    """What is printed. What the archive says is shown escaped, so that it cannot fake a line."""
    lines: List[str] = [f"{archive_file}: {len(check.files)} files"]
    lines += [f"  {size:>13,}  {name!r}" for name, size in check.files.items()]
    if check.classes:
        lines += ["", "Loading it makes:"]
        lines += [f"  {key!r}: {name}" for key, name in check.classes.items()]
    programs = [name for name in check.files if name.endswith((".py", ".allennlp_plugins"))]
    if programs:
        lines += ["", "Loading it does not run these, but `allennlp` in a folder with them may:"]
        lines += [f"  {name!r}" for name in programs]
    if check.problems:
        lines += ["", "It should not be loaded:"]
        lines += [f"  - {_on_one_line(problem)}" for problem in check.problems]
    else:
        lines += ["", when_good]
    return "\n".join(lines)


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
