"""What a replica computes just now, written where its supervisor can read it after its death. Pure.

The memory is shared by the two. The replica writes the ids of a batch before it calls the worker's
`forward`, and takes them back afterwards; a crash leaves them. While it starts, it writes which of
its steps it takes. It is the only writer, and what it writes last is the line that says that the
rest is there. Behind all that is room for what the interpreter writes when it crashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack_into
from typing import NamedTuple

from mesh.protocol.messages import RequestId, Task
from mesh.worker.request_info import name_of_id

MAX_IDS = 8192  # ids that there is room for; a larger batch is known by its first ones
_HEAD = Struct("=dIiI")  # when it began, how many, which one of them (-1: all), bytes of the text
_INDEX = 12  # where the third of these is
_ID = Struct("=QQ")
_TEXT = _HEAD.size + MAX_IDS * _ID.size  # where the names of requests are, or that of a step
_MAX_TEXT_BYTES = 64 * 1024
SIZE = _TEXT + _MAX_TEXT_BYTES
CRASH_REPORT_BYTES = 32 * 1024  # bytes behind these


class RunningBatch(NamedTuple):
    """A batch that is being computed.

    Attributes:
        since: when it began, in monotonic seconds, which all processes of a host share.
        ids: the requests in it; of those that run one by one the one whose turn it is.
        names: these, as their clients know them.
    """

    since: float
    ids: list[RequestId]
    names: list[str]


class BatchRecord:
    """The batch record of one replica.

    Args:
        memory: at least `SIZE` bytes, writable, zero at first.

    Example:
        >>> batch_record = BatchRecord(bytearray(SIZE))
        >>> task = Task(7, 1, (("embed", ""),), 0, 1, 9.0, [b"x"], 1)
        >>> batch_record.begin([task], 5.0, singly=False)
        >>> batch_record.read()
        RunningBatch(since=5.0, ids=[(7, 1)], names=['7-1'])
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: memoryview | bytearray) -> None:
        self._memory = memoryview(memory)

    def begin(self, tasks: Sequence[Task], now: float, *, singly: bool) -> None:
        """These tasks are computed from now on, together or one by one."""
        if len(tasks) == 1:  # a lone request waits for this
            (task,) = tasks
            _ID.pack_into(self._memory, _HEAD.size, task.owner, task.number)
            length = self._write(task.request_id) if task.request_id else 0
            _HEAD.pack_into(self._memory, 0, now, 1, 0 if singly else -1, length)
            return
        count = min(len(tasks), MAX_IDS)
        numbers = [number for task in tasks[:count] for number in (task.owner, task.number)]
        pack_into(f"={2 * count}Q", self._memory, _HEAD.size, *numbers)
        names = [task.request_id for task in tasks]
        length = self._write("\n".join([name or "" for name in names])) if any(names) else 0
        _HEAD.pack_into(self._memory, 0, now, count, 0 if singly else -1, length)

    def step(self, index: int) -> None:
        """Of tasks that run one by one it is this one's turn."""
        pack_into("=i", self._memory, _INDEX, index)

    def starts(self, step: str) -> None:
        """The process starts, and takes this step of it, such as ``in Embed.__init__``."""
        _HEAD.pack_into(self._memory, 0, 0.0, 0, -1, self._write(step))

    def end(self) -> None:
        """Nothing is computed."""
        _HEAD.pack_into(self._memory, 0, 0.0, 0, -1, 0)

    def read(self) -> RunningBatch | None:
        """What is, or was, being computed; None if nothing."""
        since, count, index, length = _HEAD.unpack_from(self._memory, 0)
        if not count:
            return None
        which = range(count) if index < 0 else [min(index, count - 1)]
        ids = [_ID.unpack_from(self._memory, _HEAD.size + at * _ID.size) for at in which]
        names = dict(enumerate(self._text(length).split("\n")))
        told = [names.get(at) or name_of_id(one) for at, one in zip(which, ids, strict=True)]
        return RunningBatch(since, [(owner, number) for owner, number in ids], told)

    def step_of_start(self) -> str:
        """Which step of its start it takes, or took last; "" if none."""
        _, count, _, length = _HEAD.unpack_from(self._memory, 0)
        return "" if count else self._text(length)

    def _write(self, text: str) -> int:
        """Write it, or as many whole lines as there is room for; returns how many bytes."""
        told = text.encode("utf-8", "replace")
        if len(told) > _MAX_TEXT_BYTES:
            told = told[:_MAX_TEXT_BYTES].rpartition(b"\n")[0]
        self._memory[_TEXT : _TEXT + len(told)] = told
        return len(told)

    def _text(self, length: int) -> str:
        return bytes(self._memory[_TEXT : _TEXT + length]).decode("utf-8", "replace")
