"""The replicas that are gone, as far as something may still be said of them. Pure.

A replica's link may close before its supervisor tells of its death; and a request that failed names
the replica that had it.

Numbers of replicas are no secret in the mesh. So of each that is remembered counts what was said
first: who bears its number later is given neither its supervisor nor another one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mesh.links.session import Session
from mesh.protocol import incarnations

MAX_DEPARTED: Final = 256


class ReplicaOrigin(NamedTuple):
    """What a replica said of where it runs.

    Attributes:
        stage: that it ran, or runs.
        parent: the number that its supervisor gave it.
        shown: it, for people.
    """

    stage: str
    parent: int
    shown: str


class Departed:
    """Remembers the last of those that are gone."""

    __slots__ = ("_origins",)

    def __init__(self) -> None:
        self._origins: dict[int, ReplicaOrigin] = {}

    def __len__(self) -> int:
        """Count those that are remembered."""
        return len(self._origins)

    def add(self, session: Session) -> None:
        """A replica is gone."""
        origin = self.origin(session)
        self._origins.pop(session.peer, None)
        self._origins[session.peer] = origin
        if len(self._origins) > MAX_DEPARTED:
            del self._origins[next(iter(self._origins))]

    def get(self, incarnation: int) -> ReplicaOrigin | None:
        """What is remembered of one, if anything is."""
        return self._origins.get(incarnation)

    def origin(self, session: Session) -> ReplicaOrigin:
        """What counts of one that is here: what it says, unless it was here before."""
        return self._origins.get(session.peer) or origin_of(session)


def origin_of(session: Session) -> ReplicaOrigin:
    """Where a replica runs.

    Example:
        >>> from mesh.protocol.messages import Role
        >>> origin_of(Session(1, 0xBEE, Role.REPLICA, 0)).shown
        '0000000000000bee (, pid 0)'
    """
    stage = session.stage.name if session.stage is not None else ""
    # Its incarnation, as other log lines have it, and its process.
    shown = f"{incarnations.shown(session.peer)} ({session.host}, pid {session.pid})"
    return ReplicaOrigin(stage, session.parent, shown)
