"""Ends a process that does not become ready in time, and reports what it was doing.

The parent would kill it, too, but cannot see what it is doing. So a thread of the process itself
checks a little earlier, and takes the main thread's stack, which names the line of the user's code
that does not return. If that line holds the interpreter's lock, only the parent's limit applies.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mesh.log import get_logger
from mesh.logs.failure_text import stack_of_thread, users_frame
from mesh.process.parent_link import ParentLink, kill_group

EARLIER_S = 1.0  # seconds before the parent's limit; a quarter of it at most


class StartWatch:
    """Watches from `begin` until the process has reported that it is ready, or until `end`.

    Args:
        limit: seconds from the process's start within which it must be ready.
        parent_link: reports to the parent.
        give_up: ends the process and the processes that it started.
    """

    def __init__(
        self, limit: float, parent_link: ParentLink, give_up: Callable[[], None] = kill_group
    ) -> None:
        self._limit, self._parent_link, self._give_up = limit, parent_link, give_up
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._wait, name="start-watch", daemon=True)

    def begin(self) -> None:
        """Start watching the calling thread."""
        self._thread.start()

    def end(self) -> None:
        """Stop watching."""
        self._parent_link.settled.set()
        self._thread.join()

    def _wait(self) -> None:
        left = self._limit - process_age() - min(EARLIER_S, self._limit / 4)
        if self._parent_link.settled.wait(max(0.0, left)):
            return
        frame = sys._current_frames().get(self._main)
        why = f"was not ready within {self._limit:g} s (start_timeout){_doing(frame)}"
        get_logger().error("%s; its stack:\n%s", why, stack_of_thread(self._main))
        self._parent_link.failed(why)
        self._give_up()


def _doing(frame: FrameType | None) -> str:
    found = users_frame(traceback.extract_stack(frame))
    if found is None:
        return ""
    return f"; it was in {found.name} ({os.path.basename(found.filename)}:{found.lineno})"


def process_age() -> float:
    """Return the seconds since this process started, from the kernel: libraries may fake clocks."""
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, uptime - began)  # some containers see an uptime of their own
