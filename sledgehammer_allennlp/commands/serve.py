"""`allennlp serve`: an archive as a service over HTTP."""

import argparse
import sys

from allennlp.commands.subcommand import Subcommand

from sledgehammer_allennlp.serving.command import HELP, add_arguments, run


@Subcommand.register("serve")
class Serve(Subcommand):
    """
    Serves a trained `multi_exit_classifier` over HTTP; the same as `python -m sledgehammer_allennlp
    serve`.

    Registered as a `Subcommand` with name "serve".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(self.name, help=HELP)
        add_arguments(subparser)
        subparser.set_defaults(func=serve_from_args)
        return subparser


def serve_from_args(args: argparse.Namespace) -> None:
    """Serves until it is told to end; exits with the status of an error of the user's."""
    try:
        status = run(args)
    except (OSError, ValueError) as error:
        sys.exit(f"serve: error: {error}")
    if status:
        sys.exit(status)
