"""`allennlp predict-files`: answers files of texts, and goes on after any interruption."""

import argparse
import sys

from allennlp.commands.subcommand import Subcommand

from sledgehammer_allennlp.bulk.command import HELP, add_arguments, run


@Subcommand.register("predict-files")
class PredictFiles(Subcommand):
    """
    The same as `python -m sledgehammer_allennlp predict-files`.

    Registered as a `Subcommand` with name "predict-files".
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(self.name, help=HELP)
        add_arguments(subparser)
        subparser.set_defaults(func=predict_files_from_args)
        return subparser


def predict_files_from_args(args: argparse.Namespace) -> None:
    """
    Runs the job; exits with 2 and a message for errors of the user's, with 130 after Ctrl-C.
    """
    try:
        run(args)
    except (OSError, ValueError) as error:
        print(f"predict-files: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("predict-files: interrupted", file=sys.stderr)
        sys.exit(130)
