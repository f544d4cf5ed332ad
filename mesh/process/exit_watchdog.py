"""Sees to it that a process that has nothing more to do ends.

Python waits at the end of a process for what a worker may have left: threads that are no daemons,
processes of `multiprocessing`, functions registered with `atexit`. Any of these may wait for ever.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import threading
from types import TracebackType
from typing import Self

from mesh.log import flush, get_logger
from mesh.process.process_group import kill_others

EXIT_LIMIT_S = 2.0  # seconds that a process waits for what is left of it


class ExitWatchdog:
    """Ends the process, with a warning that names why, unless it is stopped in time.

    Args:
        seconds: how long it waits.
        code: the process's exit code.
        step: what is being done meanwhile; if not given, the process ends, and what holds it up is
            looked for.

    Example:
        >>> with ExitWatchdog(5.0, 0, "its unload()"):
        ...     worker.unload()
    """

    def __init__(self, seconds: float, code: int, step: str = "") -> None:
        self._seconds, self._code, self._step = seconds, code, step
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to wait. If no thread can be started to wait in, the parent ends the process."""
        thread = threading.Thread(target=self._wait, name="exit-watchdog", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()

    def __enter__(self) -> Self:
        """Begin to wait for the block's end."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait no more."""
        self._stopped.set()

    def _wait(self) -> None:
        if self._stopped.wait(self._seconds):
            return
        held_by = f"{self._step} ({_place()})" if self._step else held_up_by()
        get_logger().warning("did not end within %g s because of %s", self._seconds, held_by)
        _flush()
        kill_others()
        os._exit(self._code)


def end_soon(code: int) -> None:
    """The main thread's last act: whatever holds the process up now does so for a moment only."""
    ExitWatchdog(EXIT_LIMIT_S, code).start()
    # A C function may keep the interpreter's lock, and the watchdog with it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(EXIT_LIMIT_S) + 2)


def held_up_by() -> str:
    """What an interpreter that ends waits for, in the order in which it waits."""
    main = threading.main_thread()
    threads = [one.name for one in threading.enumerate() if not one.daemon and one is not main]
    if threads:
        return "threads that are no daemons: " + ", ".join(threads)
    children = _children()
    if children:
        return "multiprocessing children: " + ", ".join(children)
    return f"a function registered with atexit ({_place()})"


def _children() -> list[str]:
    if "multiprocessing" not in sys.modules:
        return []
    import multiprocessing

    return [f"{child.name} (pid {child.pid})" for child in multiprocessing.active_children()]


def _place() -> str:
    """Where the main thread is."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "not in Python"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def _flush() -> None:
    """What was printed and logged must not be lost; a stream may be closed, or None."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    logging.shutdown()  # of the user's own
    flush()
