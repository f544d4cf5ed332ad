"""Decides which tasks run together, and when. Pure: the clock is an argument.

Tasks are added as they arrive. A free replica calls `Batcher.due`, which returns a `Batch`, or
None: then the replica waits until `Batcher.next_due` at the latest.

**When a batch starts.** At once if it is full, or if no more tasks are expected. Otherwise it waits
for more, for at most `max_wait_time` after the arrival of its oldest task, and never so long that
it would miss a deadline: the batcher learns how long a batch of n tasks takes.

**Whether to expect more** is learnt too, by `WaitBenefit`, because most waits are in vain. After
two waits without a further task the batcher stops waiting. It tries again when tasks overlap
(several wait at once, or one arrived during the last batch, which never happens with a lone
client), and more and more rarely while that is in vain. While waiting pays, the goal is the largest
batch of the last eight waits: sixteen clients that each wait for their answer make sixteen, not the
thirty-two that would fit. Now and then one wait ignores the goal, to see whether more tasks come.

**In which order.** High priority before normal, eight to one. Within a priority the earliest
deadline first. A deadline counts as at most `patience` after the arrival, so that a task with a
late deadline is not overtaken for ever. A task whose deadline has passed is dropped. Tasks flagged
`SOLO` run with their group only, or alone if they have none, and take turns with all others.

**Without batching** (`max_batch_size` 1) short tasks still run in bundles: as many as probably
finish within `stage.batching.estimates.SHORT_BUNDLE_S`. They run one by one and are answered
together.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from operator import itemgetter
from typing import NamedTuple

from mesh.protocol.messages import RequestId, Task
from stage.batching.estimates import BatchTimes, WaitBenefit
from stage.batching.task_queue import TaskQueue

DEADLINE_MARGIN_S = (
    0.005  # seconds kept between a batch's predicted end and the earliest deadline in it
)
_arrival = itemgetter(1)


class Batch(NamedTuple):
    """The tasks to run now.

    Attributes:
        tasks: at least one task, in order.
        reason: why the batch starts: `size`, `bytes`, `wait`, `deadline`, `idle` (no more tasks
            are expected) or `drain`.
        waited: seconds since the first of the tasks arrived.
        single: whether to run the tasks one by one, each with its own `forward`.
    """

    tasks: list[Task]
    reason: str
    waited: float
    single: bool


class Batcher:
    """The tasks that wait in one replica.

    Args:
        max_batch_size: tasks in a batch, at most.
        max_wait_time: seconds that a task may wait for others, counted from its arrival.
        max_bytes: payload bytes in a batch, at most; a larger task runs alone.
        repeatable: False if a task must not start twice; then there are no bundles of singles.
        patience: seconds after its arrival at which a task counts as due, however late its
        deadline.

    Attributes:
        line: the waiting tasks.
        window: how many tasks one batch may hold now; credit is granted in multiples of it.
        has_drops: whether tasks were dropped since the last `take_drops`.
        predict: returns the expected seconds of a batch of n tasks; 0.0 before the first batch.

    Example:
        >>> batcher = Batcher(max_batch_size=8, max_wait_time=0.0, max_bytes=1 << 20)
        >>> batcher.add([Task(1, 1, (("embed", ""),), 0, 1, 9.0, [b"a"], 1)], now=5.0)
        >>> batcher.due(now=5.0).reason
        'idle'
    """

    def __init__(
        self,
        max_batch_size: int,
        max_wait_time: float,
        max_bytes: int,
        *,
        repeatable: bool = True,
        patience: float = 3.0,
    ) -> None:
        self.max_batch_size = max_batch_size
        self.max_wait_time = max_wait_time if max_batch_size > 1 else 0.0
        self.max_bytes = max_bytes
        self._patience = patience
        self._bundles = max_batch_size == 1 and repeatable
        self.line = TaskQueue()
        self.window = max_batch_size
        self.has_drops = False
        self._times = BatchTimes()
        self.predict = self._times.predict
        self._habit = WaitBenefit(max_batch_size)
        self._draining = False
        self._oldest = inf  # arrival of the oldest task that waits
        self._busy_until = -inf  # when the last batch ended
        self._started = -inf
        self._goal = 0  # how many tasks this batch waits for; 0 if not computed yet
        self._first = 0  # how many tasks there were when the wait began; 0 if there is no wait
        self._expired: list[Task] = []
        self._cancelled = 0

    def __len__(self) -> int:
        """Return the number of waiting tasks."""
        return self.line.count

    def __repr__(self) -> str:
        """Show what waits and for what."""
        return (
            f"<Batcher {len(self)} of {self.window} tasks, {self.nbytes} bytes,"
            f" goal {self._goal}{', draining' if self._draining else ''}>"
        )

    @property
    def nbytes(self) -> int:
        """The payload bytes of the waiting tasks."""
        return self.line.nbytes

    def add(self, tasks: Iterable[Task], now: float) -> None:
        """Queue tasks that arrived together."""
        line = self.line
        if not line.count:
            self._oldest = now
        rank = now + self._patience
        for task in tasks:
            line.add((task.deadline if task.deadline < rank else rank, now, task))

    def put_back(self, tasks: Iterable[Task], arrived: float) -> None:
        """Queue tasks of the last batch that did not start again; they `arrived` then."""
        oldest = min(self._oldest, arrived)
        self.add(tasks, arrived)
        self._oldest = oldest

    def cancel(self, ids: Iterable[RequestId]) -> list[Task]:
        """Drop cancelled tasks, in one pass over all waiting tasks.

        Returns:
            The cancelled tasks that waited here.
        """
        unwanted = frozenset(ids)
        found = self.line.remove(lambda task: task.id in unwanted)
        if found:
            self._cancelled += len(found)
            self.has_drops = True
            self._look_for_oldest()
        return found

    def take_back(self, keep: int) -> list[Task]:
        """Remove the tasks that would run last.

        Args:
            keep: how many tasks stay.

        Returns:
            The removed tasks.
        """
        surplus = self.line.pop_last(len(self) - keep)
        self._look_for_oldest()
        return surplus

    def take_drops(self) -> tuple[list[Task], int]:
        """Return what was dropped since the last call.

        Returns:
            The tasks whose deadline passed here, and how many tasks were cancelled.
        """
        drops = self._expired, self._cancelled
        self._expired, self._cancelled = [], 0
        self.has_drops = False
        return drops

    def drain(self) -> None:
        """Never wait from now on: tasks start as soon as the replica is free."""
        self._draining = True

    def finished(self, size: int, seconds: float) -> None:
        """Learn from the last batch.

        Args:
            size: the number of its tasks.
            seconds: how long it took.
        """
        self._busy_until = self._started + seconds
        self._times.learn(size, seconds)
        if self._bundles:
            self.window = self._times.bundle

    def due(self, now: float) -> Batch | None:
        """Return a batch to run now; call it when the replica is free.

        Returns:
            A batch, whose tasks now belong to the caller. None if no task waits, or if it is better
            to wait for more until `next_due`.
        """
        if self.line.front <= now:
            self._expire(now)
        if not self.line.count:
            self._goal = self._first = 0
            return None
        if self.max_wait_time:
            reason = self._reason_to_start(now)
        else:  # no other task waits: a batch of one is complete
            self._goal = 1
            reason = self._is_complete()
        if reason is None:
            self._first = self._first or self.line.count
            return None
        return self._start(reason, now)

    def next_due(self) -> float:
        """Return when to call `due` again, if nothing happens before.

        Returns:
            A time, possibly in the past; infinity while no task waits.
        """
        if not self.line.count:
            return inf
        if not self._goal or self._is_complete():
            return self._oldest
        return min(self._oldest + self.max_wait_time, self._latest_start())

    def _is_complete(self) -> str | None:
        """Return the reason not to wait that applies at any time, or None."""
        line = self.line
        if line.count >= self.window or line.solo:
            return "size"
        if line.nbytes >= self.max_bytes:
            return "bytes"
        if self._draining:
            return "drain"
        return "idle" if 0 < self._goal <= line.count else None

    def _reason_to_start(self, now: float) -> str | None:
        if not self._goal:
            self._goal = self._choose_goal()
        reason = self._is_complete()
        if reason is None and now >= self._oldest + self.max_wait_time:
            return "wait"
        if reason is None and now >= self._latest_start():
            return "deadline"
        return reason

    def _choose_goal(self) -> int:
        count = self.line.count
        return self._habit.goal(count, company=count > 1 or self._oldest <= self._busy_until)

    def _latest_start(self) -> float:
        return self.line.front - self._times.predict(self.line.count) - DEADLINE_MARGIN_S

    def _start(self, reason: str, now: float) -> Batch:
        if self._first:
            in_full = reason in ("wait", "deadline")
            self._habit.learn(self._first, self.line.count, in_full=in_full)
        self._goal = self._first = 0
        self._started = now
        entries = self.line.pop(self.window, self.max_bytes)
        if len(entries) == 1 and not self.line.count:
            ((_, arrived, task),) = entries
            self._oldest = inf
            return Batch([task], reason, now - arrived, self.max_batch_size == 1)
        waited = now - min(map(_arrival, entries))
        self._look_for_oldest()
        tasks = [task for _, _, task in entries]
        return Batch(tasks, reason, waited, self.max_batch_size == 1)

    def _expire(self, now: float) -> None:
        expired = self.line.remove(lambda task: task.deadline <= now)
        if expired:
            self._expired += expired
            self.has_drops = True
            self._look_for_oldest()

    def _look_for_oldest(self) -> None:
        self._oldest = min(map(_arrival, self.line), default=inf) if self.line.count else inf
