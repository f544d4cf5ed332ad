"""The shell between a core and a network: passes events to the core, carries out its instructions.

This is the only interpreter of instructions. It has no loop of its own: the gateway runs its turns
from asyncio, a replica from its poll loop, the simulation from a fake clock. The network is ZeroMQ
(`mesh/transport/zeromq.py`) or memory (`mesh/transport/memory.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mesh.links.events import Delivery, Dial, HangUp, News, ProbePort, Send
from mesh.links.links import Links
from mesh.transport.network import Network, NetworkEvent


class Core(Protocol):
    """The decisions of a gateway or of a replica."""

    links: Links

    def delivered(self, delivery: Delivery, now: float) -> None:
        """A message of a session came."""

    def handle_news(self, news: News, now: float) -> None:
        """A session began, was resumed, or is over."""

    def advance(self, now: float) -> None:
        """Everything that came in this turn is known: decide, and post what is to be sent."""

    def next_due(self) -> float:
        """When `advance` must be called at the latest, if nothing comes."""


class Node:
    """Runs the turns of a core over a network.

    Args:
        core: makes the decisions.
        network: carries the messages.
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
            if happened is NetworkEvent.MESSAGE:
                try:
                    delivery = links.received(link, frames, now)
                    if delivery is not None:
                        core.delivered(delivery, now)
                except Exception as error:  # noqa: BLE001 - whatever one peer says ends no turn
                    links.choked(link, error, now)
            elif happened is NetworkEvent.OPENED:
                links.opened(link, now)
            elif happened is NetworkEvent.CLOSED:
                links.closed(link, now)
            elif happened is NetworkEvent.DOUBT:
                links.doubt(now)
            else:
                links.probed(link, happened is NetworkEvent.LISTENING, now)
            if links.news:
                self._pass_news(now)
        return bool(events)

    def flush(self, now: float) -> None:
        """Let the core decide, and send what it posted."""
        core, links = self.core, self.core.links
        if links.due <= now:
            links.tick(now)
        if links.news:
            self._pass_news(now)
        core.advance(now)
        if links.touched:
            links.flush(now)
        if links.out:
            for instruction in links.take():
                if not isinstance(instruction, Send):
                    self._carry_out(instruction)
                elif not self.network.send(*instruction):
                    links.closed(instruction.link, now)

    def _pass_news(self, now: float) -> None:
        links = self.core.links
        news = links.news
        while news:
            each = news.popleft()
            try:
                self.core.handle_news(each, now)
            except Exception as error:  # noqa: BLE001 - nor does whatever one peer is
                links.choked(0, error, now, each.session)

    def _carry_out(self, instruction: Dial | HangUp | ProbePort) -> None:
        if isinstance(instruction, Dial):
            self.network.dial(*instruction)
        elif isinstance(instruction, HangUp):
            self.network.hang_up(instruction.link)
        else:
            self.network.probe(*instruction)

    def next_due(self) -> float:
        """When to turn again at the latest, if no descriptor becomes ready."""
        core, links = self.core, self.core.links
        if links.news or links.out:
            return 0.0
        return min(links.due, core.next_due(), self.network.next_due())
