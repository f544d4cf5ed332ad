"""Runs a `Node` in asyncio: when a descriptor is readable, on request, and when due.

Requests that arrive in one turn of the event loop are dispatched together: each only requests a
turn of the node (`wake`), and the first of them schedules it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from mesh.links.node import Node

_MAX_WAIT_S = 1.0  # seconds between two turns without events
_TIMER_SLACK_S = 0.002  # seconds that a timer may be late before another one is set
_ASKED, _DUE = -1, -2  # other reasons for a turn, in place of a descriptor
_ROUNDS_PER_TURN = 8  # rounds of one turn before other callbacks run


class EventLoopDriver:
    """Runs the turns of a node.

    Args:
        node: the node.
        after: called at the end of each turn, to answer ended requests.
        calm: returns whether no request waits to be dispatched. Then answers are sent before the
            turn ends: sending them later would delay a lone client, and help no other.

    Example:
        ```python
        drive = EventLoopDriver(node, after=answer_ended, calm=nothing_waits)
        drive.start()                     # within a running loop
        ...
        drive.stop()
        ```
    """

    def __init__(
        self, node: Node, after: Callable[[float], None], calm: Callable[[], bool]
    ) -> None:
        self._node = node
        self._after = after
        self._calm = calm
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def start(self) -> None:
        """Start running turns in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._turn(_DUE)

    def stop(self) -> None:
        """Stop running turns."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None

    def watch(self, fd: int) -> None:
        """Watch a descriptor of the network."""
        asyncio.get_running_loop().add_reader(fd, self._turn, fd)

    def unwatch(self, fd: int) -> None:
        """Stop watching a descriptor."""
        asyncio.get_running_loop().remove_reader(fd)

    def wake(self) -> None:
        """Request a turn before the event loop sleeps again."""
        if not self._asked and self._loop is not None:
            self._asked = True
            self._loop.call_soon(self._turn, _ASKED)

    def _turn(self, reason: int) -> None:
        """Run a turn for a readable descriptor, or for `_ASKED` or `_DUE`."""
        node = self._node
        if reason == _ASKED:
            self._asked = False
        elif reason == _DUE:
            self._timer_at = float("inf")
        if self._loop is None:
            return
        now = monotonic()
        if node.receive(now, () if reason < 0 else (reason,)) and self._calm():
            self._after(now)
        for _ in range(_ROUNDS_PER_TURN):
            node.flush(now)
            self._after(now)
            # Sending may have consumed the readiness of a descriptor: check before sleeping.
            if not (node.network.is_pending() and node.receive(now)):
                break
        else:
            self.wake()
        due = min(node.next_due(), now + _MAX_WAIT_S)
        if due < self._timer_at - _TIMER_SLACK_S and self._loop is not None:
            self._set_timer(self._loop, due, now)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, due: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = loop.call_later(max(0.0, due - now), self._turn, _DUE)
