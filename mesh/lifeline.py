"""A started process's two pipes to its parent: what it says, and whether the parent still lives.

Over the first (``--ready-fd``) the child writes JSON lines: that it is bound, that it is ready, or
why it cannot start. The second (``--parent-fd``) is never written: its end means that the parent is
gone, however it died, and the child leaves. Both are optional; a process started by hand has none.

A worker that keeps the interpreter's lock keeps the thread that watches, too. So the kernel is
asked to tell of the parent's death by a signal, which ends the child with no Python run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import select
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mesh.process.fork import end_if_forked, in_child

# Told of the parent's death by this signal, the child ends as many seconds later as its number is.
PARENT_DIED = 16  # SIGSTKFLT, which nobody uses
_PR_SET_PDEATHSIG = 1


class Lifeline:
    """The child's side. `watch` starts a thread, which `close` ends.

    Attributes:
        leaving: tells whether this process was told to end before its parent did; another signal
            would then end it at once.
        settled: set once this process has said that it is ready, or will not be.

    Example:
        >>> lifeline = Lifeline(ready_fd, parent_fd, run_folder)
        >>> lifeline.watch(grace=8.0)
        >>> lifeline.ready(incarnation, http="127.0.0.1:8000", bind="ipc:///run/gateway.sock")
    """

    def __init__(self, ready_fd: int | None, parent_fd: int | None, run_folder: str = "") -> None:
        """Take over the descriptors, so that no process started from here inherits them."""
        self._ready_fd, self._parent_fd, self._run_folder = ready_fd, parent_fd, run_folder
        for descriptor in (ready_fd, parent_fd):
            if descriptor is not None:
                os.set_inheritable(descriptor, False)
        self._closing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._parent = None if parent_fd is None else os.getppid()
        self.leaving: Callable[[], bool] = lambda: False
        self._undo = in_child(self._abandon)
        self.settled = threading.Event()

    @property
    def orphaned(self) -> bool:
        """Whether the parent is gone. What this process started is then nobody's: `kill_group`.

        Asked of the kernel, which knows before the thread is told.
        """
        return self._parent is not None and os.getppid() != self._parent

    def bound(self, bind: str, incarnation: int) -> None:
        """Say that replicas can dial this gateway at `bind`."""
        self._say({"event": "bound", "bind": bind, "incarnation": incarnation})

    def ready(
        self,
        incarnation: int,
        http: str = "",
        bind: str = "",
        report: Mapping[str, float] | str = "",
    ) -> None:
        """Say that this process serves; a gateway also says where, a replica how it started."""
        self.settled.set()
        words: dict[str, Any] = {"event": "ready", "incarnation": incarnation}
        words |= {"http": http, "bind": bind, "report": report}
        self._say({key: value for key, value in words.items() if value != ""})

    def closed(self) -> None:
        """Say that this gateway takes no more connections."""
        self._say({"event": "closed"})

    def refused(self, address: str, why: str) -> None:
        """Say that the gateway at an address does not let this replica in."""
        self._say({"event": "refused", "address": address, "why": why})

    def failed(self, why: str) -> None:
        """Say why this process cannot start; it should then exit with code 3."""
        self._say({"event": "failed", "why": why})

    def watch(self, grace: float) -> None:
        """From now on: when the parent is gone, leave as on SIGTERM, within `grace` seconds."""
        if self._parent_fd is None:
            return
        _set_alarm_of_death(PARENT_DIED)
        self._thread = threading.Thread(
            target=self._wait, args=(self._parent_fd, grace), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the pipes; more than once does no harm."""
        self._undo()
        if self._closing < 0:
            return
        os.eventfd_write(self._closing, 1)
        if self._thread is not None:
            self._thread.join()
            _set_alarm_of_death(0)
            signal.alarm(0)
        self._close_descriptors()

    def _abandon(self) -> None:
        """In a forked child: its parent is another, and what it says is not for the supervisor."""
        self._parent = None
        if self._thread is not None:
            _set_alarm_of_death(0)
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        for descriptor in (self._ready_fd, self._parent_fd, self._closing):
            if descriptor is not None:
                os.close(descriptor)
        self._ready_fd = self._parent_fd = None
        self._closing = -1

    def _say(self, words: dict[str, Any]) -> None:
        end_if_forked()
        if self._ready_fd is None:
            return
        try:
            os.write(self._ready_fd, json.dumps(words).encode() + b"\n")
        except BrokenPipeError:
            return  # nobody is left to hear it; the other pipe says so

    def _wait(self, parent_fd: int, grace: float) -> None:
        poll = select.poll()
        poll.register(self._closing, select.POLLIN)
        poll.register(parent_fd, select.POLLIN)
        with _parent() as process:
            if process is not None:
                poll.register(process, select.POLLIN)
            if any(descriptor == self._closing for descriptor, _ in poll.poll()):
                return
        signal.alarm(math.ceil(grace) + 2)  # in case this thread does not run when that is over
        if self._run_folder:
            shutil.rmtree(self._run_folder, ignore_errors=True)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            kill_group()  # still loading: it would die of the signal, but not what it started
        if not self.leaving():  # a second one would cut the draining short
            os.kill(os.getpid(), signal.SIGTERM)
        poll = select.poll()
        poll.register(self._closing, select.POLLIN)
        if not poll.poll(grace * 1000):
            kill_group()


@contextlib.contextmanager
def _parent() -> Iterator[int | None]:
    """A descriptor of the parent, ready when it has died, also where a stray process keeps the
    pipe open; None where the system has no such thing."""
    try:
        process = os.pidfd_open(os.getppid())
    except OSError:
        yield None
        return
    try:
        yield process
    finally:
        os.close(process)


def _set_alarm_of_death(number: int) -> None:
    """Have a signal set the alarm when the parent dies, and the alarm end this process.

    The C function `alarm` is the signal's handler: called with its number, it takes that for
    seconds. So nothing waits for the interpreter. 0 undoes it.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # a system without it has the pipe alone
        libc.prctl(_PR_SET_PDEATHSIG, number)
        libc.signal(PARENT_DIED, libc.alarm if number else signal.SIG_DFL)


def kill_group() -> None:
    """Kill this process and, if it leads a group, everything that it started."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
