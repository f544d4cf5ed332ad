"""TCP ports of 127.0.0.1 for servers that tests and benchmarks start.

Whoever asks the kernel for a free port, closes it and hands the number on has lost it: another
process may be given the same one before the server listens. So numbers are handed out in turn, to
all processes of this user, from those that the kernel gives to no outgoing connection.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
from pathlib import Path

FIRST, AFTER_LAST = 10_000, 32_000
TURN = Path(tempfile.gettempdir()) / f"meshline-test-ports-{os.getuid()}"


def free_port() -> int:
    """A port that is free, and is handed out to no other process for thousands of turns."""
    return free_ports(1)


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    with TURN.open("a+") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        turn.seek(0)
        first = int(turn.read() or FIRST)
        while first + count > AFTER_LAST or not _are_free(first, count):
            first = first + 1 if first + count < AFTER_LAST else FIRST
        turn.truncate(0)
        turn.write(str(first + count))
    return first


def _are_free(first: int, count: int) -> bool:
    with contextlib.ExitStack() as held:
        try:
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            return False
    return True
