"""
Reading and tokenising what comes next while the engine runs.

By another thread, not by other processes: of 20,000 short texts at threshold 0 (MiniLM, two cores)
tokenising takes 1.4 s of the 1.6 s of CPU time, more than half of them in the tokenizer's own
threads, without the GIL. A pool of two processes tokenised 6,100 texts a second where these threads
did 6,900. With more cores, `--workers` answers whole parts in other processes.
"""

import queue
import threading
from contextlib import contextmanager
from typing import Any, Generic, Iterator, Optional, TypeVar

Item = TypeVar("Item")


class _Ahead(Generic[Item]):
    def __init__(self, items: Iterator[Item], num_ahead: int) -> None:
        self._items = items
        self._queue: queue.Queue[Any] = queue.Queue(num_ahead)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: Optional[BaseException] = None
        try:
            for item in self._items:
                self._put((item, None))
                if self._is_closed.is_set():
                    return
        except BaseException as raised:  # Raised again where the items are used.
            error = raised
        self._put((None, error or StopIteration()))

    def _put(self, found: Any) -> None:
        while not self._is_closed.is_set():
            try:
                self._queue.put(found, timeout=0.1)
                return
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[Item]:
        while True:
            item, error = self._queue.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()


@contextmanager
def read_ahead(items: Iterator[Item], num_ahead: int = 1) -> Iterator[Iterator[Item]]:
    """
    The same items, made by another thread before they are asked for. The thread has ended when the
    block has, however that ends: after Ctrl-C none runs on while the interpreter shuts down.
    """
    ahead = _Ahead(items, num_ahead)
    try:
        yield iter(ahead)
    finally:
        ahead.close()
