"""Who exists, who is ready, who feeds whom.

A replica announces itself only when its worker is constructed and warm, so one that is connected
is one that is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from mesh.messages import Hop, Path, Peer, Role, StageFacts
from mesh.session import Session

JOINING = 1.0  # seconds that new replicas have to be connected with those that feed them
RESTART_GRACE = 2.0  # seconds: shorter absences are restarts, and requests wait through them


@dataclass(slots=True)
class Roster:
    """The replicas of this gateway's stages.

    Args:
        routes: per HTTP path the hops that a request visits.
        now: local monotonic time in seconds.
        restart_grace: seconds for which a stage may have no replica before its requests are
            refused; also at the start.

    Attributes:
        facts: what each stage's replicas said of it, the newest last; also while it has none.
    """

    routes: Mapping[str, Path]
    now: float
    restart_grace: float = RESTART_GRACE
    sessions: dict[int, Session] = field(default_factory=dict)
    facts: dict[Hop, StageFacts] = field(default_factory=dict)
    _since: dict[Hop, float] = field(init=False)
    _version: int = 0

    def __post_init__(self) -> None:
        """Every stage is missing since the start."""
        self._since = {hop: self.now for path in self.routes.values() for hop in path}

    def joined(self, session: Session) -> Hop | None:
        """A replica is connected; returns its stage if it is one of ours."""
        facts = session.stage
        hop = _hop(session)
        if facts is None or hop not in self._since:
            return None
        self.sessions[session.peer] = session
        self.facts[hop] = facts
        self._version += 1
        return hop

    def left(self, session: Session, now: float) -> Hop | None:
        """A replica is gone; returns the stage that it ran if it was one of ours."""
        if self.sessions.pop(session.peer, None) is None:
            return None
        self._version += 1
        hop = _hop(session)
        if hop is not None and hop not in self.present():
            self._since[hop] = now
        return hop

    def hop_of(self, session: Session) -> Hop | None:
        """The stage of a replica that is connected, if it is one of ours."""
        return _hop(session) if self.sessions.get(session.peer) is session else None

    def present(self) -> set[Hop]:
        """The stages that have a replica."""
        return {hop for s in self.sessions.values() if (hop := _hop(s)) is not None}

    def missing(self) -> list[Hop]:
        """Stages of any route that have none, in order."""
        present = self.present()
        return [hop for hop in self._since if hop not in present]

    def absent(self, now: float) -> list[Hop]:
        """Stages that have had none for so long that their requests are refused."""
        return [hop for hop in self.missing() if now - self._since[hop] >= self.restart_grace]

    def is_joined(self, now: float) -> bool:
        """Whether the replicas that feed each other are connected.

        Those that are not so soon never may be: then their outputs go by way of the gateway.
        """
        for session in self.sessions.values():
            before = self._before(_hop(session))
            for other in self.sessions.values() if before else ():
                young = now < max(session.since, other.since) + JOINING
                feeds = other.feed and _hop(other) in before
                if young and feeds and other.peer not in session.owners:
                    return False
        return True

    def peers_for(self, session: Session) -> tuple[int, list[Peer]]:
        """Version and list of what a replica dials: the replicas of the stages before its own."""
        before = self._before(_hop(session))
        peers = [
            Peer(s.feed, s.peer, Role.REPLICA, *hop)
            for s in self.sessions.values()
            if s.feed and (hop := _hop(s)) in before and hop is not None
        ]
        return self._version, peers

    def feeding(self, session: Session) -> list[Session]:
        """Replicas of the stages before this one's; its `owners` are whom it is connected with."""
        before = self._before(_hop(session))
        return [s for s in self.sessions.values() if _hop(s) in before]

    def is_repeatable(self, path: Path) -> bool:
        """Whether all of these stages may run twice for one request."""
        return all(hop not in self.facts or self.facts[hop].repeatable for hop in path)

    def _before(self, hop: Hop | None) -> set[Hop]:
        return {
            earlier
            for path in self.routes.values()
            for earlier, later in pairwise(path)
            if later == hop
        }

    def fed_by(self, hop: Hop) -> list[Session]:
        """Replicas of the stages that follow this one."""
        after = {
            later
            for path in self.routes.values()
            for earlier, later in pairwise(path)
            if earlier == hop
        }
        return [s for s in self.sessions.values() if _hop(s) in after]


def _hop(session: Session) -> Hop | None:
    facts = session.stage
    return None if facts is None else (facts.name, facts.revision)
