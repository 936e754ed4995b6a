"""`python -m sledgehammer_allennlp COMMAND`: what can be done without AllenNLP."""

import argparse
import os
import sys
from types import ModuleType
from typing import Dict, Optional, Sequence

from sledgehammer_allennlp.bulk import command as predict_files
from sledgehammer_allennlp.configs import command as new_config
from sledgehammer_allennlp.needs_allennlp import has_allennlp
from sledgehammer_allennlp.serving import command as serve

# Where AllenNLP is installed, the check is that of `allennlp check-archive`.
if has_allennlp():
    from sledgehammer_allennlp.commands import check_archive
else:
    from sledgehammer_allennlp.archives import command as check_archive  # type: ignore[no-redef]

COMMANDS: Dict[str, ModuleType] = {
    "check-archive": check_archive,
    "new-config": new_config,
    "predict-files": predict_files,
    "serve": serve,
}
"""Modules with `HELP`, `add_arguments(parser)` and `run(args)`, which returns the exit status."""

_USER_ERROR = 2
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(argv: Optional[Sequence[str]] = None) -> int:
    """
    Runs a command.

    # Parameters

    argv : `Sequence[str]`, optional (default = those of the process)
        The arguments.

    # Returns

    The exit status: the command's, 2 for an error of the user's, 130 after Ctrl-C, 141 where
    nothing reads the output.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sledgehammer_allennlp",
        description="Text classifiers with early exits. These commands need no AllenNLP.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        command.add_arguments(subparsers.add_parser(name, help=command.HELP))
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        parser.print_help(sys.stderr)
        return _USER_ERROR
    args = parser.parse_args(argv)
    try:
        status = COMMANDS[args.command].run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # What reads the output has ended. Python would complain once more when it flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (OSError, ValueError) as error:
        print(f"{args.command}: error: {error}", file=sys.stderr)
        return _USER_ERROR
    except KeyboardInterrupt:
        print(f"{args.command}: interrupted", file=sys.stderr)
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
