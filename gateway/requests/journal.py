"""The records of a gateway's core for the log and the metrics. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from mesh.links.session import Session


@dataclass(slots=True)
class Counts:
    """Event counters for the metrics."""

    hub_hops: int = 0
    cancelled: int = 0
    expired: int = 0
    hedges: int = 0
    quarantined: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)


class JournalEntry(NamedTuple):
    """A replica connected or left.

    Attributes:
        session: its session, with stage, host and pid.
        orderly: False if it was lost.
        reason: why, for the log.
    """

    session: Session
    orderly: bool
    reason: str


class Turnover(NamedTuple):
    """The routes switched to another revision.

    Attributes:
        version: its version, as the users named it.
        revision: its internal name.
    """

    version: str
    revision: str
