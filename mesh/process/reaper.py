"""Process 1 of a container inherits orphaned processes, and must wait for their end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container

INIT_PID = 1  # the process that inherits orphans


def reap_orphans(ours: Container[int]) -> list[int]:
    """Let those that have ended, and that nobody else waits for, leave the table of processes.

    The kernel shows the ended one by one. Where one of ours comes first, those behind it are left
    for the next call, when ours has been waited for by whoever started it.

    Args:
        ours: process ids for which other code waits.

    Returns:
        The process ids that it waited for.
    """
    taken = []
    while (ended := _first_ended()) and ended not in ours:
        with contextlib.suppress(ChildProcessError):  # other code has just waited for it
            os.waitpid(ended, os.WNOHANG)
            taken.append(ended)
    return taken


def _first_ended() -> int:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 0 if found is None else found.si_pid
