"""The origins of replicas that are gone. Pure.

A replica's link may close before its supervisor reports the death, and the log line of a failed
request names the replica that held it.

Incarnations are no secret in the mesh. So the first origin of an incarnation counts: a process that
claims the same incarnation later can neither inherit nor replace its supervisor.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mesh.links.session import Session
from mesh.protocol import incarnations

MAX_DEPARTED: Final = 256


class ReplicaOrigin(NamedTuple):
    """Where a replica runs, by its own HELLO.

    Attributes:
        stage: its stage.
        parent: the number that its supervisor gave it.
        shown: incarnation, host and process id, for logs.
    """

    stage: str
    parent: int
    shown: str


class Departed:
    """Remembers the last `MAX_DEPARTED` replicas that are gone."""

    __slots__ = ("_origins",)

    def __init__(self) -> None:
        self._origins: dict[int, ReplicaOrigin] = {}

    def __len__(self) -> int:
        return len(self._origins)

    def add(self, session: Session) -> None:
        """Remember a replica whose session ended."""
        origin = self.origin(session)
        self._origins.pop(session.peer, None)
        self._origins[session.peer] = origin
        if len(self._origins) > MAX_DEPARTED:
            del self._origins[next(iter(self._origins))]

    def get(self, incarnation: int) -> ReplicaOrigin | None:
        """Return the origin of a departed replica, None if it is not remembered."""
        return self._origins.get(incarnation)

    def origin(self, session: Session) -> ReplicaOrigin:
        """Return the origin of a present replica: its first one, where it was here before."""
        return self._origins.get(session.peer) or origin_of(session)


def origin_of(session: Session) -> ReplicaOrigin:
    """Make the origin from what a session's replica says of itself.

    Example:
        >>> from mesh.protocol.messages import Role
        >>> origin_of(Session(1, 0xBEE, Role.REPLICA, 0)).shown
        '0000000000000bee (, pid 0)'
    """
    stage = session.stage.name if session.stage is not None else ""
    # The incarnation is written as in other log lines.
    shown = f"{incarnations.shown(session.peer)} ({session.host}, pid {session.pid})"
    return ReplicaOrigin(stage, session.parent, shown)
