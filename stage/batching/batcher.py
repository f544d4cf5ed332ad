"""Which tasks run together, and when. Pure: the clock is an argument.

Tasks are added as they arrive. Whenever the replica is free it asks `Batcher.due`, which gives it
a `Batch` or says to wait, until `Batcher.next_due` at the latest.

**When a batch starts.** At once if it is full, or if nothing more is to be expected. Otherwise it
waits for more, for at most `max_wait_time` after the arrival of its oldest task, and never so long
that a deadline would be missed: how long a batch of n takes is learnt.

**What is to be expected** is learnt too, by `WaitBenefit`, because most waiting is in vain. Two
waits that brought nothing end the habit; it is tried again when tasks are seen to overlap (several
waiting at once, or one that came while the last batch ran: a lone client never does either), and
ever more rarely while that brings nothing. While waiting does pay, the most that one of the last
eight waits came to is the number to wait for: sixteen clients that each wait for their answer make
sixteen, not the thirty-two that would fit. Now and then that number is ignored once, to see
whether more would come.

**In which order.** High priority before normal, eight to one. Within a priority the earliest
deadline first, where a deadline counts as at most `patience` after the arrival, so that a task
with all the time in the world is not overtaken for ever. A task whose deadline has passed takes no
place. A task flagged `SOLO` runs alone.

**Without batching** (`max_batch_size` 1) the tasks still leave in bundles when they are short: as
many as are likely computed within `stage.batching.estimates.SHORT`, to be run one by one, answered
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
    """What to run now.

    Attributes:
        tasks: in the order in which they were taken, at least one.
        reason: why it starts: `size`, `bytes`, `wait`, `deadline`, `idle` (nothing more is
            expected) or `drain`.
        waited: seconds since the first of them arrived.
        single: run them one by one, each with a `forward` of its own.
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
        repeatable: False if a task must not be begun twice; then there are no bundles of singles.
        patience: seconds after its arrival at which a task's turn comes, however late its deadline.

    Attributes:
        line: the tasks that wait.
        window: how many tasks one batch may hold just now; credit is granted in these.
        has_drops: tasks were dropped since `take_drops` was called.
        predict: seconds that a batch of so many tasks is expected to take; 0.0 before the first.

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
        self._goal = 0  # how many tasks this batch waits for; 0 before it was reckoned
        self._first = 0  # how many there were when the waiting began; 0 if it did not
        self._expired: list[Task] = []
        self._cancelled = 0

    def __len__(self) -> int:
        """Count the tasks that wait."""
        return self.line.count

    def __repr__(self) -> str:
        """Show what waits and for what."""
        return (
            f"<Batcher {len(self)} of {self.window} tasks, {self.nbytes} bytes,"
            f" goal {self._goal}{', draining' if self._draining else ''}>"
        )

    @property
    def nbytes(self) -> int:
        """Payload bytes of the tasks that wait."""
        return self.line.nbytes

    def add(self, tasks: Iterable[Task], now: float) -> None:
        """Let tasks that arrived together wait for their turn."""
        line = self.line
        if not line.count:
            self._oldest = now
        rank = now + self._patience
        for task in tasks:
            line.add((task.deadline if task.deadline < rank else rank, now, task))

    def put_back(self, tasks: Iterable[Task], arrived: float) -> None:
        """Let tasks of the last batch that were not begun wait again, since they `arrived`."""
        oldest = min(self._oldest, arrived)
        self.add(tasks, arrived)
        self._oldest = oldest

    def cancel(self, ids: Iterable[RequestId]) -> list[Task]:
        """Drop cancelled tasks, in one sweep over all that wait.

        Returns:
            Those of them that waited here.
        """
        unwanted = frozenset(ids)
        found = self.line.remove(lambda task: task.id in unwanted)
        if found:
            self._cancelled += len(found)
            self.has_drops = True
            self._look_for_oldest()
        return found

    def take_back(self, keep: int) -> list[Task]:
        """Give up the tasks whose turn would come last, never begun.

        Args:
            keep: how many to go on with.

        Returns:
            The others.
        """
        surplus = self.line.pop_last(len(self) - keep)
        self._look_for_oldest()
        return surplus

    def take_drops(self) -> tuple[list[Task], int]:
        """Tell what was dropped since the last call.

        Returns:
            The tasks whose deadline passed here, and how many tasks were cancelled.
        """
        drops = self._expired, self._cancelled
        self._expired, self._cancelled = [], 0
        self.has_drops = False
        return drops

    def drain(self) -> None:
        """Wait for nothing from now on: what is here starts as soon as the replica is free."""
        self._draining = True

    def finished(self, size: int, seconds: float) -> None:
        """Learn from the batch that was started last.

        Args:
            size: how many tasks it ran.
            seconds: how long all of it took.
        """
        self._busy_until = self._started + seconds
        self._times.learn(size, seconds)
        if self._bundles:
            self.window = self._times.bundle

    def due(self, now: float) -> Batch | None:
        """Ask for a batch. To be called when the replica is free.

        Returns:
            A batch, whose tasks are the caller's from now on, or None: nothing waits, or more is
            worth waiting for until `next_due`.
        """
        if self.line.front <= now:
            self._expire(now)
        if not self.line.count:
            self._goal = self._first = 0
            return None
        if self.max_wait_time:
            reason = self._reason_to_start(now)
        else:  # no other task waits: one task is all that is wanted
            self._goal = 1
            reason = self._is_complete()
        if reason is None:
            self._first = self._first or self.line.count
            return None
        return self._start(reason, now)

    def next_due(self) -> float:
        """Tell when to ask `due` again, if nothing happens before.

        Returns:
            A time, perhaps past; infinity while nothing waits.
        """
        if not self.line.count:
            return inf
        if not self._goal or self._is_complete():
            return self._oldest
        return min(self._oldest + self.max_wait_time, self._latest_start())

    def _is_complete(self) -> str | None:
        """Tell why there is no sense in waiting, whatever the time is."""
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
