"""The table of requests in flight: the only place where a request lives, and what may end it. Pure.

Result, failure, deadline, client gone, death of a replica: whatever happens, a request leaves the
book once, by `_end`, and from then on nothing that is said of it matters. Who holds it is moved
forward only: by the gateway's own dispatching, and by the handoff notices of replicas that
forwarded it.
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
    """A request in flight: its task as the first stage gets it, and what the gateway knows of it.

    Attributes:
        origin: whoever awaits the answer; the in-flight table does not look at it.
        route: the HTTP path's route, None where the request came by none; the in-flight table does
        not look
            at it either.
        arrived: when it came, local monotonic time in seconds.
        holder: the incarnation that holds it, 0 while it waits here.
        at: the hop at which it is held or waits.
        charge: bytes that it counts for at the door.
        deaths: replicas that were lost while they held it, as far as it may have caused that.
        unexplained: replicas that died while they held it, of which is known that they computed
            nothing.
        earlier: replicas that may still compute an earlier attempt.
    """

    origin: object = None
    route: InferenceRoute | None = None
    arrived: float = 0.0
    holder: int = 0
    at: int = 0
    charge: int = 0
    deaths: int = 0
    unexplained: int = 0
    earlier: tuple[int, ...] = ()


class Ended(NamedTuple):
    """A request that is over, and how."""

    request: Request
    outcome: Outcome


@dataclass(slots=True)
class InFlightTable:
    """Requests in flight, by number.

    Args:
        owner: incarnation of this gateway.
        max_attempts: deaths of replicas that a request may survive, the last one excluded.

    Attributes:
        next_number: makes a number that no request of this life of the gateway has had. It counts,
            which others can guess, until it is given another: see `drawn_numbers`.
        requests: what is in flight.
        late: outcomes that came when their request was over, or from an attempt that no longer
            counts.
    """

    owner: int
    max_attempts: int
    requests: dict[int, Request] = field(default_factory=dict)
    late: int = 0
    next_number: Callable[[], int] = field(default_factory=lambda: count(1).__next__)
    _earliest: float = float("inf")

    def __len__(self) -> int:
        """How many requests are in flight."""
        return len(self.requests)

    def enter(self, request: Request) -> None:
        """Own a request from now on."""
        self.requests[request.number] = request
        if request.deadline < self._earliest:
            self._earliest = request.deadline

    def assign(self, tasks: list[Task], holder: int) -> None:
        """These tasks were given to a replica."""
        requests = self.requests
        for task in tasks:
            request = requests.get(task.number)
            if request is not None:
                request.holder = holder
                request.at = task.hop

    def moved(self, notice: HandoffNotice) -> Request | None:
        """A replica says that another now holds the task; only forward moves count.

        Returns:
            The request, or None if it is over: then nobody wants it where it is now.
        """
        request = self.requests.get(notice.number)
        if request is None:
            return None
        if notice.attempt == request.attempt and notice.hop > request.at:
            request.holder = notice.holder
            request.at = notice.hop
        return request

    def settle(self, outcome: Outcome, request: Request | None) -> Ended | None:
        """A result or a failure came of this request, None if it is over.

        A failure counts only from the newest attempt.
        """
        if request is None or (
            outcome.attempt != request.attempt and outcome.kind is OutcomeKind.FAILURE
        ):
            self.late += 1
            return None
        del self.requests[outcome.number]
        return _new_tuple(Ended, (request, outcome))

    def current(self, outcome: Outcome) -> Request | None:
        """The request that an intermediate outcome belongs to, if its attempt still counts."""
        request = self.requests.get(outcome.number)
        if request is None or outcome.attempt != request.attempt:
            self.late += 1
            return None
        return request

    def may_return(self, request: Request, outcome: Outcome, sender: int) -> bool:
        """Whether what a replica gives back is where the request is.

        A forwarder that lost its link sends its output again, to another replica, and both may
        then hand back what they have: the one that comes second would run the next stage twice.
        """
        handed_back, hop = outcome.kind is OutcomeKind.HANDBACK, outcome.hop
        if hop > request.at:
            valid = handed_back and hop < len(request.path)
        else:
            valid = hop == request.at and sender == request.holder and handed_back == (hop > 0)
        self.late += not valid
        return valid

    def fail(self, number: int, code: str, text: str) -> Ended | None:
        """End a request here, with an error of the gateway's own; None if it was over."""
        request = self.requests.pop(number, None)
        if request is None:
            return None
        failure = Outcome(
            number, request.attempt, OutcomeKind.FAILURE, request.at, label=code, text=text
        )
        return Ended(request, failure)

    def drop(self, number: int) -> Request | None:
        """Forget a request that nobody wants any more."""
        return self.requests.pop(number, None)

    def expired(self, now: float) -> list[Request]:
        """Requests whose deadline has passed; they are still in the in-flight table."""
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
        """No deadline lies before this time."""
        return self._earliest

    def still(self, tasks: list[Task]) -> list[Request]:
        """The requests of these tasks, but for those that are over or in another attempt by now."""
        found = [(self.requests.get(task.number), task.attempt) for task in tasks]
        return [each for each, attempt in found if each is not None and each.attempt == attempt]

    def held_by(self, holder: int) -> list[Request]:
        """Requests that a replica holds, as far as is known here."""
        return [r for r in self.requests.values() if r.holder == holder]

    def again(self, request: Request, holder: int) -> None:
        """The replica that held it died: begin another attempt."""
        request.attempt += 1
        self.returned(request, holder)

    def hedge(self, request: Request) -> None:
        """Its holder is silent: begin another attempt, while this one stays valid."""
        request.attempt += 1
        request.flags |= Flag.HEDGE
        request.earlier = (*request.earlier[-7:], request.holder)
        self.returned(request, request.holder)

    def returned(self, request: Request, holder: int) -> None:
        """It waits for its first stage again, and is not to go back to this replica if others are
        free. No attempt is used up: it was given back in order.
        """
        request.tried = (*request.tried[-7:], holder)
        request.holder = request.at = 0


def forwarding(request: Request, outcome: Outcome) -> Task:
    """The task for a later stage that a replica handed back for the gateway to dispatch.

    Args:
        request: whose it is.
        outcome: of kind `HANDBACK`, with the payload for the stage at `outcome.hop`.
    """
    return replace(
        request,
        path=request.path[outcome.hop :],
        hop=outcome.hop,
        buffers=outcome.buffers,
        nbytes=sum(map(len, outcome.buffers)),
        timings=outcome.timings,
    )
