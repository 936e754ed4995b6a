"""`allennlp check-archive`: what an archive has, and whether loading it would run code."""

import argparse
import sys

from allennlp.commands.subcommand import Subcommand

from sledgehammer_allennlp.archives.command import HELP as HELP
from sledgehammer_allennlp.archives.command import add_arguments as add_arguments
from sledgehammer_allennlp.archives.command import check_and_print
from sledgehammer_allennlp.models.checked_archive import check_archive


@Subcommand.register("check-archive")
class CheckArchive(Subcommand):
    """
    Says what loading an archive would make and run, without loading it, and exits with 1 if it
    should not be loaded.

    Registered as a `Subcommand` with name "check-archive".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(self.name, help=HELP)
        add_arguments(subparser)
        subparser.set_defaults(func=check_archive_from_args)
        return subparser


def check_archive_from_args(args: argparse.Namespace) -> None:
    """Checks and prints; exits if the archive should not be loaded."""
    if run(args):
        sys.exit(1)


def run(args: argparse.Namespace) -> int:
    """Checks what AllenNLP would make of an archive, and prints; gives the exit status."""
    return check_and_print(
        args.archive_file, check_archive, "It can be loaded: nothing of it is run."
    )
