"""Large buffers in slices: how they are cut at one end and put together at the other. Pure.

A buffer over `PART_SIZE` does not travel with its task: 256 MB in one multipart would hold up
every heartbeat behind it for seconds. It goes ahead in slices, a few unreceipted at a time, into
one buffer of the receiver's. So do smaller buffers that are too much together.

What a first slice announces costs nothing: memory is taken as slices come. That is what counts,
together for all sessions of a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from mesh.errors import ProtocolError
from mesh.protocol.fields import INLINE, PART_SIZE, Transfer
from mesh.protocol.messages import (
    Answer,
    Buffer,
    Message,
    Outcome,
    Outcomes,
    Part,
    Submit,
    Task,
    Tasks,
)

LEAST_BYTES = 64 * 1024  # what an unfinished transfer counts as, however little of it has come
MAX_TOGETHER = 3 * PART_SIZE  # bytes of payload in one multipart; 4 MiB is the limit for it all


def is_large(message: Message) -> bool:
    """Whether some of the message's buffers must travel in slices.

    Example:
        >>> is_large(Submit(1, "/inference", 0, 0, None, [b"x", bytes(PART_SIZE + 1)]))
        True
    """
    buffers = _buffers(message)
    return any(len(buffer) > _limit(buffers) for buffer in buffers)


def _limit(buffers: list[Buffer]) -> int:
    """Bytes from which a buffer of these goes ahead."""
    rest = sum(len(b) for b in buffers if len(b) <= PART_SIZE)
    return PART_SIZE if rest <= MAX_TOGETHER else INLINE


class Step(NamedTuple):
    """One message of several that carry a large one.

    Attributes:
        message: what is sent.
        whole: what to remember for it: the large message itself with the last step.
    """

    message: Message
    whole: Message


class Outgoing:
    """A message whose large buffers go ahead of it in slices; or one that must not overtake such.

    Args:
        message: what the receiver shall have in the end.
        first: the number of its first transfer.

    Attributes:
        whole: the message.
        transfers: how many numbers it takes.
        left: whether the step that names the slices is still to come.
        begun: whether any step was taken.
    """

    def __init__(self, message: Message, first: int) -> None:
        self.whole = message
        self.left = True
        self.begun = False
        buffers = _buffers(message)
        limit = _limit(buffers)
        self._first = first
        self._large = [b for b in buffers if len(b) > limit]
        self.transfers = len(self._large)
        # What it says is settled now: an owner may begin a request again meanwhile.
        self._last = _with_transfers(message, first, limit) if self._large else message
        self._steps = self._walk()

    def step(self) -> Step | None:
        """The next slice, in order; then the message that names them; then None."""
        self.begun = True
        return next(self._steps, None)

    def _walk(self) -> Iterator[Step]:
        for number, buffer in enumerate(self._large, self._first):
            view = memoryview(buffer)
            for offset in range(0, len(view), PART_SIZE):
                part = Part(number, len(view), offset, view[offset : offset + PART_SIZE])
                yield Step(part, part)
        self.left = False
        yield Step(self._last, self.whole)


class Gathering(Protocol):
    """A buffer that grows as its slices come."""

    @property
    def whole(self) -> bytearray | memoryview:
        """All of it, once the last slice has come."""

    def put(self, offset: int, piece: Buffer) -> None:
        """Take the next slice, which begins at `offset`."""


class Growing:
    """A buffer that takes memory with each slice. `mesh.protocol.array_memory` has a faster one.

    Args:
        total: bytes that it will have; nothing is made of that.
    """

    __slots__ = ("whole",)

    def __init__(self, total: int) -> None:
        self.whole = bytearray()

    def put(self, offset: int, piece: Buffer) -> None:
        """Take the next slice."""
        self.whole += piece


@dataclass(slots=True)
class Unfinished:
    """What the incoming buffers of all sessions of a process have in common.

    Attributes:
        room: bytes that may still come of them. Asked for every slice.
        memory: makes the buffer for so many bytes.
    """

    room: Callable[[], int]
    memory: Callable[[int], Gathering] = Growing


class _Transfer:
    """One buffer, and how much of it has come."""

    __slots__ = ("buffer", "filled", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self.filled = 0
        self.buffer: Gathering | None = None

    @property
    def charge(self) -> int:
        """Bytes that it counts as."""
        return max(self.filled, LEAST_BYTES) if self.filled else 0


class Incoming:
    """Puts slices together.

    Args:
        limit: how many bytes may be under way at once; more is a breach of credit.
        unfinished: what all sessions have in common; without it there is room for everything.

    Attributes:
        held: bytes of the buffers that were announced and are not yet claimed.
        arrived: bytes that have come of them; each counts as `LEAST_BYTES` at least.
    """

    def __init__(self, limit: int, unfinished: Unfinished | None = None) -> None:
        self._limit, self._unfinished = limit, unfinished or Unfinished(lambda: limit + LEAST_BYTES)
        self._open: dict[int, _Transfer] = {}
        self.held = self.arrived = 0

    def add(self, part: Part) -> None:
        """Copy one slice to its place.

        Raises:
            ProtocolError: it is not the next one of its transfer, or there is no room.
        """
        known = self._open.get(part.transfer)
        transfer = known or _Transfer(part.total)
        if part.offset != transfer.filled or part.total != transfer.total:
            where = f"{part.offset} of {part.total} where {transfer.filled} is next"
            raise ProtocolError(f"a slice at {where}")
        if known is None and self.held + part.total > self._limit:
            raise ProtocolError(f"a transfer of {part.total} bytes is over what was granted")
        if len(part.slice) > self._unfinished.room():
            raise ProtocolError("unfinished transfers are all that there is memory for")
        self._put(transfer, part)
        if known is None:
            self._open[part.transfer] = transfer
            self.held += part.total

    def _put(self, transfer: _Transfer, part: Part) -> None:
        before = transfer.charge
        try:
            if transfer.buffer is None:
                transfer.buffer = self._unfinished.memory(part.total)
            transfer.buffer.put(part.offset, part.slice)
        except MemoryError:
            text = f"there is no memory for a transfer of {part.total} bytes"
            raise ProtocolError(text) from None
        transfer.filled += len(part.slice)
        self.arrived += transfer.charge - before

    def claim(self, message: Message) -> None:
        """Replace every `Transfer` in the message by its buffer.

        Transfers are numbered and named in order. So one that is older than those named here
        belonged to a message that could not be read, and is dropped.

        Raises:
            ProtocolError: it names a transfer that is not complete.
        """
        if isinstance(message, Tasks | Outcomes) and message.plain:
            return
        named = [
            (buffers, at, buffer)
            for buffers in _buffer_lists(message)
            for at, buffer in enumerate(buffers)
            if type(buffer) is Transfer
        ]
        if not named:
            return
        taken = [self._take(transfer) for _, _, transfer in named]
        last = max(transfer.number for _, _, transfer in named)
        for number in [number for number in self._open if number < last]:
            self._drop(number)
        for (buffers, at, transfer), buffer in zip(named, taken, strict=True):
            if buffer is None:
                raise ProtocolError(f"transfer {transfer.number} is named but is not complete")
            buffers[at] = buffer

    def _take(self, named: Transfer) -> Buffer | None:
        transfer = self._drop(named.number)
        if transfer is None or transfer.buffer is None or transfer.filled != named.total:
            return None
        return transfer.buffer.whole

    def _drop(self, number: int) -> _Transfer | None:
        transfer = self._open.pop(number, None)
        if transfer is not None:
            self.held -= transfer.total
            self.arrived -= transfer.charge
        return transfer


def _buffer_lists(message: Message) -> list[list[Any]]:
    if isinstance(message, Tasks):
        return [task.buffers for task in message.tasks]
    if isinstance(message, Outcomes):
        return [outcome.buffers for outcome in message.outcomes]
    if isinstance(message, Answer):
        return [message.outcome.buffers]
    if isinstance(message, Submit):
        return [message.buffers]
    return []


def _buffers(message: Message) -> list[Buffer]:
    return [buffer for buffers in _buffer_lists(message) for buffer in buffers]


def _with_transfers(message: Message, first: int, limit: int) -> Message:
    """A copy of the message with large buffers replaced; the original's stay for a retry."""
    numbers = iter(range(first, first + len(_buffers(message))))

    def stand_in(item: Task | Outcome | Submit) -> Any:
        buffers: list[Any] = [
            Transfer(next(numbers), len(b)) if len(b) > limit else b for b in item.buffers
        ]
        return replace(item, buffers=buffers)

    if isinstance(message, Tasks):
        return Tasks([stand_in(task) for task in message.tasks])
    if isinstance(message, Outcomes):
        stood_in = [stand_in(outcome) for outcome in message.outcomes]
        return Outcomes(stood_in, message.notes, message.figures)
    if isinstance(message, Answer):
        return Answer(stand_in(message.outcome))
    assert isinstance(message, Submit)
    copy: Submit = stand_in(message)
    return copy
