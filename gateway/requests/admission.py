"""Admission control: whether a request may enter, decided before anything is queued for it. Pure.

Each route has an `Admission`. An admitted request counts, as a request and in bytes, until it
leaves the route, at whatever stage it is. The expected wait is the number of requests inside
divided by the rate at which they leave (Little's law). This holds for a pipeline of any length, and
tells both which requests would be too late and when a client should retry.

Requests whose body is still being received must not crowd out complete ones. Together they get at
most half of the places and half of the bytes; one with a small body takes no place before it is
complete.

Only the departure rate under load measures what the pipeline can do. So the rate is learnt while
requests wait for credit or are refused; at other times requests leave as slowly as they arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from statistics import median_low
from typing import Final, NamedTuple

from mesh.protocol.messages import BatchStats

# The shortest window over which departures are counted for the rate.
_WINDOW_S: Final = 0.5
# The least duration that a window counts with when the load ends before the window does.
_MIN_WINDOW_S: Final = 0.1
# The weight of the newest window in the rate.
_NEWEST_WEIGHT: Final = 0.5
# A body of at most so many bytes takes no place while it is being received.
SMALL_BODY_BYTES: Final = 64 * 1024
_MAX_RETRY_AFTER_S: Final = 60
# The share of its time budget that a request may be predicted to wait; predictions are imprecise.
_SURE: Final = 0.8
# Sizes are averaged over the last so many tasks of a stage, and up to as many before them.
_TASKS: Final = 500


class NotAdmitted(NamedTuple):
    """The reason why a request is refused.

    Attributes:
        code: an error code of `gateway.web.responses.TABLE`.
        message: the text for the client.
        retry_after: seconds after which the client should retry.
        stage: the stage that caused the refusal, if one did.
    """

    code: str
    message: str
    retry_after: int
    stage: str | None = None


class Admission:
    """Counts the requests inside a route, and refuses those that do not fit or would be too late.

    Every `enter` is matched by exactly one `leave` with the same charge, and every `reserve` by one
    `let_go`.

    Args:
        capacity: limit of the requests inside.
        capacity_bytes: limit of the bytes that are charged.

    Attributes:
        inside: requests that have a place.
        nbytes: all charged bytes, including reservations and unread answers.
        unfinished: requests whose bodies are still being received; `reserved` of them have a place.
        unfinished_bytes: the bytes that are charged to unfinished requests.
        is_measuring: whether `learn` must be called even though no request waits.
        rate: requests per second that left under full load; 0.0 while this is unknown.

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
        "is_measuring",
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
        self.is_measuring = False
        self._fresh = 0  # left since `learn` was last called
        self._counted = 0  # left in the open window
        self._since: float | None = None  # when the window opened
        self._refused_at = float("-inf")

    # --- in and out ------------------------------------------------------------------------------

    def objection(self, charge: int, now: float) -> NotAdmitted | None:
        """Return why a request of `charge` bytes does not fit at the monotonic time `now`, or None.

        A request larger than `capacity_bytes` fits when nothing else is inside; otherwise it could
        never be served.
        """
        if self.inside >= self.capacity:
            what = "requests"
        elif self.nbytes + charge > self.capacity_bytes and self.inside:
            what = "bytes of requests"
        else:
            return None
        return self._full(what, now)

    def admit(self, charge: int) -> bool:
        """Let a request of `charge` bytes in if it fits: `objection` and `enter` in one call."""
        if self.inside < self.capacity and (
            self.nbytes + charge <= self.capacity_bytes or not self.inside
        ):
            self.inside += 1
            self.nbytes += charge
            return True
        return False

    def reservation_objection(self, charge: int, seated: bool, now: float) -> NotAdmitted | None:
        """Return why a request whose body is still to come does not fit, or None.

        As with `objection`, a lone request fits whatever its size.

        Args:
            charge: bytes.
            seated: whether it takes a place before its body is complete.
            now: local monotonic time in seconds.
        """
        if seated and self.reserved >= max(1, self.capacity // 2):
            return self._full("unfinished requests", now)
        if self.unfinished and self.unfinished_bytes + charge > self.capacity_bytes // 2:
            return self._full("bytes of unfinished requests", now)
        return self.objection(charge, now)

    def reserve(self, charge: int, seated: bool) -> None:
        """Let a request in whose body is still to come; see `reservation_objection`."""
        self.unfinished += 1
        self.unfinished_bytes += charge
        self.nbytes += charge
        if seated:
            self.reserved += 1
            self.inside += 1

    def let_go(self, charge: int, seated: bool) -> None:
        """End a reservation: the request is complete and about to `enter`, or it was given up."""
        self.unfinished -= 1
        self.unfinished_bytes -= charge
        self.nbytes -= charge
        if seated:
            self.reserved -= 1
            self.inside -= 1

    def _full(self, what: str, now: float) -> NotAdmitted:
        self._refused_at, self.is_measuring = now, True
        return NotAdmitted("overloaded", f"too many {what} are in flight", self.retry_after())

    def lateness(self, budget: float, overtaken: int = 0) -> NotAdmitted | None:
        """Return why a request with `budget` seconds left would be too late, or None.

        Call this only while requests wait. If none waits, a new request does not queue behind those
        inside.

        Args:
            budget: seconds.
            overtaken: how many of the requests inside it would overtake.
        """
        wait = self.wait(overtaken)
        if wait <= budget * _SURE:
            return None
        message = f"the request would take about {wait:.2g} s, and has {budget:.2g} s"
        return NotAdmitted("cannot_meet_deadline", message, self.retry_after())

    def enter(self, charge: int) -> None:
        """Count a request in."""
        self.inside += 1
        self.nbytes += charge

    def grow(self, more: int) -> None:
        """Charge `more` bytes for answers that clients have not read; negative to release them."""
        self.nbytes += more

    def leave(self, charge: int, served: bool) -> None:
        """Count a request out; `served` if a replica answered it, with success or failure."""
        self.inside -= 1
        self.nbytes -= charge
        self._fresh += served

    # --- how long it takes -----------------------------------------------------------------------

    def wait(self, overtaken: int = 0) -> float:
        """Return the seconds until all inside but `overtaken` have left; 0.0 if unknown."""
        return max(0, self.inside - overtaken) / self.rate if self.rate else 0.0

    def retry_after(self) -> int:
        """Return the seconds until the requests inside now have left, clamped to 1 to 60."""
        return max(1, min(_MAX_RETRY_AFTER_S, ceil(self.wait())))

    def learn(self, crowded: bool, now: float) -> None:
        """Update the rate with the departures since the last call.

        A window reaches from one departure to a later one. So a pipeline that answers a hundred
        requests every two seconds is measured at fifty a second.

        While no request waits and `is_measuring` is False, this call may be left out: departures
        before the load began do not count.

        Args:
            crowded: whether requests wait for a replica's credit.
            now: local monotonic time in seconds.
        """
        fresh, self._fresh = self._fresh, 0
        if not fresh:
            return
        since = self._since
        is_pressed = self.is_measuring = crowded or now - self._refused_at <= _WINDOW_S
        if since is None:
            self._since, self._counted = (now if is_pressed else None), 0
            return
        self._counted += fresh
        if not is_pressed:  # the load has ended, so this is only a lower bound of the rate
            self.rate = max(self.rate, self._counted / max(now - since, _MIN_WINDOW_S))
            self._since = None
        elif now - since >= _WINDOW_S:
            newest = self._counted / (now - since)
            self.rate += (_NEWEST_WEIGHT if self.rate else 1.0) * (newest - self.rate)
            self._since, self._counted = now, 0


class Sizes:
    """The average size of each stage's recent outputs.

    Each replica reports its own. The low median of their averages counts. So a single replica that
    reports absurd sizes does not make admission refuse requests that others could serve.

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
        self._stale: set[str] = set()  # stages whose `_typical` must be recomputed

    def learn(self, replica: int, stats: Iterable[BatchStats]) -> None:
        """Add the batch statistics of a replica."""
        for each in stats:
            totals = self._totals.setdefault(each.stage, {})
            tasks, nbytes = totals.get(replica, (0, 0))
            if tasks >= 2 * _TASKS:
                tasks, nbytes = _TASKS, nbytes * _TASKS // tasks
            totals[replica] = tasks + each.size, nbytes + each.nbytes
            self._stale.add(each.stage)

    def forget(self, replica: int) -> None:
        """Remove a replica. The last average of a stage counts until another replica reports."""
        for stage, totals in self._totals.items():
            if totals.pop(replica, None) is not None and totals:
                self._stale.add(stage)

    def largest(self, stages: Iterable[str]) -> int:
        """Return the bytes of one output of the stage, among these, whose outputs are largest."""
        while self._stale:
            stage = self._stale.pop()
            averages = [nbytes // max(1, tasks) for tasks, nbytes in self._totals[stage].values()]
            self._typical[stage] = median_low(averages) if averages else self._typical.get(stage, 0)
        return max((self._typical.get(stage, 0) for stage in stages), default=0)
