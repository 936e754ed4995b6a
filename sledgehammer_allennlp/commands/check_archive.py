"""`allennlp check-archive`: what an archive has, and whether loading it would run code."""

import argparse
import sys
from typing import List

from allennlp.commands.subcommand import Subcommand

from sledgehammer_allennlp.archives.loading import ArchiveCheck, check_archive


@Subcommand.register("check-archive")
class CheckArchive(Subcommand):
    """
    Says what loading an archive would make and run, without loading it, and exits with 1 if it
    should not be loaded.

    Registered as a `Subcommand` with name "check-archive".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Look into an archive of somebody else's before other commands load it: say what it "
            "has and what loading it would run. Nothing of it is run. The exit status is 1 if it "
            "should not be loaded."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Say whether an archive can be loaded safely."
        )
        subparser.add_argument("archive_file", help="model.tar.gz, or the folder of a training run")
        subparser.set_defaults(func=check_archive_from_args)
        return subparser


def check_archive_from_args(args: argparse.Namespace) -> ArchiveCheck:
    """Checks and prints; exits if the archive should not be loaded."""
    check = check_archive(args.archive_file)
    print(summary(args.archive_file, check))
    if check.problems:
        sys.exit(1)
    return check


def summary(archive_file: str, check: ArchiveCheck) -> str:
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
        lines += ["", "It can be loaded: nothing of it is run."]
    return "\n".join(lines)


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
