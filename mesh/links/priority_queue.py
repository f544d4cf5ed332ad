"""A queue of tasks: weighted between two priorities, earliest deadline first within one. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator

from mesh.protocol.messages import Task

HIGH_WEIGHT = 8  # high-priority tasks taken per waiting normal one


class PriorityQueue:
    """A queue of tasks.

    The two priorities share 8 : 1, so that neither starves. Within a priority, the earliest
    deadline goes first. Deadlines nearly always come in order, so adding a task is O(1).

    Attributes:
        count: number of waiting tasks.
        nbytes: payload bytes of the waiting tasks.

    Example:
        >>> from mesh.protocol.messages import Task
        >>> queue = PriorityQueue()
        >>> for number, deadline in (1, 5.0), (2, 3.0):
        ...     queue.push(Task(7, number, (("embed", "1"),), 0, 1, deadline, [b"x"], 1))
        >>> queue.pop().number
        2
    """

    __slots__ = ("_credit", "_high", "_normal", "count", "nbytes")

    def __init__(self) -> None:
        self._normal: deque[Task] = deque()
        self._high: deque[Task] = deque()
        self._credit = HIGH_WEIGHT
        self.count = self.nbytes = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Task]:
        """Iterate over all tasks, in no particular order."""
        yield from self._high
        yield from self._normal

    def push(self, task: Task) -> None:
        """Insert a task by its deadline."""
        level = self._high if task.priority else self._normal
        self.count += 1
        self.nbytes += task.nbytes
        deadline = task.deadline
        if not level or level[-1].deadline <= deadline:
            level.append(task)
            return
        at = len(level) - 1
        while at > 0 and level[at - 1].deadline > deadline:
            at -= 1
        level.insert(at, task)

    def _level(self) -> deque[Task]:
        """Return the priority that is next; it is empty only if both are."""
        if not self._high:
            return self._normal
        if self._normal and not self._credit:  # high priority has used up its share
            return self._normal
        return self._high

    def peek(self) -> Task | None:
        """Return the task that `pop` would take, None if there is none."""
        level = self._level()
        return level[0] if level else None

    def pop(self) -> Task:
        """Remove and return the most urgent task.

        Raises:
            IndexError: the queue is empty.
        """
        level = self._level()
        task = level.popleft()
        self.count -= 1
        self.nbytes -= task.nbytes
        if level is self._high:
            self._credit -= 1 if self._credit else 0
        else:
            self._credit = HIGH_WEIGHT
        return task

    def behind(self, priority: int, deadline: float) -> int:
        """Count the waiting tasks that a task of this priority and deadline would overtake."""
        level = self._high if priority else self._normal
        ahead = bisect_right(level, deadline, key=_deadline)
        others = max(0, len(self._normal) - ahead // HIGH_WEIGHT) if priority else 0
        return len(level) - ahead + others

    def remove(self, task: Task) -> bool:
        """Remove this very task; False if it is not in the queue."""
        level = self._high if task.priority else self._normal
        try:
            level.remove(task)
        except ValueError:
            return False
        self.count -= 1
        self.nbytes -= task.nbytes
        return True

    def take(self, most: int, nbytes: int, elsewhere: Callable[[Task], bool]) -> list[Task]:
        """Remove and return several tasks, the most urgent first.

        Args:
            most: limit of their number.
            nbytes: limit of their payload bytes; the first task may exceed it.
            elsewhere: called with a task that was tried before. If it returns True, neither this
                task nor those behind it are taken.
        """
        level, granted = self._normal, nbytes
        if self._high or self.nbytes > nbytes:
            return self._take_singly(most, nbytes, elsewhere)
        taken: list[Task] = []
        while level and len(taken) < most:
            if level[0].tried and elsewhere(level[0]):
                break
            task = level.popleft()
            nbytes -= task.nbytes
            taken.append(task)
        self.count -= len(taken)
        self.nbytes += nbytes - granted
        self._credit = HIGH_WEIGHT
        return taken

    def _take_singly(self, most: int, nbytes: int, elsewhere: Callable[[Task], bool]) -> list[Task]:
        """Do the same with both priorities and the byte limit."""
        taken: list[Task] = []
        while self.count and len(taken) < most:
            task = self._level()[0]
            nbytes -= task.nbytes
            if (taken and nbytes < 0) or (task.tried and elsewhere(task)):
                break
            taken.append(self.pop())
        return taken

    def _forget(self, taken: list[Task]) -> None:
        self.count -= len(taken)
        self.nbytes -= sum([task.nbytes for task in taken])

    def expired(self, now: float) -> list[Task]:
        """Remove and return all tasks whose deadline has passed."""
        out = []
        for level in (self._high, self._normal):
            while level and level[0].deadline <= now:
                out.append(level.popleft())
        if out:
            self._forget(out)
        return out


def _deadline(task: Task) -> float:
    return task.deadline
