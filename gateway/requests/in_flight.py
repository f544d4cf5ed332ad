"""The table of requests in flight: the only place where a request lives. Pure.

A request leaves the table exactly once: by a result, a failure, its deadline, its client's
departure, or an error of the gateway's own, such as too many deaths of replicas. Later messages
about it have no effect, but a handoff notice sends its CANCEL on. Its holder changes when the
gateway dispatches it, when it waits here again, and by a handoff notice, which only moves it on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from gateway.requests.route import InferenceRoute
from mesh.protocol.messages import Flag, HandoffNotice, Outcome, OutcomeKind, Task

_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each request


@dataclass(slots=True, eq=False)
class Request(Task):
    """A request in flight: its task for the first stage, and the gateway's state of it.

    Attributes:
        origin: the object that awaits the answer; the table does not use it.
        route: the route of its HTTP path, None without one; the table does not use it.
        arrived: when it arrived, local monotonic time in seconds.
        holder: the incarnation that holds it, 0 while it waits here.
        at: the hop at which it is held or waits.
        charge: bytes that admission charges for it.
        deaths: replicas that were lost while they held it, and that it may have killed.
        unexplained: replicas that died while they held it although they computed nothing.
        company: the number of suspects in the last death notice that named it; 0 before the first.
        narrowed: whether that notice named fewer suspects than the one before.
        earlier: silent replicas that may still compute an attempt before a hedge.
    """

    origin: object = None
    route: InferenceRoute | None = None
    arrived: float = 0.0
    holder: int = 0
    at: int = 0
    charge: int = 0
    deaths: int = 0
    unexplained: int = 0
    company: int = 0
    narrowed: bool = False
    earlier: tuple[int, ...] = ()


class Ended(NamedTuple):
    """A request that ended, and its outcome."""

    request: Request
    outcome: Outcome


@dataclass(slots=True)
class InFlightTable:
    """Requests in flight, by number.

    Args:
        owner: incarnation of this gateway.
        max_attempts: this many deaths of holders that it may have caused fail a request.

    Attributes:
        next_number: returns a number that no request of this incarnation had. The default counts,
            and is guessable; the shell replaces it, see `drawn_numbers`.
        requests: the requests in flight, by number.
        late: count of outcomes that came after their request ended, or from an obsolete attempt.
    """

    owner: int
    max_attempts: int
    requests: dict[int, Request] = field(default_factory=dict)
    late: int = 0
    next_number: Callable[[], int] = field(default_factory=lambda: count(1).__next__)
    _earliest: float = float("inf")

    def __len__(self) -> int:
        return len(self.requests)

    def enter(self, request: Request) -> None:
        """Add a request, which this gateway owns from now on."""
        self.requests[request.number] = request
        if request.deadline < self._earliest:
            self._earliest = request.deadline

    def assign(self, tasks: list[Task], holder: int) -> None:
        """Record that these tasks were dispatched to a replica."""
        requests = self.requests
        for task in tasks:
            request = requests.get(task.number)
            if request is not None:
                request.holder = holder
                request.at = task.hop

    def moved(self, request: Request, notice: HandoffNotice) -> bool:
        """Record a handoff notice: a replica forwarded the task. Return whether it moves it on.

        Notices of different replicas may overtake each other: only moves forward count.
        """
        if notice.attempt == request.attempt and notice.hop > request.at:
            request.holder, request.at = notice.holder, notice.hop
            return True
        return False

    def settle(self, outcome: Outcome, request: Request | None) -> Ended | None:
        """End a request by a result or a failure; `request` is None if it has ended before.

        A result counts from every attempt. A failure counts only from the newest one: the newest
        attempt may still succeed.
        """
        if request is None or (
            outcome.attempt != request.attempt and outcome.kind is OutcomeKind.FAILURE
        ):
            self.late += 1
            return None
        del self.requests[outcome.number]
        return _new_tuple(Ended, (request, outcome))

    def current(self, outcome: Outcome) -> Request | None:
        """Return the request of an intermediate outcome, None if its attempt is obsolete."""
        request = self.requests.get(outcome.number)
        if request is None or outcome.attempt != request.attempt:
            self.late += 1
            return None
        return request

    def may_return(self, request: Request, outcome: Outcome, sender: int) -> bool:
        """Whether a replica gives back a task at the request's hop, or an output for a later one.

        A replica that lost its link forwards its output again, to another replica, and both may
        hand it back. Accepting the second one would run the next stage twice. A task that was not
        begun comes from the first stage as UNSTARTED, from later ones as HANDBACK.
        """
        handed_back, hop = outcome.kind is OutcomeKind.HANDBACK, outcome.hop
        if hop > request.at:
            valid = handed_back and hop < len(request.hops)
        else:
            valid = hop == request.at and sender == request.holder and handed_back == (hop > 0)
        self.late += not valid
        return valid

    def fail(self, number: int, code: str, text: str) -> Ended | None:
        """End a request with an error of the gateway's own; None if it has ended before."""
        request = self.requests.pop(number, None)
        if request is None:
            return None
        failure = Outcome(
            number, request.attempt, OutcomeKind.FAILURE, request.at, label=code, text=text
        )
        return Ended(request, failure)

    def drop(self, number: int) -> Request | None:
        """Remove a request whose client is gone; None if it has ended before."""
        return self.requests.pop(number, None)

    def expired(self, now: float) -> list[Request]:
        """Return the requests whose deadline has passed, without removing them."""
        if now < self._earliest:
            return []
        out, earliest = [], float("inf")
        for request in self.requests.values():
            if request.deadline <= now:
                out.append(request)
            elif request.deadline < earliest:
                earliest = request.deadline
        self._earliest = earliest
        return out

    @property
    def earliest(self) -> float:
        """A lower bound of all deadlines."""
        return self._earliest

    def still(self, tasks: list[Task]) -> list[Request]:
        """Return the requests of these tasks that are in flight and in the same attempt."""
        found = [(self.requests.get(task.number), task.attempt) for task in tasks]
        return [each for each, attempt in found if each is not None and each.attempt == attempt]

    def held_by(self, holder: int) -> list[Request]:
        """Return the requests that a replica holds, as far as this gateway knows."""
        return [r for r in self.requests.values() if r.holder == holder]

    def again(self, request: Request, holder: int) -> None:
        """Start attempt n+1: the replica holding the request died."""
        request.attempt += 1
        self.returned(request, holder)

    def hedge(self, request: Request) -> None:
        """Start a further attempt elsewhere: the holder is silent. The one before stays valid,
        because the holder may only be slow."""
        request.attempt += 1
        request.flags |= Flag.HEDGE
        request.earlier = (*request.earlier[-7:], request.holder)
        self.returned(request, request.holder)

    def returned(self, request: Request, holder: int) -> None:
        """Let the request wait for its first stage again, in the same attempt.

        It avoids this replica if others have credit.
        """
        request.tried = (*request.tried[-7:], holder)
        request.holder = request.at = 0


def forwarding(request: Request, outcome: Outcome) -> Task:
    """Make the task for a later stage from an output that a replica handed back.

    Args:
        request: the request.
        outcome: of kind `HANDBACK`, with the payload for the stage at `outcome.hop`.
    """
    return replace(
        request,
        hops=request.hops[outcome.hop :],
        hop=outcome.hop,
        buffers=outcome.buffers,
        nbytes=sum(map(len, outcome.buffers)),
        timings=outcome.timings,
    )
