"""The processes of this process's group: what a worker has started, and what that has."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill_others() -> None:
    """Kill the group that this process was started to lead, but not the process itself.

    There is none of its id if it leads none. It may have left it since.
    """
    me = os.getpid()
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        with contextlib.suppress(OSError):
            if pid != me and os.getpgid(pid) == me:
                os.kill(pid, signal.SIGKILL)
