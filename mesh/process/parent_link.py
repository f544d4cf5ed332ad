"""The two pipes between a process and its parent: reports one way, orders the other.

To the first pipe (``--ready-fd``) the child writes JSON lines: that it is bound, that it is ready,
that it received a stop signal, or why it cannot start. In the second pipe (``--parent-fd``) a byte
is the parent's order to stop. Its end means that the parent died, and the child exits. Both are
optional; a process started by hand has none.

The order is not a signal, because any process of the user may send signals, even to all processes
at once.

A worker that holds the interpreter's lock blocks the thread that watches these pipes. So the kernel
also sends a signal when the parent dies, which ends the child without running any Python code.
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

# The kernel sends this signal when the parent dies. The child ends after as many seconds as the
# signal's number.
PARENT_DIED = 16  # SIGSTKFLT, which no program uses
_PR_SET_PDEATHSIG = 1
_ORDERS_BYTES = 64  # bytes to read at a time, one for each order; further orders have no effect


class ParentLink:
    """The child's side of the pipes. `watch` starts a thread, which `close` ends.

    Attributes:
        settled: set once this process has reported that it is ready, or that it cannot start.

    Example:
        >>> parent_link = ParentLink(ready_fd, parent_fd, run_folder)
        >>> parent_link.watch(grace=8.0)
        >>> parent_link.obey(server.stop)
        >>> parent_link.ready(incarnation, http="127.0.0.1:8000", bind="ipc:///run/gateway.sock")
    """

    def __init__(self, ready_fd: int | None, parent_fd: int | None, run_folder: str = "") -> None:
        """Take over the descriptors, so that children of this process do not inherit them."""
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
        """Whether the parent died. Then only `kill_group` ends what this process started.

        This asks the kernel, which knows it before the thread does.
        """
        return self._parent is not None and os.getppid() != self._parent

    def bound(self, bind: str, incarnation: int) -> None:
        """Report that replicas can dial this gateway at `bind`."""
        self._send({"event": "bound", "bind": bind, "incarnation": incarnation})

    def ready(
        self,
        incarnation: int,
        http: str = "",
        bind: str = "",
        report: Mapping[str, float] | str = "",
    ) -> None:
        """Report that this process serves. A gateway adds where, a replica how it started."""
        self.settled.set()
        message: dict[str, Any] = {"event": "ready", "incarnation": incarnation}
        message |= {"http": http, "bind": bind, "report": report}
        self._send({key: value for key, value in message.items() if value != ""})

    def closed(self) -> None:
        """Report that this gateway accepts no more connections."""
        self._send({"event": "closed"})

    def refused(self, address: str, why: str) -> None:
        """Report that the gateway at an address refuses this replica."""
        self._send({"event": "refused", "address": address, "why": why})

    def asked(self) -> bool:
        """Report a stop signal; return False if no parent can answer with an order."""
        return not self.orphaned and self._send({"event": "asked"})

    def failed(self, why: str) -> None:
        """Report why this process cannot start. It should then exit with code 3."""
        self._send({"event": "failed", "why": why})

    def obey(self, stop: Callable[[], object]) -> None:
        """Set the function that an order to stop, or the parent's death, calls in another thread.

        A running call of the previous function has returned when this returns. Before the first
        `obey` an order ends this process at once, as it has nothing to finish.
        """
        with self._obeying:
            self._stop = stop

    def end(self) -> None:
        """Ignore orders from now on, as this process has finished. The parent's death ends it at
        once."""
        self.obey(lambda: None)
        self._ending = True
        if self.orphaned:
            kill_group()  # the worker's own children, which nothing else would end

    def watch(self, grace: float) -> None:
        """Start to obey orders and, when the parent dies, to exit within `grace` seconds."""
        if self._parent_fd is None:
            return
        _set_alarm_of_death(PARENT_DIED)
        self._thread = threading.Thread(
            target=self._wait, args=(self._parent_fd, grace), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the pipes. Repeated calls do nothing."""
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
        """Close the pipes in a forked child, which has another parent."""
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

    def _send(self, message: dict[str, Any]) -> bool:
        """Write a message; return False if the parent died, which the other pipe reports, too."""
        end_if_forked()
        if self._ready_fd is None:
            return False
        try:
            os.write(self._ready_fd, json.dumps(message).encode() + b"\n")
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
        """Handle an order to stop."""
        with self._obeying:
            if self._stop is None:
                flush()
                os._exit(0)  # the parent kills what this process started
            self._stop()

    def _leave(self, grace: float) -> None:
        """Exit because the parent died."""
        signal.alarm(math.ceil(grace) + 2)  # in case this thread cannot run when the grace is over
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
    """Yield a descriptor that becomes readable when the parent dies, even if a stray process keeps
    the pipe open; None if the system has no such descriptors."""
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
    """Make the parent's death send a signal that sets an alarm, which ends this process.

    The handler of the signal is the C function `alarm`, which takes the signal's number as seconds.
    So nothing waits for the interpreter. Number 0 undoes it.
    """
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # such a system has the pipe only
        libc.prctl(_PR_SET_PDEATHSIG, number)
        libc.signal(PARENT_DIED, libc.alarm if number else signal.SIG_DFL)


def kill_group() -> None:
    """Flush the log, then kill this process and, if it was started to lead a group, that group.

    The worker may have left the group since. While this process lives, no other group has its id.
    """
    flush()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
