"""The replica registry: which replicas exist, which ones feed which, which revision serves. Pure.

A replica connects only when its worker is constructed and warm. So every connected replica is
ready.

The routes use the stages of one revision. Replicas of a later `version` are registered beside it;
as soon as all of its stages have replicas, the routes switch to it. They switch back only if one of
its stages disappears and a former revision is still complete. Replicas of any other revision may
connect, but get no tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise

from gateway.requests.releases import Release, Releases
from mesh.links.session import Session
from mesh.protocol.fair_order import in_turns
from mesh.protocol.messages import Hop, Hops, Peer, Role, StageFacts
from mesh.protocol.permissions import MAX_PEERS

JOIN_LIMIT_S = 1.0  # how long new replicas may take to connect with the replicas that feed them
RESTART_GRACE_S = 2.0  # a shorter absence of a stage is a restart: its requests wait

_PARTS = re.compile(r"[0-9]+|[^0-9]+")


@dataclass(slots=True)
class Replicas:
    """The replicas of this gateway's stages.

    Args:
        routes: by HTTP path, the hops that a request visits.
        now: local monotonic time in seconds.
        restart_grace: seconds for which a stage may have no replica before its requests are
            refused; also after the start.
        version: the version of the revision that the routes use.
        routes_name: the name of these routes, which replicas of the same pipeline announce.

    Attributes:
        facts: what the newest replica of each stage said of it; kept while the stage has none.
        is_coming: whether the routes may switch soon: a replica of a later version is connected,
            or a stage is missing and there is a former revision.
    """

    routes: Mapping[str, Hops]
    now: float
    restart_grace: float = RESTART_GRACE_S
    version: str = ""
    routes_name: str = ""
    sessions: dict[int, Session] = field(default_factory=dict)
    facts: dict[Hop, StageFacts] = field(default_factory=dict)
    is_coming: bool = False
    _since: dict[Hop, float] = field(init=False)
    _version: int = 0
    _releases: Releases = field(default_factory=Releases)

    def __post_init__(self) -> None:
        self._since = dict.fromkeys(_hops(self.routes), self.now)

    def joined(self, session: Session) -> Hop | None:
        """Register a connected replica, and return its stage; None if it serves no route here."""
        facts = session.stage
        hop = _hop(session)
        if facts is None or hop is None or not self._is_ours(facts):
            return None
        self.sessions[session.peer] = session
        self.facts[hop] = facts
        self.is_coming = self._may_move()
        self._version += 1
        return hop

    def left(self, session: Session, now: float) -> Hop | None:
        """Remove a replica, and return its stage; None if it was not registered."""
        if self.sessions.pop(session.peer, None) is None:
            return None
        self._version += 1
        hop = _hop(session)
        siblings = [s.stage for s in self.sessions.values() if s.stage and _hop(s) == hop]
        if hop is not None and siblings:
            self.facts[hop] = siblings[-1]  # what a replica said counts only while it is there
        if hop in self._since and hop not in self.present():
            self._since[hop] = now
        self.is_coming = self._may_move()
        return hop

    def _is_ours(self, facts: StageFacts) -> bool:
        """Whether a replica is of the serving revision, a later one, or a former one."""
        hop = facts.name, facts.revision
        former = self._releases.is_former(facts.revision) and self._is_routed(facts)
        return hop in self._since or former or self._comes(facts)

    def hop_of(self, session: Session) -> Hop | None:
        """Return the stage of a registered replica, None for others."""
        return _hop(session) if self.sessions.get(session.peer) is session else None

    def present(self) -> set[Hop]:
        """The stages that have a replica."""
        return {hop for s in self.sessions.values() if (hop := _hop(s)) is not None}

    def missing(self) -> list[Hop]:
        """The stages of the routes that have no replica, in order."""
        present = self.present()
        return [hop for hop in self._since if hop not in present]

    def absent(self, now: float) -> list[Hop]:
        """The stages without a replica for so long that their requests are refused."""
        return [hop for hop in self.missing() if now - self._since[hop] >= self.restart_grace]

    def is_joined(self, now: float, hops: Iterable[Hop] = ()) -> bool:
        """Whether the replicas are connected with those that they feed.

        Pairs that do not connect within `JOIN_LIMIT_S` may never do so. They do not count, because
        their outputs go through the gateway.

        Args:
            now: local monotonic time in seconds.
            hops: the stages to check; by default all stages of the routes.
        """
        wanted = set(hops) or self._since.keys()
        sessions = [session for session in self.sessions.values() if _hop(session) in wanted]
        for session in sessions:
            before = self._before(_hop(session))
            for other in sessions if before else ():
                young = now < max(session.since, other.since) + JOIN_LIMIT_S
                feeds = other.feed and _hop(other) in before
                if young and feeds and other.peer not in session.owners:
                    return False
        return True

    def peers_for(self, session: Session) -> tuple[int, list[Peer]]:
        """Return version and list of the feeds that a replica dials: the stages before its own.

        A gateway may name at most `MAX_PEERS`. Outputs of the others go through the gateway.
        """
        feeds = [s for s in self.feeding(session) if s.feed]
        if len(feeds) > MAX_PEERS:
            feeds = list(islice(in_turns(_by_source(feeds)), MAX_PEERS))
        return self._version, [
            Peer(s.feed, s.peer, Role.REPLICA, *hop) for s in feeds if (hop := _hop(s)) is not None
        ]

    def feeding(self, session: Session) -> list[Session]:
        """The replicas of the stages before this one's. Its `owners` are those it is connected
        with."""
        before = self._before(_hop(session))
        return [s for s in self.sessions.values() if _hop(s) in before]

    def is_repeatable(self, hops: Hops) -> bool:
        """Whether all of these stages may run more than once for one request."""
        return all(hop not in self.facts or self.facts[hop].repeatable for hop in hops)

    def fed_by(self, hop: Hop) -> list[Session]:
        """The replicas of the stages that follow this one."""
        after = {
            (later[0], hop[1])
            for hops in self.routes.values()
            for earlier, later in pairwise(hops)
            if earlier[0] == hop[0]
        }
        return [s for s in self.sessions.values() if _hop(s) in after]

    def _before(self, hop: Hop | None) -> set[Hop]:
        """The stages that feed this one, in the same revision."""
        stage, revision = hop or ("", "")
        return {
            (earlier[0], revision)
            for hops in self.routes.values()
            for earlier, later in pairwise(hops)
            if later[0] == stage
        }

    # --- one revision after another --------------------------------------------------------------

    def _comes(self, facts: StageFacts) -> bool:
        """Whether a replica is of a later version of a stage that the routes use."""
        return self._is_routed(facts) and is_later(facts.version, self.version)

    def _is_routed(self, facts: StageFacts) -> bool:
        """Whether the routes use this stage, and its own pipeline has the same routes."""
        is_known = any(facts.name == stage for stage, _ in self._since)
        return is_known and facts.routes == self.routes_name

    def _may_move(self) -> bool:
        """Whether a later revision is coming, or a stage is missing and there is a former one."""
        return bool(self._coming()) or bool(self._releases.former and self.missing())

    def _coming(self) -> list[StageFacts]:
        """One replica's facts for each later revision that has any replicas, the latest first."""
        found = {}
        for session in self.sessions.values():
            facts = session.stage
            if facts is not None and _hop(session) not in self._since and self._comes(facts):
                found[facts.revision] = facts
        return sorted(found.values(), key=lambda facts: _rank(facts.version), reverse=True)

    def successor(self, now: float) -> StageFacts | None:
        """Return the facts of the latest revision whose stages all have replicas, or None."""
        present = self.present()
        for facts in self._coming():
            hops = _hops(self._led_to(facts.revision))
            if not self._releases.may_lead(facts.revision, now):
                continue
            if present.issuperset(hops) and self.is_joined(now, hops):
                return facts
        return None

    def refuge(self) -> Release | None:
        """Return the latest former revision that is complete, if a stage is missing; or None."""
        if not (self._releases.former and self.missing()):
            return None
        usable = (s for s in self.sessions.values() if s.link is not None and not s.draining)
        present = {_hop(session) for session in usable}
        for release in reversed(self._releases.former):
            if present.issuperset(_hops(self._led_to(release.revision))):
                return release
        return None

    def move(self, to: StageFacts | Release, now: float) -> None:
        """Switch the routes to this revision: a later one, or back to a former one."""
        here = Release(self.version, next(iter(self._since))[1])
        there = Release(to.version, to.revision)
        if self._releases.is_former(there.revision) and self.missing():
            self._releases.went_back(here, there, now)
        else:
            self._releases.moved(here, there)
        self.routes, self.version = self._led_to(there.revision), there.version
        self._since = dict.fromkeys(_hops(self.routes), now)
        self.is_coming = self._may_move()

    def _led_to(self, revision: str) -> dict[str, Hops]:
        return {
            endpoint: tuple([(stage, revision) for stage, _ in hops])
            for endpoint, hops in self.routes.items()
        }


