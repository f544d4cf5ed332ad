"""What goes home: outcomes, notes and figures, a bundle per owner gateway and turn. Pure.

Nothing on a request's own path waits here. Notes do: they ride with the next outcome, or go by
themselves when they have waited `LAZY`. Figures always wait that long: a lone request's batch
would pay as much for them as for its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.links.links import Links
from mesh.protocol.fields import MAX_TEXT, PART_SIZE
from mesh.protocol.messages import Figures, Note, Outcome, Outcomes, Role

LAZY = 0.050  # seconds that a note may wait for an outcome to ride with
MANY = 8192  # outcomes or notes that one bundle takes
NEVER = float("inf")
_ROW = 64  # bytes of an outcome beside its payload and its text


@dataclass(slots=True)
class Parcel:
    """What goes to one owner in the next bundle."""

    outcomes: list[Outcome] = field(default_factory=list)
    nbytes: int = 0


class Homeward:
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
        self._parcels: dict[int, Parcel] = {}
        self._notes: dict[int, list[Note]] = {}
        self._figures: dict[int, list[Figures]] = {}
        self._notes_at = self._figures_at = self.due = NEVER

    def __len__(self) -> int:
        """Count the owners for whom something waits."""
        return len(self._parcels.keys() | self._notes.keys() | self._figures.keys())

    def post(self, owner: int, outcome: Outcome) -> None:
        """Have an outcome go at the end of this turn."""
        parcel = self._parcels.get(owner)
        if parcel is None:
            parcel = self._parcels[owner] = Parcel()
            self.due = -NEVER
        nbytes = _ROW + sum(map(len, outcome.buffers))
        if outcome.text:
            nbytes += 4 * min(len(outcome.text), MAX_TEXT)
        if parcel.outcomes and (parcel.nbytes + nbytes > PART_SIZE or len(parcel.outcomes) >= MANY):
            self._send(owner, self._parcels.pop(owner), [])
            parcel = self._parcels[owner] = Parcel()
        parcel.outcomes.append(outcome)
        parcel.nbytes += nbytes

    def note(self, owner: int, note: Note, now: float) -> None:
        """Have a note go with the next outcome, or soon."""
        notes = self._notes.setdefault(owner, [])
        notes.append(note)
        self._notes_at = now if len(notes) >= MANY else min(self._notes_at, now + LAZY)
        self.due = min(self.due, self._notes_at)

    def record(self, owner: int, figures: Figures, now: float) -> None:
        """Have a batch's figures go home soon, to this owner or to whichever gateway there is."""
        if owner not in self._links.sessions:
            gateways = self._links.reachable(Role.GATEWAY)
            if not gateways:
                return
            owner = gateways[0]
        gathered = self._figures.setdefault(owner, [])
        gathered.append(figures)
        self._figures_at = now if len(gathered) >= MANY else min(self._figures_at, now + LAZY)
        self.due = min(self.due, self._figures_at)

    def forget(self, owner: int) -> None:
        """This gateway is gone."""
        self._parcels.pop(owner, None)
        self._notes.pop(owner, None)
        self._figures.pop(owner, None)

    def hurry(self, now: float) -> None:
        """Let notes and figures wait no longer."""
        if self._notes:
            self._notes_at = now
        if self._figures:
            self._figures_at = now
        self.due = min(self.due, self._notes_at, self._figures_at)

    def flush(self, now: float) -> None:
        """Post what is ready on the owners' sessions."""
        if now >= self._notes_at:
            for owner in self._notes:
                self._parcels.setdefault(owner, Parcel())
        due = now >= self._figures_at
        if due:
            for owner in self._figures:
                self._parcels.setdefault(owner, Parcel())
        if self._parcels:
            parcels, self._parcels = self._parcels, {}
            for owner, parcel in parcels.items():
                self._send(owner, parcel, self._figures.pop(owner, []) if due else [])
        if due:
            self._figures_at = NEVER
        if not self._notes:
            self._notes_at = NEVER
        self.due = min(self._notes_at, self._figures_at)

    def _send(self, owner: int, parcel: Parcel, figures: list[Figures]) -> None:
        notes = self._notes.pop(owner, [])
        session = self._links.sessions.get(owner)
        if session is None:
            self.ownerless += len(parcel.outcomes)
            return
        session.post(Outcomes(parcel.outcomes, notes, figures), parcel.nbytes)
        self._links.touch(session)
