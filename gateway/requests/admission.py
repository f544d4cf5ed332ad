"""May a request enter? Decided at the door, before anything is queued for it. Pure.

Each route has an `Admission`. What it has let in counts, in requests and in bytes, until it leaves,
wherever along the route it is meanwhile. How long a request will take is what is inside, divided
by the rate at which requests leave: that holds for a pipeline of any length, and says both whom
not to let in any more and when it is worth coming back.

Whose body is still coming must not keep out those that are here: all unfinished ones together have
half of the places and half of the bytes at most, and a small one has no place before it is whole.

Only the rate under load says what the pipeline can do. It is learnt while requests wait for a
replica's credit or are refused; at all other times requests leave as slowly as they come.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from statistics import median_low
from typing import Final, NamedTuple

from mesh.protocol.messages import BatchStats

# Seconds for which leaving requests are counted, at least, before the rate learns of them.
_WINDOW_S: Final = 0.5
# What a shorter time counts as, when the load ends before the window does.
_MIN_WINDOW_S: Final = 0.1
# How much the newest window weighs in the rate.
_NEWEST_WEIGHT: Final = 0.5
# A body of at most so many bytes takes no place while it is unfinished.
SMALL_BODY_BYTES: Final = 64 * 1024
_MAX_RETRY_AFTER_S: Final = 60
# The part of its budget that a request may be predicted to need: the prediction is no better.
_SURE: Final = 0.8
# Tasks of a stage over which sizes are averaged: the last of them, and up to as many before.
_TASKS: Final = 500


class NotAdmitted(NamedTuple):
    """Why a request may not enter.

    Attributes:
        code: a word of `gateway.web.responses.TABLE`.
        message: for the client.
        retry_after: seconds after which it is worth trying again.
        stage: the stage that is to blame, if one is.
    """

    code: str
    message: str
    retry_after: int
    stage: str | None = None


class Admission:
    """Counts what is inside a route and refuses what does not fit, or would be too late.

    Every `enter` is matched by exactly one `leave` with the same charge, and every `reserve` by one
    `let_go`.

    Args:
        capacity: requests that may be inside.
        capacity_bytes: bytes that they may be charged with.

    Attributes:
        inside: requests that have a place.
        nbytes: what is charged, to them and to others.
        unfinished: requests whose bodies are still coming; `reserved` of them have a place.
        unfinished_bytes: what these are charged with.
        rate: requests per second that left while there was as much to do as could be done; 0.0
            while nothing is known.

    Example:
        >>> admission = Admission(capacity=1, capacity_bytes=1024)
        >>> admission.objection(10, now=0.0) is None
        True
        >>> admission.enter(10)
        >>> admission.objection(10, now=0.0).code
        'overloaded'
    """

    __slots__ = (
        "_counted",
        "_fresh",
        "_refused_at",
        "_since",
        "capacity",
        "capacity_bytes",
        "inside",
        "nbytes",
        "rate",
        "reserved",
        "unfinished",
        "unfinished_bytes",
    )

    def __init__(self, capacity: int, capacity_bytes: int) -> None:
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.inside = 0
        self.nbytes = 0
        self.unfinished = self.reserved = self.unfinished_bytes = 0
        self.rate = 0.0
        self._fresh = 0  # left since `learn` was last called
        self._counted = 0  # left in the open window
        self._since: float | None = None  # when the window opened
        self._refused_at = float("-inf")

    # --- in and out ------------------------------------------------------------------------------

    def objection(self, charge: int, now: float) -> NotAdmitted | None:
        """Why a request of `charge` bytes finds no room at the monotonic time `now`, or None.

        A request larger than `capacity_bytes` finds room when nothing else is inside, since it
        could otherwise never be served.
        """
        if self.inside >= self.capacity:
            what = "requests"
        elif self.nbytes + charge > self.capacity_bytes and self.inside:
            what = "bytes of requests"
        else:
            return None
        return self._full(what, now)

    def admit(self, charge: int) -> bool:
        """Let a request of `charge` bytes in if it finds room: `objection` and `enter` in one."""
        if self.inside < self.capacity and (
            self.nbytes + charge <= self.capacity_bytes or not self.inside
        ):
            self.inside += 1
            self.nbytes += charge
            return True
        return False

    def reservation_objection(self, charge: int, seated: bool, now: float) -> NotAdmitted | None:
        """Why one whose body is still to come finds no room at the time `now`, or None.

        As for `objection`, one that is alone finds room beyond all limits.

        Args:
            charge: bytes.
            seated: whether it takes a place already.
            now: local monotonic time in seconds.
        """
        if seated and self.reserved >= max(1, self.capacity // 2):
            return self._full("unfinished requests", now)
        if self.unfinished and self.unfinished_bytes + charge > self.capacity_bytes // 2:
            return self._full("bytes of unfinished requests", now)
        return self.objection(charge, now)

    def reserve(self, charge: int, seated: bool) -> None:
        """A request is let in whose body is still to come; see `reservation_objection`."""
        self.unfinished += 1
        self.unfinished_bytes += charge
        self.nbytes += charge
        if seated:
            self.reserved += 1
            self.inside += 1

    def let_go(self, charge: int, seated: bool) -> None:
        """It is unfinished no more: whole, and about to `enter`, or given up."""
        self.unfinished -= 1
        self.unfinished_bytes -= charge
        self.nbytes -= charge
        if seated:
            self.reserved -= 1
            self.inside -= 1

    def _full(self, what: str, now: float) -> NotAdmitted:
        self._refused_at = now
        return NotAdmitted("overloaded", f"too many {what} are in flight", self.retry_after())

    def lateness(self, budget: float, overtaken: int = 0) -> NotAdmitted | None:
        """Why a request with `budget` seconds left would be too late, or None.

        Only to be asked while requests wait: otherwise nobody has to wait for those inside.

        Args:
            budget: seconds.
            overtaken: how many of those inside it would go before.
        """
        wait = self.wait(overtaken)
        if wait <= budget * _SURE:
            return None
        message = f"the request would take about {wait:.2g} s, and has {budget:.2g} s"
        return NotAdmitted("cannot_meet_deadline", message, self.retry_after())

    def enter(self, charge: int) -> None:
        """A request is let in."""
        self.inside += 1
        self.nbytes += charge

    def grow(self, more: int) -> None:
        """Bytes are charged beside what requests are, or no more: of answers that are unread."""
        self.nbytes += more

    def leave(self, charge: int, served: bool) -> None:
        """A request is over; `served` if a replica has answered it, however."""
        self.inside -= 1
        self.nbytes -= charge
        self._fresh += served

    # --- how long it takes -----------------------------------------------------------------------

    def wait(self, overtaken: int = 0) -> float:
        """Seconds until all that is inside has left, except `overtaken`; 0.0 if nobody knows."""
        return max(0, self.inside - overtaken) / self.rate if self.rate else 0.0

    def retry_after(self) -> int:
        """Seconds until what is inside now has left, from 1 to 60."""
        return max(1, min(_MAX_RETRY_AFTER_S, ceil(self.wait())))

    def learn(self, crowded: bool, now: float) -> None:
        """What has left since the last call left before `now`; call it when something has.

        A window reaches from one departure to another, so that a pipeline which answers a hundred
        requests every two seconds is seen to answer fifty a second.

        Args:
            crowded: whether requests wait for a replica's credit.
            now: local monotonic time in seconds.
        """
        fresh, self._fresh = self._fresh, 0
        if not fresh:
            return
        since = self._since
        is_pressed = crowded or now - self._refused_at <= _WINDOW_S
        if since is None:
            self._since, self._counted = (now if is_pressed else None), 0
            return
        self._counted += fresh
        if not is_pressed:  # the load has ended: it can do at least this
            self.rate = max(self.rate, self._counted / max(now - since, _MIN_WINDOW_S))
            self._since = None
        elif now - since >= _WINDOW_S:
            newest = self._counted / (now - since)
            self.rate += (_NEWEST_WEIGHT if self.rate else 1.0) * (newest - self.rate)
            self._since, self._counted = now, 0


class Sizes:
    """How large the outputs of each stage lately were, on average.

    Each replica tells of its own. Of their averages the middle one counts, the lower of two: so one
    that tells of what is far too much makes admission refuse nobody where others serve the stage.

    Example:
        >>> sizes = Sizes()
        >>> sizes.learn(7, [BatchStats("decode", 2, 0, 0, "idle", nbytes=6000)])
        >>> sizes.learn(8, [BatchStats("decode", 1, 0, 0, "idle", nbytes=2**40)])
        >>> sizes.largest(["decode", "classify"])
        3000
    """

    __slots__ = ("_stale", "_totals", "_typical")

    def __init__(self) -> None:
        self._totals: dict[str, dict[int, tuple[int, int]]] = {}  # tasks, bytes of each replica
        self._typical: dict[str, int] = {}
        self._stale: set[str] = set()  # stages of which `_typical` is to be found anew

    def learn(self, replica: int, stats: Iterable[BatchStats]) -> None:
        """Take in what batches of a replica were like."""
        for each in stats:
            totals = self._totals.setdefault(each.stage, {})
            tasks, nbytes = totals.get(replica, (0, 0))
            if tasks >= 2 * _TASKS:
                tasks, nbytes = _TASKS, nbytes * _TASKS // tasks
            totals[replica] = tasks + each.size, nbytes + each.nbytes
            self._stale.add(each.stage)

    def forget(self, replica: int) -> None:
        """It is gone. What the last one of a stage told counts until another tells."""
        for stage, totals in self._totals.items():
            if totals.pop(replica, None) is not None and totals:
                self._stale.add(stage)

    def largest(self, stages: Iterable[str]) -> int:
        """Bytes of one output of that stage of these whose outputs are largest."""
        while self._stale:
            stage = self._stale.pop()
            averages = [nbytes // max(1, tasks) for tasks, nbytes in self._totals[stage].values()]
            self._typical[stage] = median_low(averages) if averages else self._typical.get(stage, 0)
        return max((self._typical.get(stage, 0) for stage in stages), default=0)
