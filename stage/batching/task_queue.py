"""The waiting tasks of a replica, in the order in which they will run. Pure.

A task's rank is a time: lower ranks run first. Tasks mostly arrive in the order of their ranks, so
adding one usually takes constant time; a task with a lower rank is inserted at its place.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import chain
from math import inf
from operator import itemgetter

from mesh.protocol.messages import Flag, Task

# A task's rank, when it arrived, and the task.
Entry = tuple[float, float, Task]

_HIGH_WEIGHT = 8  # tasks of high priority to one of normal
_SOLO = int(Flag.SOLO)
_rank = itemgetter(0)


class TaskQueue:
    """Tasks in the order in which they will run.

    Attributes:
        count: the number of tasks.
        nbytes: the bytes of their payloads.
        solo: the entries of suspects, which run with their group only, or else alone.
    """

    __slots__ = ("_high", "_normal", "_others_ran", "_picks", "count", "nbytes", "solo")

    def __init__(self) -> None:
        self._normal: list[Entry] = []
        self._high: list[Entry] = []
        self.solo: list[Entry] = []
        self.count = 0
        self.nbytes = 0
        self._picks = 0
        self._others_ran = True  # the last batch was not one of suspects

    def __iter__(self) -> chain[Entry]:
        return chain(self._high, self._normal, self.solo)

    @property
    def front(self) -> float:
        """The lowest rank. No deadline in the queue is earlier."""
        front = self._normal[0][0] if self._normal else inf
        for level in (self._high, self.solo):
            if level and level[0][0] < front:
                front = level[0][0]
        return front

    def add(self, entry: Entry) -> None:
        """Add a task; in constant time if its rank is not below the last one's."""
        task = entry[2]
        level = self._high if task.priority else self._normal
        if task.flags & _SOLO:
            level = self.solo
        if level and entry[0] < level[-1][0]:
            insort(level, entry, key=_rank)
        else:
            level.append(entry)
        self.count += 1
        self.nbytes += task.nbytes

    def pop(self, limit: int, max_bytes: int) -> list[Entry]:
        """Remove and return the next batch: as many tasks as the limits allow, at least one.

        Suspects and others take turns, so that suspects delay nothing by more than one batch.
        """
        others = self._high or self._normal
        suspects = self.solo and (self._others_ran or not others)
        self._others_ran = not suspects
        if suspects:
            taken = self._pick_suspects(limit, max_bytes)
        elif self.nbytes <= max_bytes and not (self._high and self._normal):
            level = self._high or self._normal
            taken = level[:limit]
            del level[:limit]
        else:
            taken = self._pick(limit, max_bytes)
        if len(taken) == self.count:
            self.count = self.nbytes = 0
        else:
            self._forget(taken)
        return taken

    def _pick_suspects(self, limit: int, max_bytes: int) -> list[Entry]:
        """Remove the first suspect and others of its group, within the limits."""
        first = self.solo[0][2]
        if not first.group:
            return [self.solo.pop(0)]
        taken: list[Entry] = []
        left: list[Entry] = []
        room = max_bytes
        for entry in self.solo:
            task = entry[2]
            is_mate = (task.owner, task.group) == (first.owner, first.group)
            if is_mate and len(taken) < limit and (room >= task.nbytes or not taken):
                room -= task.nbytes
                taken.append(entry)
            else:
                left.append(entry)
        self.solo = left
        return taken

    def _pick(self, limit: int, max_bytes: int) -> list[Entry]:
        """Remove tasks one at a time, by priority, within the limits."""
        taken: list[Entry] = []
        room = max_bytes
        while len(taken) < limit and (self._high or self._normal):
            normal = self._picks % (_HIGH_WEIGHT + 1) == _HIGH_WEIGHT
            level = (normal and self._normal) or self._high or self._normal
            room -= level[0][2].nbytes
            if room < 0 and taken:
                break
            taken.append(level.pop(0))
            self._picks += 1
        return taken

    def pop_last(self, surplus: int) -> list[Task]:
        """Remove and return the last `surplus` tasks, normal priority first."""
        taken: list[Entry] = []
        for level in (self._normal, self._high, self.solo):
            keep = max(0, len(level) - max(0, surplus - len(taken)))
            taken += level[keep:]
            del level[keep:]
        self._forget(taken)
        return [task for _, _, task in taken]

    def remove(self, unwanted: Callable[[Task], bool]) -> list[Task]:
        """Remove and return every task that `unwanted` selects."""
        removed: list[Entry] = []
        for level in (self._normal, self._high, self.solo):
            gone = [entry for entry in level if unwanted(entry[2])]
            if gone:
                level[:] = [entry for entry in level if not unwanted(entry[2])]
                removed += gone
        self._forget(removed)
        return [task for _, _, task in removed]

    def _forget(self, taken: list[Entry]) -> None:
        self.count -= len(taken)
        if self.count:
            self.nbytes -= sum([task.nbytes for _, _, task in taken])
        else:
            self.nbytes = 0
