"""What becomes of a request whose replica died, fell silent, or crashed over it. Pure.

Four rules keep this from doing harm. What may not run twice is not begun again. Retries and
hedges together are few beside what succeeds (`RetryBudget`), so that a failing mesh is not given
more to do. A request that was being computed when a replica crashed is a suspect: it runs alone
from then on, and if that crashes a replica, too, it is not tried a third time. And a request that
is held again and again by replicas that die while they compute nothing, which a fault of our own
may cause, is given up after `UNEXPLAINED_FACTOR` times as many of them as of other deaths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from gateway.requests.in_flight import InFlightTable, Request
from gateway.requests.replicas import Replicas
from mesh.links.dispatcher import Dispatcher
from mesh.links.session import Session
from mesh.protocol.messages import Death, Flag, Hop

EARNED_PER_SUCCESS = 0.1  # attempts beyond the first that each success pays for
MAX_EARNED = 256.0  # attempts that are paid for at most; so many may be needed at once by a death
MAX_DEAD = 1024  # dead incarnations that are remembered
UNEXPLAINED_FACTOR: Final = 3  # deaths that nothing explains, for each of `max_attempts`

NOT_TWICE = "the replica that held the request was lost, and it must not be run twice"
NO_BUDGET = "the replica that held the request was lost, and so were too many others"
POISON = "the request crashed two replicas, the second one while it was computed alone"


class Suspicion(Enum):
    """What is known of a request's part in the death of the replica that held it."""

    POSSIBLE = "possible"  # it was being computed, or nobody knows what was
    NONE = "none"  # others were being computed
    UNEXPLAINED = "unexplained"  # nothing was being computed, and yet the replica died


def blame_of(request: Request, death_notice: Death | None) -> Suspicion:
    """What a death notice, or its absence, says of a request that the dead replica held."""
    if death_notice is None or request.id in death_notice.computing:
        return Suspicion.POSSIBLE
    return Suspicion.NONE if death_notice.computing else Suspicion.UNEXPLAINED


class RetryBudget:
    """How many attempts beyond the first may still be made.

    Attributes:
        left: attempts; a part of one is saved up.
        is_full: whether `earn` has nothing to add.

    Example:
        >>> budget = RetryBudget()
        >>> budget.spend()
        True
    """

    __slots__ = ("is_full", "left")

    def __init__(self) -> None:
        self.left, self.is_full = MAX_EARNED, True

    def earn(self, successes: int) -> None:
        """Requests were answered."""
        self.left = min(MAX_EARNED, self.left + successes * EARNED_PER_SUCCESS)
        self.is_full = self.left >= MAX_EARNED

    def spend(self) -> bool:
        """Pay for one attempt; False if there is nothing left."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        self.is_full = False
        return True


class Retries:
    """Decides who is begun again.

    Args:
        in_flight: the requests.
        replicas: which stages may run twice.
        dispatchers: who else there is, by stage.

    Attributes:
        budget: of attempts.
        silent: replicas that do not turn, by incarnation.
    """

    def __init__(
        self, in_flight: InFlightTable, replicas: Replicas, dispatchers: Mapping[Hop, Dispatcher]
    ) -> None:
        self.budget = RetryBudget()
        self.silent: dict[int, Session] = {}
        self._in_flight = in_flight
        self._replicas = replicas
        self._dispatchers = dispatchers
        self._buried: dict[int, None] = {}

    def retry(
        self, request: Request, holder: int, *, parted: bool, blame: Suspicion = Suspicion.POSSIBLE
    ) -> str:
        """Its holder is gone. Make it ready to begin again at the first stage.

        Args:
            request: it.
            holder: who held it.
            parted: the holder went in order, which uses up nothing.
            blame: what the request had to do with it.

        Returns:
            "", or why it cannot begin again.
        """
        if not self._may_run_again(request):
            return NOT_TWICE
        if parted:
            # An attempt of its own: who had it beyond the first stage must not speak of this one.
            request.attempt += request.at > 0
            self._in_flight.returned(request, holder)
            return ""
        request.deaths += blame is Suspicion.POSSIBLE
        request.unexplained += blame is Suspicion.UNEXPLAINED
        if request.deaths >= self._in_flight.max_attempts:
            return f"{request.deaths} replicas were lost while they held the request"
        if request.unexplained >= UNEXPLAINED_FACTOR * self._in_flight.max_attempts:
            dead = f"{request.unexplained} replicas died while they held the request"
            return f"{dead} and computed nothing"
        if not self.budget.spend():
            return NO_BUDGET
        self._in_flight.again(request, holder)
        return ""

    def _may_run_again(self, request: Request) -> bool:
        return self._replicas.is_repeatable(request.path[: request.at + 1])

    # --- who is silent ---------------------------------------------------------------------------

    def fell_silent(self, session: Session, hop: Hop) -> None:
        """A replica does not turn: give it nothing new."""
        self.silent[session.peer] = session
        self._dispatchers[hop].leave(session)

    def is_back(self, session: Session, hop: Hop) -> None:
        """It turns again."""
        if self.silent.pop(session.peer, None) is not None:
            self._dispatchers[hop].join(session)

    def hedges(self) -> Iterable[Request]:
        """Requests that silent replicas hold, made ready for a second attempt elsewhere."""
        for holder in list(self.silent):
            for request in self._in_flight.held_by(holder):
                if self._may_be_hedged(request, holder) and self.budget.spend():
                    self._in_flight.hedge(request)
                    yield request

    def _may_be_hedged(self, request: Request, holder: int) -> bool:
        if not self._may_run_again(request):
            return False
        avoided = {*request.tried, holder}
        return all(
            any(session.peer not in avoided for session in self._dispatchers[hop].sessions)
            for hop in {request.path[0], request.path[request.at]}
        )

    # --- who crashed -----------------------------------------------------------------------------

    def suspect(self, death_notice: Death) -> list[Request]:
        """A replica crashed: note what it was computing.

        Returns:
            The requests that are not to be tried again.
        """
        if death_notice.incarnation in self._buried:
            return []
        self._buried[death_notice.incarnation] = None
        if len(self._buried) > MAX_DEAD:
            del self._buried[next(iter(self._buried))]
        alone = len(death_notice.computing) == 1
        poisoned = []
        for owner, number in death_notice.computing:
            is_ours = owner == self._in_flight.owner
            request = self._in_flight.requests.get(number) if is_ours else None
            if request is None:
                continue
            if alone and request.flags & Flag.SOLO:
                poisoned.append(request)
            request.flags |= Flag.SOLO
        return poisoned
