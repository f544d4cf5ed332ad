"""A started process's two pipes to its parent: what it says, and what it is told.

Over the first (``--ready-fd``) the child writes JSON lines: that it is bound, that it is ready,
that it received a stop signal, or why it cannot start. Over the second (``--parent-fd``) the
parent orders it to stop, by a byte; the pipe's end means that the parent is gone, however it died,
and the child leaves. Both are optional; a process started by hand has none.

The order is no signal: any process of the user may send one, and to all processes at once.

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

from mesh.log import flush
from mesh.process.fork import end_if_forked, in_child

# Told of the parent's death by this signal, the child ends as many seconds later as its number is.
PARENT_DIED = 16  # SIGSTKFLT, which nobody uses
_PR_SET_PDEATHSIG = 1
_ORDERS_BYTES = 64  # bytes, one for each order; more than one says nothing more


class ParentLink:
    """The child's side. `watch` starts a thread, which `close` ends.

    Attributes:
        settled: set once this process has said that it is ready, or will not be.

    Example:
        >>> parent_link = ParentLink(ready_fd, parent_fd, run_folder)
        >>> parent_link.watch(grace=8.0)
        >>> parent_link.obey(server.stop)
        >>> parent_link.ready(incarnation, http="127.0.0.1:8000", bind="ipc:///run/gateway.sock")
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
        self._obeying = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._ending = False
        self._undo = in_child(self._abandon)
        self.settled = threading.Event()

    @property
    def orphaned(self) -> bool:
        """Whether the parent is gone. Then only `kill_group` ends what this process started.

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

    def asked(self) -> bool:
        """Report that a stop signal came, unless no parent would answer by an order."""
        return not self.orphaned and self._say({"event": "asked"})

    def failed(self, why: str) -> None:
        """Say why this process cannot start; it should then exit with code 3."""
        self._say({"event": "failed", "why": why})

    def obey(self, stop: Callable[[], object]) -> None:
        """From now on an order to stop, or the parent's death, calls this, in another thread.

        Whatever was called before is over when this returns. Until the first time, the order ends
        this process: there is nothing yet that it could finish.
        """
        with self._obeying:
            self._stop = stop

    def end(self) -> None:
        """This process has finished: obey no more; its parent's death ends it at once."""
        self.obey(lambda: None)
        self._ending = True
        if self.orphaned:
            kill_group()  # the worker's own children, which nothing else would end

    def watch(self, grace: float) -> None:
        """From now on: obey; when the parent is gone, leave within `grace` seconds."""
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

    def _say(self, words: dict[str, Any]) -> bool:
        """Write it; False if the parent is gone, which the other pipe says, too."""
        end_if_forked()
        if self._ready_fd is None:
            return False
        try:
            os.write(self._ready_fd, json.dumps(words).encode() + b"\n")
        except BrokenPipeError:
            return False
        return True

    def _wait(self, parent_fd: int, grace: float) -> None:
        poll = select.poll()
        poll.register(self._closing, select.POLLIN)
        poll.register(parent_fd, select.POLLIN)
        with _parent() as process:
            if process is not None:
                poll.register(process, select.POLLIN)
            while (ready := {descriptor for descriptor, _ in poll.poll()}) != {process}:
                if self._closing in ready:
                    return
                if not os.read(parent_fd, _ORDERS_BYTES):
                    break
                self._follow()
        self._leave(grace)

    def _follow(self) -> None:
        """The parent orders this process to stop."""
        with self._obeying:
            if self._stop is None:
                flush()
                os._exit(0)  # the parent sees to what this process started
            self._stop()

    def _leave(self, grace: float) -> None:
        """The parent is gone."""
        signal.alarm(math.ceil(grace) + 2)  # in case this thread does not run when that is over
        if self._run_folder:
            shutil.rmtree(self._run_folder, ignore_errors=True)
        with self._obeying:
            if self._stop is not None and not self._ending:
                self._stop()
            else:
                kill_group()
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
    """Kill this process and, if it was started to lead a group, that group; its log first.

    The worker may have left the group since; while this process lives no other can bear its id.
    """
    flush()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
