"""
Has `allennlp predict` write all that was answered before it ends by Ctrl-C, in whole lines, with
exit status 130. AllenNLP leaves answers in a buffer, or breaks off in the middle of a batch's.
"""

import signal
import sys
import threading
from functools import wraps
from typing import Any, Iterator, List

from allennlp.commands.predict import _PredictManager

from sledgehammer_allennlp.predictors.multi_exit_classifier import MultiExitClassifierPredictor

INTERRUPTED = 130

_run = _PredictManager.run
_predict_json = _PredictManager._predict_json
_predict_instances = _PredictManager._predict_instances


class _Interruption:
    """Ctrl-C, put off while answers are being written."""

    def __init__(self) -> None:
        self.is_writing = False
        self._has_come = False

    def handle(self, number: int, frame: Any) -> None:
        """The handler of the signal."""
        self._has_come = True
        if not self.is_writing:
            raise KeyboardInterrupt

    def raise_if_put_off(self) -> None:
        """Raises `KeyboardInterrupt` if it came meanwhile."""
        if self._has_come:
            raise KeyboardInterrupt


def _in_order(manager: _PredictManager, answer: Any, batch: List[Any]) -> Iterator[str]:
    """The answers to a batch, which are all made before the first is written."""
    interruption = getattr(manager, "_interruption", None)
    if interruption is None:
        yield from answer(manager, batch)
        return
    interruption.raise_if_put_off()
    lines = list(answer(manager, batch))
    interruption.is_writing = True
    try:
        yield from lines
    finally:
        interruption.is_writing = False


@wraps(_predict_json)
def _predict_json_in_order(manager: _PredictManager, batch: List[Any]) -> Iterator[str]:
    return _in_order(manager, _predict_json, batch)


@wraps(_predict_instances)
def _predict_instances_in_order(manager: _PredictManager, batch: List[Any]) -> Iterator[str]:
    return _in_order(manager, _predict_instances, batch)


@wraps(_run)
def _run_in_order(manager: _PredictManager) -> None:
    is_ours = isinstance(manager._predictor, MultiExitClassifierPredictor)
    if not is_ours or threading.current_thread() is not threading.main_thread():
        _run(manager)
        return
    interruption = _Interruption()
    manager._interruption = interruption  # type: ignore[attr-defined]
    before = signal.signal(signal.SIGINT, interruption.handle)
    try:
        _run(manager)
        interruption.raise_if_put_off()
    except KeyboardInterrupt:
        interruption.is_writing = True  # A second one does not break off what is being written.
        if manager._output_file is not None:
            manager._output_file.close()
        print("predict: interrupted; what was answered is written", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)


# The command has no setting for it.
_PredictManager._predict_json = _predict_json_in_order  # type: ignore[assignment, method-assign]
_PredictManager._predict_instances = _predict_instances_in_order  # type: ignore[assignment, method-assign]
_PredictManager.run = _run_in_order  # type: ignore[assignment, method-assign]
