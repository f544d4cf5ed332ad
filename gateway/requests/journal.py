"""What a gateway's core writes down for people and for the metrics. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from mesh.links.session import Session


@dataclass(slots=True)
class Counts:
    """What happened, for the metrics."""

    hub_hops: int = 0
    cancelled: int = 0
    expired: int = 0
    hedges: int = 0
    quarantined: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)


class JournalEntry(NamedTuple):
    """A replica came, or went.

    Attributes:
        session: its, with stage, host and pid.
        orderly: False where it was lost.
        reason: for people.
    """

    session: Session
    orderly: bool
    reason: str


class Turnover(NamedTuple):
    """The routes lead through another revision from now on.

    Attributes:
        version: its version, as its users call it.
        revision: its name.
    """

    version: str
    revision: str
