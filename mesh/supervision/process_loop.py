"""Runs the processes of a service: carries out the decisions of `mesh/supervision/supervisor.py`.

One loop over a selector waits for signals to this process, for messages in each child's pipe, and
for the end of each child (a pidfd). Each child leads its own process group, so Ctrl-C in a terminal
reaches only this process, which then stops the children in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Protocol

from mesh.log import get_logger
from mesh.process.fork import in_child
from mesh.process.reaper import INIT_PID, reap_orphans
from mesh.process.signals import (
    STOP_SIGNALS,
    in_main_thread,
    log_ignored,
    waitable_children,
    wanted_stops,
)
from mesh.protocol.messages import Death
from mesh.supervision.child import KILLED_END_S, Child, Command
from mesh.supervision.events import (
    Announce,
    Asked,
    Begin,
    Bound,
    Closed,
    CloseHttp,
    Computes,
    Event,
    Exit,
    Exited,
    Failed,
    Instruction,
    Kill,
    Log,
    Ready,
    Slot,
    Start,
    Stop,
    Terminate,
    Tick,
)
from mesh.supervision.gateway_link import GatewayLink
from mesh.supervision.runtime_dir import RuntimeDir
from mesh.supervision.supervisor import Supervisor
from mesh.worker.request_info import requests_text

_READ_BYTES = 65536
RECORD_POLL_S = 1.0  # seconds between two checks of the batch records
_NUDGED = 255
_ASKED = 0  # the byte for `stop` in the wake pipe; the other bytes are signal numbers


class Callbacks(Protocol):
    """What `ProcessLoop` asks the service for and notifies it of."""

    def command(self, slot: Slot) -> Command:
        """Return how to start the next process of this slot."""
        ...

    def received(self, slot: Slot, message: dict[str, Any]) -> None:
        """Handle a message that a process sent over its pipe, such as where it listens."""
        ...

    def exited(self, slot: Slot, pid: int, code: int | None, signal: int) -> None:
        """Handle the end of a process, before the supervisor does; its code may be unknown."""
        ...

    def announce(self) -> None:
        """Announce the service: every process is ready for the first time."""
        ...

    def close_http(self) -> None:
        """Close the HTTP port: no gateway accepts connections from it any more."""
        ...


class ProcessLoop:
    """The loop that carries out a supervisor's decisions.

    Example:
        >>> with RuntimeDir() as folder:
        ...     code = ProcessLoop(supervisor, callbacks, folder).run()
    """

    def __init__(
        self,
        supervisor: Supervisor,
        callbacks: Callbacks,
        folder: RuntimeDir,
        gateway_link: GatewayLink | None = None,
    ) -> None:
        """Prepare the loop. `run` starts the processes.

        With a `gateway_link`, the loop reports deaths to the gateways.
        """
        self._reporter = gateway_link
        self._look_at = float("inf") if not supervisor.plan.limits else 0.0
        self._supervisor, self._callbacks, self._folder = supervisor, callbacks, folder
        self._children: dict[Slot, Child] = {}
        self._events: deque[Event] = deque()
        self._exit_code: int | None = None
        self._inherits = os.getpid() == INIT_PID
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._undo = in_child(self._abandon)

    def run(self) -> int:
        """Start all processes and keep them running until the service stops; return the exit
        code."""
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        try:
            if self._reporter is not None:
                self._reporter.start(self._selector, self._nudge)
            with waitable_children(), self._signals():
                self._feed(Begin())
                while self._exit_code is None:
                    self._turn()
        finally:
            self._close()
        return self._exit_code

    def stop(self) -> None:
        """Request a stop, as Ctrl-C does; callable from any thread."""
        os.write(self._wake_write, bytes([_ASKED]))

    def _nudge(self) -> None:
        """Make the loop run a turn; callable from any thread."""
        os.write(self._wake_write, bytes([_NUDGED]))

    def pids(self) -> dict[Slot, int]:
        """Return the process ids of the running processes."""
        return {slot: child.process.pid for slot, child in self._children.items()}

    def _turn(self) -> None:
        wait = min(self._supervisor.next_due(), self._look_at) - monotonic()
        if self._reporter is not None:
            wait = min(wait, self._reporter.next_due() - monotonic())
        for key, _ in self._selector.select(None if wait == float("inf") else max(wait, 0.0)):
            # The end of a child closes its pipe, whose event may come later in this list.
            if key.fd in self._selector.get_map():
                key.data()
        self._look_at_records(monotonic())
        if self._inherits:
            reap_orphans({child.process.pid for child in self._children.values()})
        self._feed(Tick())
        if self._reporter is not None:
            self._reporter.turn(self._supervisor.stopping)

    def _feed(self, event: Event) -> None:
        """Hand an event to the supervisor. Events that its decisions cause are handled after
        them."""
        self._events.append(event)
        if len(self._events) > 1:
            return
        while self._events:
            for instruction in self._supervisor.handle(self._events[0], monotonic()):
                self._carry_out(instruction)
            self._events.popleft()

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Start(slot):
                self._start(slot)
            case Terminate(slot):
                self._with(slot, Child.terminate)
            case Kill(slot):
                self._with(slot, Child.kill)
            case Log(level, text):
                getattr(get_logger(), level)(text)
            case Announce():
                self._callbacks.announce()
            case CloseHttp():
                self._callbacks.close_http()
            case Exit(code):
                self._exit_code = code

    def _with(self, slot: Slot, act: Callable[[Child], None]) -> None:
        if slot in self._children:
            act(self._children[slot])

    def _start(self, slot: Slot) -> None:
        command = self._callbacks.command(slot)
        name = str(slot).replace("/", "-")
        try:
            settings = self._folder.write(f"{name}.json", json.dumps(command.settings))
            child = Child(command, str(settings), computes=not slot.is_gateway)
        except OSError as error:
            self._feed(Failed(slot, f"cannot start a process: {error.strerror}"))
            self._feed(Exited(slot, 1))
            return
        self._children[slot] = child
        get_logger().debug("%s started as process %d", slot, child.process.pid)
        listen = self._selector.register
        listen(child.ready_fd, selectors.EVENT_READ, lambda: self._listen(slot, child))
        listen(child.pidfd, selectors.EVENT_READ, lambda: self._bury(slot, child))

    def _listen(self, slot: Slot, child: Child) -> None:
        """Handle the messages of a child."""
        for message in child.messages():
            child.incarnation = message.get("incarnation", child.incarnation)
            self._callbacks.received(slot, message)
            self._feed_message(slot, message)
        if child.hung_up and child.ready_fd in self._selector.get_map():
            self._selector.unregister(child.ready_fd)

    def _feed_message(self, slot: Slot, message: dict[str, Any]) -> None:
        match message:
            case {"event": "bound"}:
                self._feed(Bound(slot))
            case {"event": "closed"}:
                self._feed(Closed(slot))
            case {"event": "ready"}:
                self._feed(Ready(slot))
            case {"event": "asked"}:
                self._feed(Asked(slot))
            case {"event": "failed", "why": why}:
                self._feed(Failed(slot, str(why)))

    def _bury(self, slot: Slot, child: Child) -> None:
        self._listen(slot, child)  # its last messages must be handled before its death
        self._selector.unregister(child.pidfd)
        if child.ready_fd in self._selector.get_map():
            self._selector.unregister(child.ready_fd)
        pid = child.process.pid
        code, signum = child.reap()
        del self._children[slot]
        self._report(slot, child, code, signum)
        self._callbacks.exited(slot, pid, code, signum)
        if stack := child.crash_stack():
            get_logger().error("%s crashed; it was here:\n%s", slot, stack)
        self._feed(Exited(slot, code, signum, child.doing()))

    def _report(self, slot: Slot, child: Child, code: int | None, signum: int) -> None:
        """Report a replica's death to the gateways."""
        if self._reporter is None or slot.is_gateway or not child.incarnation:
            return
        running = child.computing()
        ids = [] if running is None else running.ids
        self._reporter.died(Death(child.incarnation, slot.stage, signum, code or 0, ids))

    def _look_at_records(self, now: float) -> None:
        """Report to the supervisor how long each replica has been computing its batch.

        The replica itself cannot enforce its limit while its worker holds the interpreter's lock.
        """
        if now < self._look_at:
            return
        passed, self._look_at = (
            min(now - self._look_at + RECORD_POLL_S, 2 * RECORD_POLL_S),
            now + RECORD_POLL_S,
        )
        for slot, child in list(self._children.items()):
            running = child.computing()
            if running is not None:
                seconds = child.computes_for(running.since, now, passed)
                self._feed(Computes(slot, seconds, requests_text(running.names)))

    def _woken(self) -> None:
        for number in os.read(self._wake_read, _READ_BYTES):
            # For other signals, the user's code has its own handlers.
            if number in (_ASKED, *STOP_SIGNALS):
                self._feed(Stop())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Make signals only wake the loop. Only the main thread of a process may set handlers."""
        if not in_main_thread():
            yield
            return
        wanted = [*wanted_stops(), *([signal.SIGCHLD] if self._inherits else [])]
        log_ignored(wanted)
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
        before = {one: signal.signal(one, lambda *_: None) for one in wanted}
        wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for one, old in before.items():
                signal.signal(one, old)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _close(self) -> None:
        """Kill the remaining processes, whatever made the loop end."""
        self._undo()
        if self._reporter is not None:
            self._reporter.close()
        for child in self._children.values():
            child.kill()
        for slot, child in self._children.items():
            self._see_off(slot, child)
        self._children.clear()
        self._close_descriptors()

    def _see_off(self, slot: Slot, child: Child) -> None:
        """Wait for the end of a killed process."""
        if child.ends_within(KILLED_END_S):
            child.reap()
            return
        text = "process %d of %s was killed but does not end; leaving it behind"
        get_logger().error(text, child.process.pid, slot)
        child.process.returncode = 0  # otherwise Python warns that nothing waited for it
        child.close()

    def _abandon(self) -> None:
        """Drop the pipes in a forked child, so that the processes notice the end of their
        parent."""
        for child in self._children.values():
            child.close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._selector.close()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)
