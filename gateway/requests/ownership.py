"""Whether a replica may report on a request. Pure.

The in-flight table knows the present and former holders of a request. In the first attempt, outputs
go straight to the next stage, and a handoff notice follows later. Until it comes, a replica of a
later stage is trusted: the request's number cannot be guessed, so the replica has it from a former
holder. Outputs of later attempts pass through the gateway, which therefore knows their holder. A
replica that did not get such an attempt from the gateway may not report on it.

A report that does not count is dropped without consequences: it may be late, a duplicate, or caused
by another process's message. A *breach* is a report that no honest process makes, whatever it
received. Replicas of a stage that only gateways feed know only what gateways told them, so every
report of theirs that does not fit is a breach. Replicas of other stages may have been fed by a
malicious one; of theirs only a wrong stage is a breach.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from gateway.requests.in_flight import Request
from mesh.links.session import Session
from mesh.protocol.messages import HandoffNotice, Hops, Outcome, OutcomeKind
from mesh.protocol.permissions import Breach

FIRST: Final = 1  # the only attempt whose outputs go straight from stage to stage
KEPT_HOLDERS: Final = 8  # former holders that a request remembers


class Ownership:
    """Checks reports of replicas against the in-flight table and the routes.

    Args:
        routes: by HTTP path, the hops that a request visits.

    Example:
        >>> ownership = Ownership({"/inference": (("detect", "1"), ("embed", "1"))})
        >>> ownership.is_known("embed"), ownership.is_known("classify")
        (True, False)
    """

    __slots__ = ("_fed", "_known")

    def __init__(self, routes: Mapping[str, Hops]) -> None:
        hop_lists = list(routes.values())
        self._known = frozenset(stage for hops in hop_lists for stage, _ in hops)
        self._fed = frozenset(later for hops in hop_lists for _, (later, _) in pairwise(hops))

    def is_known(self, stage: str) -> bool:
        """Whether any route visits this stage, in any revision."""
        return stage in self._known

    def may_end(self, request: Request, outcome: Outcome, session: Session) -> bool:
        """Whether a result or a failure of a replica ends a request.

        Raises:
            Breach: the replica never held it.
        """
        hops, hop, peer = request.hops, outcome.hop, session.peer
        if not self._is_of(session, hops, hop) or outcome.attempt > request.attempt:
            counts = False
        elif outcome.kind is OutcomeKind.RESULT:
            unknown = hop > 0 and (outcome.attempt == FIRST or len(request.tried) >= KEPT_HOLDERS)
            counts = hop + 1 == len(hops) and (unknown or _has_held(request, peer))
        elif hop > request.at:
            counts = outcome.attempt == FIRST
        else:  # at the request's hop only the holder counts; stages before it no longer do
            counts = hop == request.at and peer == request.holder
        return counts or self._strange(request, session)

    def may_return(self, request: Request, outcome: Outcome, session: Session) -> bool:
        """Whether a replica may give back a task that it did not begin, or hand back an output.

        Raises:
            Breach: the replica never held it.
        """
        hops, hop = request.hops, outcome.hop
        unbegun = self._is_of(session, hops, hop)
        output = hop < len(hops) and self._is_of(session, hops, hop - 1)
        if not (unbegun or output):
            return self._strange(request, session)
        by_first = hop == 0 or (hop == 1 and not unbegun)
        # Whether the gateway knows the holder for certain.
        is_known = request.attempt > FIRST or (by_first and request.at == 0)
        return not is_known or session.peer == request.holder or self._strange(request, session)

    def may_hand_off(
        self, request: Request, notice: HandoffNotice, session: Session, holder: Session | None
    ) -> bool:
        """Whether a replica's handoff notice counts; `holder` is None if it has no session here.

        Raises:
            Breach: the replica never held it.
        """
        hops, hop = request.hops, notice.hop
        fits = notice.holder and hop < len(hops) and self._is_of(session, hops, hop - 1)
        if not fits or (holder is not None and not self._is_of(holder, hops, hop)):
            return self._strange(request, session)
        by_first = request.at == 0 and hop == 1 and notice.attempt == request.attempt
        is_known = notice.attempt > FIRST or by_first  # the gateway knows the holder for certain
        return not is_known or session.peer == request.holder or self._strange(request, session)

    def may_have_held(self, request: Request, peer: int, stage: str) -> bool:
        """Whether a replica of this stage may hold or have held the request."""
        if _has_held(request, peer):
            return True
        ahead = request.hops[max(1, request.at) :]
        return request.attempt == FIRST and any(stage == later for later, _ in ahead)

    def _is_of(self, session: Session, hops: Hops, hop: int) -> bool:
        """Whether the replica runs the stage of this hop. The revision may differ: attempts of one
        request can use different ones."""
        facts = session.stage
        return facts is not None and 0 <= hop < len(hops) and hops[hop][0] == facts.name

    def _strange(self, request: Request, session: Session) -> bool:
        """Return False for a report that does not count.

        Raises:
            Breach: no message of another process explains the report.
        """
        facts, hops = session.stage, request.hops
        if facts is not None and facts.name not in self._fed:
            if hops[0][0] != facts.name:
                raise Breach("it speaks of a request that never came to its stage")
            forgotten = len(request.tried) >= KEPT_HOLDERS
            if len(hops) == 1 and not forgotten and not _has_held(request, session.peer):
                raise Breach("it speaks of a request that it never held")
        return False


def _has_held(request: Request, peer: int) -> bool:
    return peer == request.holder or peer in request.tried or peer in request.earlier
