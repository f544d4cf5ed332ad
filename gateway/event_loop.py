"""Turns a `Node` from asyncio: when a descriptor is readable, when asked, when something is due.

Requests that arrive in one turn of the loop are dispatched together: each only asks for a turn
(`wake`), and the first of them schedules it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from mesh.links.node import Node

_MAX_WAIT_S = 1.0  # seconds between two turns when nothing happens
_TIMER_SLACK_S = 0.002  # seconds that a timer may be late before it is worth setting another
_ASKED, _DUE = -1, -2  # in place of a descriptor: why else it turns
_ROUNDS_PER_TURN = 8  # times that what one turn left is taken up before others get the loop


class EventLoopDriver:
    """Turns a node.

    Args:
        node: to turn.
        after: called at the end of each turn, to answer what has ended.
        calm: whether nothing waits to be dispatched. Then answers go before the turn is done:
            at the end of it a lone client has waited longer, and no client less.

    Example:
        ```python
        drive = Drive(node, after=answer_what_ended, calm=nothing_waits)
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
        """Begin to turn, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._turn(_DUE)

    def stop(self) -> None:
        """Turn no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None

    def watch(self, fd: int) -> None:
        """The network has a descriptor to be watched."""
        asyncio.get_running_loop().add_reader(fd, self._turn, fd)

    def unwatch(self, fd: int) -> None:
        """It has one less."""
        asyncio.get_running_loop().remove_reader(fd)

    def wake(self) -> None:
        """Ask for a turn before the loop sleeps again."""
        if not self._asked and self._loop is not None:
            self._asked = True
            self._loop.call_soon(self._turn, _ASKED)

    def _turn(self, reason: int) -> None:
        """Turn, as a descriptor is readable or for one of the reasons that are no descriptor."""
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
            # Sending may have used up the word of a descriptor: look before sleeping.
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
