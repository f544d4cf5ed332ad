"""What a replica computes just now, written where its supervisor can read it after its death. Pure.

The memory is shared by the two. The replica writes the ids of a batch before it calls the worker's
`forward`, and takes them back afterwards; a crash leaves them. It is the only writer, and what it
writes last is the line that says that the rest is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack_into
from typing import NamedTuple

from mesh.messages import RequestId, Task

MOST = 8192  # ids that there is room for; a larger batch is known by its first ones
_HEAD = Struct("=dIi")  # when it began, how many, which one of them; -1: all
_ID = Struct("=QQ")
SIZE = _HEAD.size + MOST * _ID.size


class Running(NamedTuple):
    """A batch that is being computed.

    Attributes:
        since: when it began, in monotonic seconds, which all processes of a host share.
        ids: the requests in it; of those that run one by one the one whose turn it is.
    """

    since: float
    ids: list[RequestId]


class Board:
    """One replica's board.

    Args:
        memory: at least `SIZE` bytes, writable, zero at first.

    Example:
        >>> board = Board(bytearray(SIZE))
        >>> board.begin([Task(7, 1, (("embed", ""),), 0, 1, 9.0, [b"x"], 1)], 5.0, singly=False)
        >>> board.read()
        Running(since=5.0, ids=[(7, 1)])
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: memoryview | bytearray) -> None:
        self._memory = memoryview(memory)

    def begin(self, tasks: Sequence[Task], now: float, *, singly: bool) -> None:
        """These tasks are computed from now on, together or one by one."""
        count = min(len(tasks), MOST)
        numbers = [number for task in tasks[:count] for number in (task.owner, task.number)]
        pack_into(f"={2 * count}Q", self._memory, _HEAD.size, *numbers)
        _HEAD.pack_into(self._memory, 0, now, count, 0 if singly else -1)

    def step(self, index: int) -> None:
        """Of tasks that run one by one it is this one's turn."""
        pack_into("=i", self._memory, _HEAD.size - 4, index)

    def end(self) -> None:
        """Nothing is computed."""
        _HEAD.pack_into(self._memory, 0, 0.0, 0, -1)

    def read(self) -> Running | None:
        """What is, or was, being computed; None if nothing."""
        since, count, index = _HEAD.unpack_from(self._memory, 0)
        if not count:
            return None
        which = range(count) if index < 0 else [min(index, count - 1)]
        ids = [_ID.unpack_from(self._memory, _HEAD.size + at * _ID.size) for at in which]
        return Running(since, [(owner, number) for owner, number in ids])
