"""Ctrl-C and SIGTERM, put off to where a worker can end in order.

Raised in the middle of a database's transaction they would come out as an error of the database.
"""

import signal
import threading
from typing import Any, Dict, Optional

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """
    # Parameters

    number : `int`
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {signal.Signals(number).name}")
        self.number = number


class Interruption:
    """While this lasts, as a context manager, only a second signal interrupts what is done."""

    def __init__(self) -> None:
        self._number: Optional[int] = None
        self._before: Dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self._number is not None:
            raise Interrupted(number)
        self._number = number

    def raise_if_it_came(self) -> None:
        """
        # Raises

        Interrupted
            If there was a signal.
        """
        if self._number is not None:
            raise Interrupted(self._number)
