"""
Has `allennlp predict` say that its output cannot be written, before it loads the archive; and what
stands in it when it cannot be written further, because the disk is full, say. AllenNLP would end
with Python's error, and answers of which the file has nothing would be counted.
"""

import argparse
import json
import os
from contextlib import suppress
from functools import wraps
from pathlib import Path

from allennlp.commands import predict
from allennlp.commands.predict import _PredictManager
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor

from sledgehammer_allennlp.files import NO_ROOM, check_regular
from sledgehammer_allennlp.predictors.lines import LineCounts

_run = _PredictManager.run
_get_predictor = predict._get_predictor


@wraps(_get_predictor)
def _check_output_and_get_predictor(args: argparse.Namespace) -> Predictor:
    if args.output_file:
        _check_output(Path(args.output_file))
    return _get_predictor(args)


def _check_output(path: Path) -> None:
    """What is there, a pipe perhaps, is not opened, but for a file."""
    if path.exists() and not path.is_file() and not path.is_dir():
        return
    was_there = path.exists()
    try:
        open(path, "ab").close()
        if not was_there:
            path.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to '{path}': wanted another --output-file. {error}"
        ) from error


@wraps(_run)
def _run_in_our_words(manager: _PredictManager) -> None:
    try:
        _run(manager)
    except OSError as error:
        output = manager._output_file
        if output is None or error.errno not in NO_ROOM:
            raise
        with suppress(OSError):
            output.close()
        answered, skipped = _lines_in(output.name)
        counts = getattr(manager._predictor, "_line_counts", None)
        if isinstance(counts, LineCounts):
            counts.num_answered, counts.num_skipped = answered, skipped
        raise ConfigurationError(
            f"'{output.name}' cannot be written: {error.strerror}. {answered + skipped:,} whole "
            "lines stand in it: wanted room for all, or another --output-file"
        ) from error


def _lines_in(path: str) -> "tuple[int, int]":
    """How many whole lines of a file are answers, and how many say why there is none."""
    answered = skipped = 0
    with suppress(OSError, ValueError):
        check_regular(path)
        with open(path, "rb") as lines:
            for line in lines:
                if line.endswith(os.linesep.encode()):
                    is_answer = set(json.loads(line)) != {"line", "error"}
                    answered += is_answer
                    skipped += not is_answer
    return answered, skipped


# The command has no setting for it.
_PredictManager.run = _run_in_our_words  # type: ignore[assignment, method-assign]
predict._get_predictor = _check_output_and_get_predictor
