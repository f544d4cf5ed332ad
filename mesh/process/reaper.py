"""Reaps orphaned processes, which process 1 of a container inherits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container

INIT_PID = 1  # the process that inherits orphans


def reap_orphans(ours: Container[int]) -> list[int]:
    """Reap the ended processes for which no other code waits.

    The kernel reports ended processes one at a time. If one of `ours` comes first, the rest is left
    to a later call, after the code that started it has waited for it.

    Args:
        ours: the process ids for which other code waits.

    Returns:
        The process ids that were reaped.
    """
    taken = []
    while (ended := _first_ended()) and ended not in ours:
        with contextlib.suppress(ChildProcessError):  # other code has just reaped it
            os.waitpid(ended, os.WNOHANG)
            taken.append(ended)
    return taken


def _first_ended() -> int:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 0 if found is None else found.si_pid
