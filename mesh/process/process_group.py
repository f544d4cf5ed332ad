"""The process group of this process: the processes that the worker started, and their children."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def kill_others() -> None:
    """Kill the group that this process was started to lead, but not the process itself.

    The worker may have left the group since. A process that leads no group has nothing to kill.
    """
    me = os.getpid()
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        with contextlib.suppress(OSError):
            if pid != me and os.getpgid(pid) == me:
                os.kill(pid, signal.SIGKILL)
