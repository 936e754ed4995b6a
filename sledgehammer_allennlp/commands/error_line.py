"""How commands end by an error of the user's: by a line that says what is wrong, with status 2."""

import argparse
import logging
import sys
from functools import wraps
from typing import Any, Callable

from allennlp.common.checks import ConfigurationError

logger = logging.getLogger(__name__)


def ending_in_a_line(
    name: str, run: Callable[[argparse.Namespace], Any]
) -> Callable[[argparse.Namespace], Any]:
    """
    A command's function that prints errors of arguments and data. `allennlp` would show the calls
    that led to them; with ALLENNLP_LOG_LEVEL=DEBUG so does this.

    # Parameters

    name : `str`
        Of the command.
    run : `Callable[[argparse.Namespace], Any]`
        Raises `ConfigurationError`, `ValueError` or `FileNotFoundError` for errors of the user's.
    """

    @wraps(run)
    def command(args: argparse.Namespace) -> Any:
        try:
            return run(args)
        except (ConfigurationError, ValueError, FileNotFoundError) as error:
            logger.debug("%s failed", name, exc_info=True)
            print(f"{name}: error: {error}", file=sys.stderr)
            raise SystemExit(2) from error

    return command
