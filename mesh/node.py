"""A process's seat in the mesh: feeds a core what the network brings, carries out its orders.

The one interpreter of instructions. It has no loop of its own: the gateway turns it from asyncio,
a replica from its poll loop, a simulation from its fake clock; and the network under it is ZeroMQ
(`mesh/sockets.py`) or memory (`mesh/testing.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Protocol

from mesh.fields import Frame
from mesh.instructions import Delivery, Dial, HangUp, News, Send
from mesh.links import Links


class Happened(IntEnum):
    """What a network reports of a link."""

    MESSAGE = 0  # one multipart came
    OPENED = 1  # a dialled link is connected
    CLOSED = 2  # it is gone
    DOUBT = 3  # some link that dialled us is gone; a send to it will be refused
    SOMEBODY = 4  # listens where we knocked; the number is the peer's, not a link's
    NOBODY = 5  # listens there: the process is gone


Event = tuple[Happened, int, Sequence[Frame]]


class Network(Protocol):
    """Links to other processes: numbered, ordered, bounded, and gone when they are gone.

    Links that we dialled have negative numbers, chosen by the core; links that dialled us have
    positive ones, chosen by the network.
    """

    def listen(self, address: str) -> str:
        """Accept links at an address; returns it with wildcards filled in."""

    def dial(self, link: int, address: str) -> None:
        """Begin to connect; `OPENED` or nothing follows."""

    def hang_up(self, link: int) -> None:
        """Close a link that we dialled, and drop what is queued on it; no error if it is gone.

        Of one that dialled us only the name is forgotten: what comes on it bears another number.
        """

    def send(self, link: int, frames: Sequence[Frame]) -> bool:
        """Send one multipart, whole or not at all, without waiting; False if the link is gone."""

    def knock(self, peer: int, address: str) -> None:
        """Ask whether anybody listens there; `SOMEBODY`, `NOBODY`, or nothing follows."""

    def receive(self, ready: Iterable[int] = ()) -> list[Event]:
        """What happened at these descriptors, and wherever something is known to be left."""

    def is_pending(self) -> bool:
        """Whether `receive` has something left although no descriptor will say so."""

    def next_due(self) -> float:
        """When `receive` must be called although no descriptor is ready."""

    def close(self) -> None:
        """Close everything at once."""


class Core(Protocol):
    """The decisions of a gateway or of a replica."""

    links: Links

    def delivered(self, delivery: Delivery, now: float) -> None:
        """A message of a session came."""

    def told(self, news: News, now: float) -> None:
        """A session began, was resumed, or is over."""

    def advance(self, now: float) -> None:
        """Everything that came in this turn is known: decide, and post what is to be sent."""

    def next_due(self) -> float:
        """When `advance` must be called at the latest, if nothing comes."""


class Node:
    """Turns a core over a network.

    Args:
        core: what decides.
        network: what carries.
    """

    def __init__(self, core: Core, network: Network) -> None:
        self.core = core
        self.network = network

    def turn(self, now: float, ready: Iterable[int] = ()) -> None:
        """Take in what has come, let the core decide, send what it posted.

        Args:
            now: local monotonic time in seconds.
            ready: descriptors that the loop found readable.
        """
        self.receive(now, ready)
        self.flush(now)

    def receive(self, now: float, ready: Iterable[int] = ()) -> bool:
        """Take in what has come, and no more: for a loop that flushes when it is worth it.

        Returns:
            Whether anything has come.
        """
        core, links = self.core, self.core.links
        events = self.network.receive(ready)
        for happened, link, frames in events:
            if happened is Happened.MESSAGE:
                try:
                    delivery = links.received(link, frames, now)
                    if delivery is not None:
                        core.delivered(delivery, now)
                except Exception as error:  # noqa: BLE001 - whatever one peer says ends no turn
                    links.choked(link, error, now)
            elif happened is Happened.OPENED:
                links.opened(link, now)
            elif happened is Happened.CLOSED:
                links.closed(link, now)
            elif happened is Happened.DOUBT:
                links.doubt(now)
            else:
                links.knocked(link, happened is Happened.SOMEBODY, now)
            if links.news:
                self._tell(now)
        return bool(events)

    def flush(self, now: float) -> None:
        """Let the core decide, and send what it posted."""
        core, links = self.core, self.core.links
        links.tick(now)
        if links.news:
            self._tell(now)
        core.advance(now)
        links.flush(now)
        self._carry_out(now)

    def _tell(self, now: float) -> None:
        links = self.core.links
        news = links.news
        while news:
            each = news.popleft()
            try:
                self.core.told(each, now)
            except Exception as error:  # noqa: BLE001 - nor does whatever one peer is
                links.choked(0, error, now, each.session)

    def _carry_out(self, now: float) -> None:
        links, network = self.core.links, self.network
        if not links.out:
            return
        for instruction in links.take():
            if isinstance(instruction, Send):
                if not network.send(*instruction):
                    links.closed(instruction.link, now)
            elif isinstance(instruction, Dial):
                network.dial(*instruction)
            elif isinstance(instruction, HangUp):
                network.hang_up(instruction.link)
            else:
                network.knock(*instruction)

    def next_due(self) -> float:
        """When to turn again at the latest, if no descriptor becomes ready."""
        core = self.core
        return min(core.links.next_due(), core.next_due(), self.network.next_due())
