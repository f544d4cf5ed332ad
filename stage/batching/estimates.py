"""Learns how long batches take, and whether waiting for more tasks pays. Pure."""

from __future__ import annotations

from collections import deque

from mesh.protocol.messages import MOST_SINGLES

_ENOUGH = 3  # waits that must pay before their results count
LONG_FORWARD_S = 0.010  # seconds after which a forward counts as long, and bundles of singles end
SHORT_BUNDLE_S = 0.002  # seconds that a bundle of single tasks may take
MAX_BUNDLE = MOST_SINGLES  # tasks that a bundle of single tasks may hold
# The percentile of times that is used. Not the 95th: on a busy machine, other processes interrupt
# one forward in twenty for longer than it takes itself, and bundles would shrink to one task.
SLOW_PERCENTILE = 75
_REFRESH_BATCHES = 8  # batches between two updates of the percentile
# How many chances to wait are skipped after waits in vain, and how many waits may end at their goal
# before one probes for more. Both double while nothing changes.
_FIRST_PAUSE, _LAST_PAUSE = 4, 1024
_FIRST_INTERVAL, _LAST_INTERVAL = 64, 4096


class BatchTimes:
    """Learns how long batches take from those that ran.

    Attributes:
        bundle: how many single tasks probably finish within `SHORT_BUNDLE_S`.
    """

    __slots__ = ("_lately", "_learnt", "_means", "bundle")

    def __init__(self) -> None:
        self._means: dict[int, float] = {}  # by size, rounded up to a power of two
        self._lately: deque[float] = deque(maxlen=32)  # seconds per task
        self._learnt = 0
        self.bundle = 1

    def learn(self, size: int, seconds: float) -> None:
        """Record how long a forward of `size` tasks, at least 1, took."""
        power = (size - 1).bit_length()
        mean = self._means.get(power, seconds)
        self._means[power] = mean + (seconds - mean) / 4
        self._lately.append(seconds / size)
        self._learnt += 1
        if self._learnt % _REFRESH_BATCHES == 0 or self._learnt < _REFRESH_BATCHES:
            self._choose_bundle()

    def _choose_bundle(self) -> None:
        slow = sorted(self._lately)[len(self._lately) * SLOW_PERCENTILE // 100]
        self.bundle = (
            MAX_BUNDLE
            if slow * MAX_BUNDLE <= SHORT_BUNDLE_S
            else max(1, int(SHORT_BUNDLE_S / slow))
        )

    def predict(self, size: int) -> float:
        """Estimate the seconds of a batch; without data for its size, rather too many."""
        power = (size - 1).bit_length()
        known = self._means.get(power)
        if known is not None or not self._means:
            return known or 0.0
        nearest = min(self._means, key=lambda other: abs(other - power))
        return self._means[nearest] * 2.0 ** max(0, power - nearest)


class WaitBenefit:
    """Learns whether waiting has recently paid, and up to how many tasks."""

    __slots__ = (
        "_gathered",
        "_interval",
        "_limit",
        "_pause",
        "_probing",
        "_reached",
        "_rest",
        "_vain",
    )

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._vain = 0  # consecutive waits without a further task
        self._pause = _FIRST_PAUSE  # chances to skip after waits in vain
        self._rest = 0  # chances that are still to be skipped
        self._gathered: deque[int] = deque(maxlen=8)  # the batch sizes of the last waits that paid
        self._reached = 0  # waits since the last probe that reached their goal
        self._interval = _FIRST_INTERVAL  # how many such waits until the next probe
        self._probing = False

    def goal(self, count: int, *, company: bool) -> int:
        """Return for how many tasks to wait. A result of at most `count` means not to wait.

        Args:
            count: how many tasks wait.
            company: whether tasks were seen to overlap.
        """
        if self._vain > 1 and not self._may_try(company):
            return 1
        if len(self._gathered) < _ENOUGH:
            return self._limit
        goal = max(self._gathered)
        if count > goal:
            self._gathered.append(count)
        elif self._reached >= self._interval:
            self._probing = True
            return self._limit
        return goal

    def _may_try(self, company: bool) -> bool:
        self._rest -= company
        return self._rest < 0 and company

    def learn(self, first: int, count: int, *, in_full: bool) -> None:
        """Record how a wait ended.

        Args:
            first: how many tasks waited when it began.
            count: how many tasks waited at its end.
            in_full: whether it lasted for the maximum, not only until it reached its goal.
        """
        probing, self._probing = self._probing, False
        if probing:
            better = count > max(self._gathered)
            self._interval = _FIRST_INTERVAL if better else min(2 * self._interval, _LAST_INTERVAL)
            self._reached = 0
        if in_full and count <= first:
            self._waited_in_vain()
            return
        self._vain = 0
        self._pause = _FIRST_PAUSE
        self._gathered.append(count)
        self._reached += not in_full

    def _waited_in_vain(self) -> None:
        self._vain += 1
        if self._vain > 1:
            self._rest = self._pause
            self._pause = min(2 * self._pause, _LAST_PAUSE)
