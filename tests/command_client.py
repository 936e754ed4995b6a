"""A command that `command_server.py` runs: `command_client.py PROGRAM ARGUMENTS`.

It imports next to nothing, because it starts for each command.
"""

import array
import json
import os
import signal
import socket
import sys
from contextlib import suppress


def main() -> int:
    """Gives the exit status of the command."""
    arguments = [os.path.basename(sys.argv[1]), *sys.argv[2:]]
    if arguments[0] == "python" and (arguments[1:2] == ["-c"] or len(arguments) == 1):
        os.execv(sys.executable, [sys.executable, *arguments[1:]])
    if arguments[:3] == ["python", "-m", "pip"]:
        print("pip is not run here: wanted the block marked", file=sys.stderr)
        return 1
    request = json.dumps(
        {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    ).encode()
    server = socket.socket(socket.AF_UNIX)
    server.connect(os.environ["COMMAND_SERVER"])
    files = array.array("i", [0, 1, 2])
    server.sendmsg(
        [b"%8d" % len(request)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files.tobytes())]
    )
    server.sendall(request)
    signals = [signal.SIGTERM, signal.SIGINT]
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    process = int(server.recv(8))

    def hand_on(number: int, frame: object) -> None:
        with suppress(ProcessLookupError):  # it may have just ended
            os.kill(process, number)

    for number in signals:
        signal.signal(number, hand_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    status = server.recv(8)
    return int(status) if status else 1  # nothing, if it was killed


if __name__ == "__main__":
    sys.exit(main())
