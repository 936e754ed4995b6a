"""The process of one trial: `allennlp` with the arguments it is given, while its worker lives.

Its standard input is a pipe from the worker. When that is closed, the worker is dead, however it
died, and what it began ends with it.
"""

import os
import signal
import sys
import threading


def main() -> None:
    """Runs `allennlp`."""
    end_with_the_worker()
    sys.argv[0] = "allennlp"

    from allennlp.__main__ import run

    run()


def end_with_the_worker() -> None:
    """Has this process, and those it starts, end when the worker does."""
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    os.read(sys.stdin.fileno(), 1)
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
