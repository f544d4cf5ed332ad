"""The batch that a replica computes, in memory that its supervisor can read after a crash. Pure.

Replica and supervisor share the memory. The replica writes the ids of a batch before it calls the
worker's `forward`, and clears them afterwards; a crash leaves them. During its start it writes the
name of the current step. It is the only writer, and writes the head last, which makes the rest
valid. The memory behind the record takes the interpreter's report of a crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack_into
from typing import NamedTuple

from mesh.protocol.messages import RequestId, Task
from mesh.worker.request_info import name_of_id

MAX_IDS = 8192  # ids that fit; of a larger batch only the first ones are kept
# Start, number of ids, index of the current one (-1: all), bytes of the text.
_HEAD = Struct("=dIiI")
_INDEX = 12  # offset of the third field
_ID = Struct("=QQ")
_TEXT = _HEAD.size + MAX_IDS * _ID.size  # offset of the request names, or of the name of a step
_MAX_TEXT_BYTES = 64 * 1024
SIZE = _TEXT + _MAX_TEXT_BYTES
CRASH_REPORT_BYTES = 32 * 1024  # bytes for the report of a crash


class RunningBatch(NamedTuple):
    """A batch that is being computed.

    Attributes:
        since: when the batch began, in monotonic seconds, which all processes of a host share.
        ids: the requests in the batch; if they run one by one, only the current one.
        names: the ids of these requests as their clients know them.
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
        """Record that these tasks are being computed, together or one by one."""
        if len(tasks) == 1:  # fast path: the latency of a lone request includes this
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
        """Record which of the tasks that run one by one is the current one."""
        pack_into("=i", self._memory, _INDEX, index)

    def starts(self, step: str) -> None:
        """Record the current step of the start, such as ``in Embed.__init__``."""
        _HEAD.pack_into(self._memory, 0, 0.0, 0, -1, self._write(step))

    def end(self) -> None:
        """Record that nothing is being computed."""
        _HEAD.pack_into(self._memory, 0, 0.0, 0, -1, 0)

    def read(self) -> RunningBatch | None:
        """Return the batch that is, or was, being computed; None if there is none."""
        since, count, index, length = _HEAD.unpack_from(self._memory, 0)
        if not count:
            return None
        which = range(count) if index < 0 else [min(index, count - 1)]
        ids = [_ID.unpack_from(self._memory, _HEAD.size + at * _ID.size) for at in which]
        names = dict(enumerate(self._text(length).split("\n")))
        shown = [names.get(at) or name_of_id(one) for at, one in zip(which, ids, strict=True)]
        return RunningBatch(since, [(owner, number) for owner, number in ids], shown)

    def step_of_start(self) -> str:
        """Return the current or last step of the start; "" if there is none."""
        _, count, _, length = _HEAD.unpack_from(self._memory, 0)
        return "" if count else self._text(length)

    def _write(self, text: str) -> int:
        """Write as many whole lines of a text as fit; return how many bytes."""
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > _MAX_TEXT_BYTES:
            encoded = encoded[:_MAX_TEXT_BYTES].rpartition(b"\n")[0]
        self._memory[_TEXT : _TEXT + len(encoded)] = encoded
        return len(encoded)

    def _text(self, length: int) -> str:
        return bytes(self._memory[_TEXT : _TEXT + length]).decode("utf-8", "replace")
