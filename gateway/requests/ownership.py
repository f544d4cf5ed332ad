"""Whether what a replica says of a request is its to say. Pure.

The in-flight table knows who holds a request, and who held it; only in the first attempt, where an
output goes straight to the next stage, does it learn so later, by a handoff notice. Until then a
replica of a later stage is believed: it can know the request's number, which cannot be guessed,
only from whoever held it before. Outputs of a later attempt go by the gateway, which knows who has
them: whoever it did not give that attempt to has no say in it, whatever it knows of a former one.

What does not count is dropped, and costs nobody anything: it may be late, or a repetition, or made
of what somebody else sent. A *breach* is what no honest process says, whatever others tell it. The
replicas of a stage that only gateways feed have all that they know from us, so of theirs whatever
does not fit is a breach. What others are fed by a rogue may make them say anything but a lie of
their own stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from gateway.requests.in_flight import Request
from mesh.links.session import Session
from mesh.protocol.messages import HandoffNotice, Outcome, OutcomeKind, Path
from mesh.protocol.permissions import Breach

FIRST: Final = 1  # attempt: the only one whose outputs go straight from stage to stage
KEPT_HOLDERS: Final = 8  # former holders that a request keeps; who was one before them is not known


class Ownership:
    """Judges replicas by what the in-flight table and the routes say.

    Args:
        routes: per HTTP path the hops that a request visits.

    Example:
        >>> ownership = Ownership({"/inference": (("detect", "1"), ("embed", "1"))})
        >>> ownership.is_known("embed"), ownership.is_known("classify")
        (True, False)
    """

    __slots__ = ("_fed", "_known")

    def __init__(self, routes: Mapping[str, Path]) -> None:
        paths = list(routes.values())
        self._known = frozenset(stage for path in paths for stage, _ in path)
        self._fed = frozenset(later for path in paths for _, (later, _) in pairwise(path))

    def is_known(self, stage: str) -> bool:
        """Whether any route leads through this stage, in whatever revision."""
        return stage in self._known

    def may_end(self, request: Request, outcome: Outcome, session: Session) -> bool:
        """Whether a result or a failure of a replica ends a request.

        Raises:
            Breach: the replica never held it.
        """
        path, hop, peer = request.path, outcome.hop, session.peer
        if not self._is_of(session, path, hop) or outcome.attempt > request.attempt:
            counts = False
        elif outcome.kind is OutcomeKind.RESULT:
            unknown = hop > 0 and (outcome.attempt == FIRST or len(request.tried) >= KEPT_HOLDERS)
            counts = hop + 1 == len(path) and (unknown or _has_held(request, peer))
        elif hop > request.at:
            counts = outcome.attempt == FIRST
        else:  # what lies behind it has no say, and at a hop only its holder
            counts = hop == request.at and peer == request.holder
        return counts or self._strange(request, session)

    def may_return(self, request: Request, outcome: Outcome, session: Session) -> bool:
        """Whether a replica gives back what it may have: a task not begun, or an output.

        Raises:
            Breach: the replica never held it.
        """
        path, hop = request.path, outcome.hop
        unbegun = self._is_of(session, path, hop)
        output = hop < len(path) and self._is_of(session, path, hop - 1)
        if not (unbegun or output):
            return self._strange(request, session)
        by_first = hop == 0 or (hop == 1 and not unbegun)
        is_known = request.attempt > FIRST or (by_first and request.at == 0)  # who has it
        return not is_known or session.peer == request.holder or self._strange(request, session)

    def may_note(
        self, request: Request, notice: HandoffNotice, session: Session, holder: Session | None
    ) -> bool:
        """Whether a replica may say that the request is now at `holder`, None if we do not know it.

        Raises:
            Breach: the replica never held it.
        """
        path, hop = request.path, notice.hop
        fits = notice.holder and hop < len(path) and self._is_of(session, path, hop - 1)
        if not fits or (holder is not None and not self._is_of(holder, path, hop)):
            return self._strange(request, session)
        by_first = request.at == 0 and hop == 1 and notice.attempt == request.attempt
        is_known = notice.attempt > FIRST or by_first  # who has it
        return not is_known or session.peer == request.holder or self._strange(request, session)

    def may_have_held(self, request: Request, peer: int, stage: str) -> bool:
        """Whether a replica of this stage may hold the request, or have held it."""
        if _has_held(request, peer):
            return True
        ahead = request.path[max(1, request.at) :]
        return request.attempt == FIRST and any(stage == later for later, _ in ahead)

    def _is_of(self, session: Session, path: Path, hop: int) -> bool:
        """Whether this is a replica of that hop's stage; revisions differ between attempts."""
        facts = session.stage
        return facts is not None and 0 <= hop < len(path) and path[hop][0] == facts.name

    def _strange(self, request: Request, session: Session) -> bool:
        """False for what does not count; a breach where nobody can have led the replica to it."""
        facts, path = session.stage, request.path
        if facts is not None and facts.name not in self._fed:
            if path[0][0] != facts.name:
                raise Breach("it speaks of a request that never came to its stage")
            forgotten = len(request.tried) >= KEPT_HOLDERS
            if len(path) == 1 and not forgotten and not _has_held(request, session.peer):
                raise Breach("it speaks of a request that it never held")
        return False


def _has_held(request: Request, peer: int) -> bool:
    return peer == request.holder or peer in request.tried or peer in request.earlier
