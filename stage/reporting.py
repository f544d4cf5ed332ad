"""What goes home: outcomes, handoff notices and statistics, a bundle per owner gateway and turn.
Pure.

Nothing on a request's own path waits here. Notes do: they ride with the next outcome, or go by
themselves when they have waited `NOTICE_DELAY_S`. Statistics always wait that long: a lone
request's batch would pay as much for them as for its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.links.links import Links
from mesh.protocol.fields import MAX_TEXT_BYTES, PART_BYTES
from mesh.protocol.messages import BatchStats, HandoffNotice, Outcome, Outcomes, Role

NOTICE_DELAY_S = 0.050  # seconds that a handoff notice may wait for an outcome to ride with
MAX_PER_BUNDLE = 8192  # outcomes or handoff notices that one bundle takes
NEVER = float("inf")
_OUTCOME_BYTES = 64  # bytes of an outcome beside its payload and its text


@dataclass(slots=True)
class PendingReport:
    """What goes to one owner in the next bundle."""

    outcomes: list[Outcome] = field(default_factory=list)
    nbytes: int = 0


class Reporting:
    """Gathers what the owners are to be told.

    Args:
        links: of this process.

    Attributes:
        ownerless: outcomes dropped because their owner is gone.
        due: when `flush` has something to do.
    """

    def __init__(self, links: Links) -> None:
        self.ownerless = 0
        self._links = links
        self._parcels: dict[int, PendingReport] = {}
        self._notes: dict[int, list[HandoffNotice]] = {}
        self._stats: dict[int, list[BatchStats]] = {}
        self._notes_at = self._stats_at = self.due = NEVER

    def __len__(self) -> int:
        """Count the owners for whom something waits."""
        return len(self._parcels.keys() | self._notes.keys() | self._stats.keys())

    def post(self, owner: int, outcome: Outcome) -> None:
        """Have an outcome go at the end of this turn."""
        parcel = self._parcels.get(owner)
        if parcel is None:
            parcel = self._parcels[owner] = PendingReport()
            self.due = -NEVER
        nbytes = _OUTCOME_BYTES + sum(map(len, outcome.buffers))
        if outcome.text:
            nbytes += 4 * min(len(outcome.text), MAX_TEXT_BYTES)
        if parcel.outcomes and (
            parcel.nbytes + nbytes > PART_BYTES or len(parcel.outcomes) >= MAX_PER_BUNDLE
        ):
            self._send(owner, self._parcels.pop(owner), [])
            parcel = self._parcels[owner] = PendingReport()
        parcel.outcomes.append(outcome)
        parcel.nbytes += nbytes

    def notice(self, owner: int, notice: HandoffNotice, now: float) -> None:
        """Have a handoff notice go with the next outcome, or soon."""
        notices = self._notes.setdefault(owner, [])
        notices.append(notice)
        self._notes_at = (
            now if len(notices) >= MAX_PER_BUNDLE else min(self._notes_at, now + NOTICE_DELAY_S)
        )
        self.due = min(self.due, self._notes_at)

    def record(self, owner: int, stats: BatchStats, now: float) -> None:
        """Have a batch's statistics go home soon, to this owner or to whichever gateway there
        is."""
        if owner not in self._links.sessions:
            gateways = self._links.reachable(Role.GATEWAY)
            if not gateways:
                return
            owner = gateways[0]
        gathered = self._stats.setdefault(owner, [])
        gathered.append(stats)
        self._stats_at = (
            now if len(gathered) >= MAX_PER_BUNDLE else min(self._stats_at, now + NOTICE_DELAY_S)
        )
        self.due = min(self.due, self._stats_at)

    def forget(self, owner: int) -> None:
        """This gateway is gone."""
        self._parcels.pop(owner, None)
        self._notes.pop(owner, None)
        self._stats.pop(owner, None)

    def hurry(self, now: float) -> None:
        """Let handoff notices and statistics wait no longer."""
        if self._notes:
            self._notes_at = now
        if self._stats:
            self._stats_at = now
        self.due = min(self.due, self._notes_at, self._stats_at)

    def flush(self, now: float) -> None:
        """Post what is ready on the owners' sessions."""
        if now >= self._notes_at:
            for owner in self._notes:
                self._parcels.setdefault(owner, PendingReport())
        due = now >= self._stats_at
        if due:
            for owner in self._stats:
                self._parcels.setdefault(owner, PendingReport())
        if self._parcels:
            parcels, self._parcels = self._parcels, {}
            for owner, parcel in parcels.items():
                self._send(owner, parcel, self._stats.pop(owner, []) if due else [])
        if due:
            self._stats_at = NEVER
        if not self._notes:
            self._notes_at = NEVER
        self.due = min(self._notes_at, self._stats_at)

    def _send(self, owner: int, parcel: PendingReport, stats: list[BatchStats]) -> None:
        notices = self._notes.pop(owner, [])
        session = self._links.sessions.get(owner)
        if session is None:
            self.ownerless += len(parcel.outcomes)
            return
        session.post(Outcomes(parcel.outcomes, notices, stats), parcel.nbytes)
        self._links.touched[session] = None
