"""What came back of an open-loop load, and what can be said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What came back. Times in seconds from the start of the load.

    Attributes:
        rate: requests per second that were offered, on average.
        seconds: for how long.
        answers: per answer when the request was due, how long its answer took from then on, its
            status, and its ``Retry-After`` (0 without).
        broken: connections that ended instead of answering.
        unanswered: requests without an answer when the load had ended and the patience, too.
        connections: how many were open at once, at most.
        lateness: by how much requests left later than they were due, 99th percentile.
        cpu: what the generator used, in percent of one core.
    """

    rate: float
    seconds: float
    answers: list[tuple[float, float, int, int]] = field(default_factory=list)
    broken: int = 0
    unanswered: int = 0
    connections: int = 0
    lateness: float = 0.0
    cpu: float = 0.0

    def statuses(self) -> Counter[int]:
        """How many answers there were of each status."""
        return Counter(status for _, _, status, _ in self.answers)

    def served(self, begin: float = 0.0, end: float = float("inf")) -> list[float]:
        """Sorted latencies of the results that came between these two times."""
        return sorted(
            took
            for due, took, status, _ in self.answers
            if status == 200 and begin <= due + took < end
        )

    def goodput(self, begin: float, end: float) -> float:
        """Results per second between these two times."""
        return len(self.served(begin, end)) / (end - begin)

    def failures(self) -> int:
        """Requests that brought no result."""
        answered = self.statuses()
        return answered.total() - answered[200] + self.broken + self.unanswered


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed; 0.0 of none.

    Example:
        >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
        2.0
    """
    if not ordered:
        return 0.0
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def report(tally: Tally) -> str:
    """What a person wants to know of a run."""
    served = tally.served()
    lines = [
        f"offered     {tally.rate:.0f}/s for {tally.seconds:.0f} s, at random",
        "answers     "
        + ", ".join(f"{number} × {status}" for status, number in sorted(tally.statuses().items())),
        f"results     {tally.goodput(0, tally.seconds):.0f}/s while the load lasted",
        f"latency     p50 {percentile(served, 0.5) * 1000:.1f} ms,"
        f" p99 {percentile(served, 0.99) * 1000:.1f} ms, from when each was due",
        f"missing     {tally.unanswered} unanswered, {tally.broken} connections broken",
        f"generator   {tally.cpu:.0f} % of a core, {tally.connections} connections,"
        f" p99 of lateness {tally.lateness * 1000:.1f} ms",
    ]
    return "\n".join(lines)
