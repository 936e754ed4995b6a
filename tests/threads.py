"""Doing something in several threads at once."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List

NUM_THREADS = 8


def in_threads(work: Callable[[int], Any]) -> List[Any]:
    """
    What `work(0)`, `work(1)`, … give in threads that begin together and are changed as often as
    can be; raises what one of them raises.
    """
    barrier = threading.Barrier(NUM_THREADS, timeout=60)

    def begin(thread: int) -> Any:
        barrier.wait()
        return work(thread)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return list(pool.map(begin, range(NUM_THREADS)))
    finally:
        sys.setswitchinterval(interval)
