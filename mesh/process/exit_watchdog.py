"""Ends a process that has finished but does not exit.

At exit Python waits for non-daemon threads, processes of `multiprocessing` and functions registered
with `atexit`. A worker may have left some of these, and any of them may block for ever.
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

EXIT_LIMIT_S = 2.0  # seconds that a process may take to exit


class ExitWatchdog:
    """Ends the process, with a warning that names the cause, unless it is stopped in time.

    Args:
        seconds: how long the watchdog waits.
        code: the exit code of the process.
        step: what the process does meanwhile, for the warning; if it is not given, the process is
            exiting, and the watchdog looks for what blocks it.

    Example:
        >>> with ExitWatchdog(5.0, 0, "its unload()"):
        ...     worker.unload()
    """

    def __init__(self, seconds: float, code: int, step: str = "") -> None:
        self._seconds, self._code, self._step = seconds, code, step
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start waiting, in a thread. If no thread can start, the parent will end the process."""
        thread = threading.Thread(target=self._wait, name="exit-watchdog", daemon=True)
        with contextlib.suppress(RuntimeError):
            thread.start()

    def __enter__(self) -> Self:
        """Start waiting for the end of the block."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the watchdog."""
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
    """Start the watchdog of the exit itself; the last act of the main thread."""
    ExitWatchdog(EXIT_LIMIT_S, code).start()
    # A C function may hold the interpreter's lock, and so block the watchdog, too.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(math.ceil(EXIT_LIMIT_S) + 2)


def held_up_by() -> str:
    """Name what blocks the exit of the interpreter, in the order in which it waits."""
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
    """Return the position of the main thread."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    if frame is None:
        return "not in Python"
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def _flush() -> None:
    """Flush the log and the streams, each of which may be closed or None."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    logging.shutdown()  # the user's own handlers
    flush()
