"""Reports to the owner gateways: outcomes, handoff notices, statistics; one bundle per turn. Pure.

Outcomes never wait here. Handoff notices leave with the next outcome, or after `NOTICE_DELAY_S`.
Statistics always wait that long: for the batch of a lone request, they would cost as much as its
outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.links.links import Links
from mesh.protocol.fields import MAX_TEXT_BYTES, PART_BYTES
from mesh.protocol.messages import BatchStats, HandoffNotice, Outcome, Outcomes, Role

NOTICE_DELAY_S = 0.050  # how long a handoff notice may wait for an outcome to go with
MAX_PER_BUNDLE = 8192  # limit of the outcomes, and of the handoff notices, in one bundle
NEVER = float("inf")
_OUTCOME_BYTES = 64  # size of an outcome without its payload and text


@dataclass(slots=True)
class PendingReport:
    """The outcomes that go to one owner in the next bundle."""

    outcomes: list[Outcome] = field(default_factory=list)
    nbytes: int = 0


class Reporting:
    """Collects the reports to the owners.

    Args:
        links: the links of this process.

    Attributes:
        ownerless: count of outcomes dropped because their owner is gone.
        due: when `flush` has something to do.
    """

    def __init__(self, links: Links) -> None:
        self.ownerless = 0
        self._links = links
        self._pending: dict[int, PendingReport] = {}
        self._notices: dict[int, list[HandoffNotice]] = {}
        self._stats: dict[int, list[BatchStats]] = {}
        self._notices_at = self._stats_at = self.due = NEVER

    def __len__(self) -> int:
        """Count the owners with waiting reports."""
        return len(self._pending.keys() | self._notices.keys() | self._stats.keys())

    def post(self, owner: int, outcome: Outcome) -> None:
        """Queue an outcome, which leaves at the end of this turn."""
        report = self._pending.get(owner)
        if report is None:
            report = self._pending[owner] = PendingReport()
            self.due = -NEVER
        nbytes = _OUTCOME_BYTES + sum(map(len, outcome.buffers))
        if outcome.text:
            nbytes += 4 * min(len(outcome.text), MAX_TEXT_BYTES)
        if report.outcomes and (
            report.nbytes + nbytes > PART_BYTES or len(report.outcomes) >= MAX_PER_BUNDLE
        ):
            self._send(owner, self._pending.pop(owner), [])
            report = self._pending[owner] = PendingReport()
        report.outcomes.append(outcome)
        report.nbytes += nbytes

    def notice(self, owner: int, notice: HandoffNotice, now: float) -> None:
        """Queue a handoff notice, which leaves with the next outcome or after a short delay."""
        notices = self._notices.setdefault(owner, [])
        notices.append(notice)
        self._notices_at = (
            now if len(notices) >= MAX_PER_BUNDLE else min(self._notices_at, now + NOTICE_DELAY_S)
        )
        self.due = min(self.due, self._notices_at)

    def record(self, owner: int, stats: BatchStats, now: float) -> None:
        """Queue the statistics of a batch for this owner or, if it is gone, for another gateway."""
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
        """Drop the reports to a gateway that is gone."""
        self._pending.pop(owner, None)
        self._notices.pop(owner, None)
        self._stats.pop(owner, None)

    def hurry(self, now: float) -> None:
        """Make handoff notices and statistics leave with the next flush."""
        if self._notices:
            self._notices_at = now
        if self._stats:
            self._stats_at = now
        self.due = min(self.due, self._notices_at, self._stats_at)

    def flush(self, now: float) -> None:
        """Post the reports that are due to the owners' sessions."""
        if now >= self._notices_at:
            for owner in self._notices:
                self._pending.setdefault(owner, PendingReport())
        due = now >= self._stats_at
        if due:
            for owner in self._stats:
                self._pending.setdefault(owner, PendingReport())
        if self._pending:
            pending, self._pending = self._pending, {}
            for owner, report in pending.items():
                self._send(owner, report, self._stats.pop(owner, []) if due else [])
        if due:
            self._stats_at = NEVER
        if not self._notices:
            self._notices_at = NEVER
        self.due = min(self._notices_at, self._stats_at)

    def _send(self, owner: int, report: PendingReport, stats: list[BatchStats]) -> None:
        notices = self._notices.pop(owner, [])
        session = self._links.sessions.get(owner)
        if session is None:
            self.ownerless += len(report.outcomes)
            return
        load = self._links.load_for(session)
        outcomes = Outcomes(report.outcomes, notices, stats, load=load)
        session.stream.post(outcomes, report.nbytes)
        self._links.touched[session] = None
