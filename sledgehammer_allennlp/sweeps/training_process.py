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
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    sys.argv[0] = "allennlp"

    from allennlp.__main__ import run

    run()


def _end_with_the_worker() -> None:
    os.read(sys.stdin.fileno(), 1)
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main()
