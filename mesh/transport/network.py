"""What a network is to the rest of the mesh: links that open, carry messages, and are gone. Pure.

`mesh/transport/zeromq.py` is the real one, `mesh/transport/memory.py` one for tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from typing import Protocol

from mesh.protocol.fields import Frame
from mesh.protocol.messages import Hello


class NetworkEvent(IntEnum):
    """What a network reports of a link."""

    MESSAGE = 0  # one multipart came
    OPENED = 1  # a dialled link is connected
    CLOSED = 2  # it is gone
    DOUBT = 3  # some link that dialled us is gone; a send to it will be refused
    LISTENING = 4  # listens where we probed; the number is the peer's, not a link's
    REFUSED = 5  # listens there: the process is gone


Event = tuple[NetworkEvent, int, Sequence[Frame]]


class Network(Protocol):
    """Links to other processes: numbered, ordered, bounded, and gone when they are gone.

    Links that we dialled have negative numbers, chosen by the core; links that dialled us have
    positive ones, chosen by the network.
    """

    def trust(self, gateways: Collection[str] | None, feeds: Collection[str]) -> None:
        """Say which addresses our own settings name; others are dialled only if they are harmless.

        Args:
            gateways: addresses of gateways; all others are feeds. None: all are gateways.
            feeds: addresses of feeds on this host.
        """

    def objection(self, link: int, hello: Hello) -> str:
        """Return why the process that dialled us may not be what its HELLO says, by its key.

        "" if it may, and where no keys are checked.
        """

    def source(self, link: int) -> str:
        """Return the proven origin (key and address) of the process that dialled us, or ""."""

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

    def probe(self, peer: int, address: str) -> None:
        """Ask whether a process listens there; `LISTENING`, `REFUSED`, or nothing follows."""

    def receive(self, ready: Iterable[int] = ()) -> list[Event]:
        """What happened at these descriptors, and wherever something is known to be left."""

    def is_pending(self) -> bool:
        """Whether `receive` has something left although no descriptor will say so."""

    def next_due(self) -> float:
        """When `receive` must be called although no descriptor is ready."""

    def close(self) -> None:
        """Close everything at once."""
