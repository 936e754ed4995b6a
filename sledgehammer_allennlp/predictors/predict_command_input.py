"""
Has `allennlp predict` give the predictor the lines that are not UTF-8 too. AllenNLP opens the file
itself and would end with Python's error, which names neither the line nor the file.
"""

import lzma
import sys
import zlib
from contextlib import contextmanager
from functools import wraps
from typing import Any, Iterator

from allennlp.commands.predict import _PredictManager
from allennlp.common.file_utils import cached_path, open_compressed
from allennlp.common.util import JsonDict

from sledgehammer_allennlp.predictors.multi_exit_classifier import MultiExitClassifierPredictor

_get_json_data = _PredictManager._get_json_data
_KEEP_BYTES = "surrogateescape"


@wraps(_get_json_data)
def _get_lines(manager: _PredictManager) -> Iterator[JsonDict]:
    predictor = manager._predictor
    # Only our `load_line` reads such bytes; another one gets what AllenNLP gives it.
    if type(predictor).load_line is not MultiExitClassifierPredictor.load_line:
        yield from _get_json_data(manager)
        return
    with _opened(manager._input_file) as lines:
        for line in lines:
            if not line.isspace():
                yield predictor.load_line(line)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    if path != "-":
        local = cached_path(path)
        try:
            with open_compressed(local, errors=_KEEP_BYTES) as lines:
                yield lines
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(f"cannot read '{path}' to its end: {error}") from error
        return
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors=_KEEP_BYTES)
    yield sys.stdin


# The command has no setting for it.
_PredictManager._get_json_data = _get_lines  # type: ignore[assignment, method-assign]