def is_later(version: str, other: str) -> bool:
    """Whether a version is later than another; the numbers in it compare as numbers.

    Example:
        >>> is_later("1.10", "1.9"), is_later("2026-11-27", "2026-3-1"), is_later("2", "2")
        (True, True, False)
    """
    return _rank(version) > _rank(other)


def _rank(version: str) -> list[tuple[int, str]]:
    """Make a sort key: numbers by length, then digits; words before numbers.

    Digits are not converted to an integer: a peer may send any number of them.
    """
    parts = _PARTS.findall(version)
    numbers = [part.lstrip("0") if part[0].isdecimal() else None for part in parts]
    return [
        (0, part) if number is None else (1 + len(number), number)
        for part, number in zip(parts, numbers, strict=True)
    ]


def _hops(routes: Mapping[str, Hops]) -> list[Hop]:
    return [hop for hops in routes.values() for hop in hops]


def _by_source(sessions: Iterable[Session]) -> list[list[Session]]:
    """Group the sessions by source, the oldest first."""
    groups: dict[str, list[Session]] = {}
    for session in sessions:
        groups.setdefault(session.source, []).append(session)
    return list(groups.values())


def _hop(session: Session) -> Hop | None:
    facts = session.stage
    return None if facts is None else (facts.name, facts.revision)
