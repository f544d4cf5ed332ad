"""Retries and hedges of requests whose replica died, fell silent, or crashed. Pure.

Four rules keep retries from doing harm:

1. A request that must not run twice is not retried.
2. Retries and hedges together are bounded by what is in flight and by successes (`RetryBudget`), so
   that a failing mesh does not get even more work.
3. Requests that were being computed when a replica crashed are suspects. They are halved: each half
   runs as a batch of its own, beside other work. The half that crashes again is halved again, so
   each crash costs two more forwards, not one for each request. A suspect that crashes a second
   replica while it is computed alone fails as a poison request.
4. A replica may die while it computes nothing, perhaps by a fault of our own. Such deaths are
   counted apart, and `UNEXPLAINED_FACTOR` times as many of them as of others fail a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

from gateway.requests.in_flight import InFlightTable, Request
from gateway.requests.replicas import Replicas
from mesh.links.dispatcher import Dispatcher
from mesh.links.session import Session
from mesh.protocol.messages import Death, Flag, Hop, RequestId

EARNED_PER_SUCCESS = 0.1  # further attempts that each success adds to the budget
LEAST_BUDGET = 256.0  # further attempts that are always allowed: one death may need them at once
MAX_GROUP = 2**32 - 1  # the highest number of a group of suspects: 4 bytes on the wire
MAX_DEAD = 1024  # remembered incarnations that died
UNEXPLAINED_FACTOR: Final = 3  # unexplained deaths allowed, per attempt of `max_attempts`

NOT_TWICE = "the replica that held the request was lost, and it must not be run twice"
NO_BUDGET = "the replica that held the request was lost, and so were too many others"
POISON = "the request crashed two replicas, the second one while it was computed alone"


class Suspicion(Enum):
    """Whether a request may have caused the death of the replica that held it."""

    POSSIBLE = "possible"  # it was being computed, or it is unknown what was
    NARROWED = "narrowed"  # it was being computed, among fewer suspects than before
    NONE = "none"  # other requests were being computed
    UNEXPLAINED = "unexplained"  # nothing was being computed


def blame_of(request: Request, death_notice: Death | None) -> Suspicion:
    """Judge a request that the dead replica held, by its death notice or the lack of one."""
    if death_notice is None:
        return Suspicion.POSSIBLE
    if request.id in death_notice.computing:
        return Suspicion.NARROWED if request.narrowed else Suspicion.POSSIBLE
    return Suspicion.NONE if death_notice.computing else Suspicion.UNEXPLAINED


class RetryBudget:
    """Bounds the further attempts: requests in flight or `LEAST_BUDGET`, and what successes pay.

    So everything in flight may be retried once, however much is lost at a time. Work that is lost
    again and again is not.

    Attributes:
        spent: attempts that no success has paid for yet.

    Example:
        >>> budget = RetryBudget()
        >>> budget.spend(in_flight=1000)
        True
    """

    __slots__ = ("spent",)

    def __init__(self) -> None:
        self.spent = 0.0

    def earn(self, successes: int) -> None:
        """Let requests that were answered pay for attempts."""
        self.spent = max(0.0, self.spent - successes * EARNED_PER_SUCCESS)

    def spend(self, in_flight: int) -> bool:
        """Take one attempt out of the budget; False if it is exhausted."""
        if self.spent + 1.0 > max(LEAST_BUDGET, in_flight):
            return False
        self.spent += 1.0
        return True


class Retries:
    """Decides which requests are retried or hedged.

    Args:
        in_flight: the requests.
        replicas: the registry, which knows the stages that may run twice.
        dispatchers: by stage; they know the other replicas.

    Attributes:
        budget: the further attempts that are left.
        silent: replicas whose event loop seems stuck, by incarnation.
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
        self._groups = 0  # the last number given to a group of suspects

    def retry(
        self, request: Request, holder: int, *, parted: bool, blame: Suspicion = Suspicion.POSSIBLE
    ) -> str:
        """Prepare a request whose holder is gone for a new start at its first stage.

        Args:
            request: the request.
            holder: the incarnation that held it.
            parted: whether the holder left in order, which uses up no attempt.
            blame: whether the request may have caused the death.

        Returns:
            "", or why the request cannot be retried.
        """
        if not self._may_run_again(request):
            return NOT_TWICE
        if parted:
            # Beyond the first stage, other replicas may hold copies of this attempt. A new attempt
            # number keeps their reports from counting for the new start.
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
        if not self.budget.spend(len(self._in_flight)):
            return NO_BUDGET
        self._in_flight.again(request, holder)
        return ""

    def _may_run_again(self, request: Request) -> bool:
        return self._replicas.is_repeatable(request.hops[: request.at + 1])

    # --- who is silent ---------------------------------------------------------------------------

    def fell_silent(self, session: Session, hop: Hop) -> None:
        """Stop dispatching to a silent replica."""
        self.silent[session.peer] = session
        self._dispatchers[hop].leave(session)

    def is_back(self, session: Session, hop: Hop) -> None:
        """Dispatch again to a replica that is no longer silent."""
        if self.silent.pop(session.peer, None) is not None:
            self._dispatchers[hop].join(session)

    def hedges(self) -> Iterable[Request]:
        """Yield requests of silent replicas, prepared for a second attempt elsewhere."""
        for holder in list(self.silent):
            for request in self._in_flight.held_by(holder):
                in_flight = len(self._in_flight)
                if self._may_be_hedged(request, holder) and self.budget.spend(in_flight):
                    self._in_flight.hedge(request)
                    yield request

    def _may_be_hedged(self, request: Request, holder: int) -> bool:
        if not self._may_run_again(request):
            return False
        avoided = {*request.tried, holder}
        return all(
            any(session.peer not in avoided for session in self._dispatchers[hop].sessions)
            for hop in {request.hops[0], request.hops[request.at]}
        )

    # --- who crashed -----------------------------------------------------------------------------

    def suspect(self, death_notice: Death) -> list[Request]:
        """Mark the requests that a crashed replica was computing as suspects, in two groups.

        Returns:
            The poison requests, which must not be retried.
        """
        if death_notice.incarnation in self._buried:
            return []
        self._buried[death_notice.incarnation] = None
        if len(self._buried) > MAX_DEAD:
            del self._buried[next(iter(self._buried))]
        company = len(death_notice.computing)
        suspects = self._ours(death_notice.computing)
        poisoned = [one for one in suspects if company == 1 and one.flags & Flag.SOLO]
        half = -(-len(suspects) // 2)
        self._group(suspects[:half], company)
        self._group(suspects[half:], company)
        return poisoned

    def _ours(self, ids: Iterable[RequestId]) -> list[Request]:
        requests, mine = self._in_flight.requests, self._in_flight.owner
        found = [requests.get(number) for owner, number in ids if owner == mine]
        return [request for request in found if request is not None]

    def _group(self, suspects: list[Request], company: int) -> None:
        """Let these suspects run together and with no others; `company` were named with them."""
        self._groups = self._groups % MAX_GROUP + 1
        for request in suspects:
            request.flags |= Flag.SOLO
            request.group = self._groups
            # Halving ends by itself, so it need not use up the attempts of innocent requests.
            request.narrowed = company < request.company
            request.company = company
