"""Large buffers in slices: how they are cut at one end and put together at the other. Pure.

A buffer over `PART_BYTES` does not travel with its task: 256 MB in one multipart would hold up
every heartbeat behind it for seconds. It goes ahead in slices, a few unacked at a time, into
one buffer of the receiver's. So do smaller buffers that are too much together.

What a first slice announces costs nothing: memory is taken as slices come. That is what counts,
together for all sessions of a process. Where it is used up, whoever has most of it gives way to
those who have less; so no peer can keep others out with transfers that it never ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from mesh.errors import ProtocolError
from mesh.protocol.fields import INLINE_BYTES, PART_BYTES, Transfer
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

Source = int | str  # where a peer comes from, or its number where that is unknown

LEAST_CHARGED_BYTES = (
    64 * 1024
)  # what an unfinished transfer counts as, however little of it has come
MAX_CHUNK_BYTES = 3 * PART_BYTES  # bytes of payload in one multipart; 4 MiB is the limit for it all


def is_large(message: Message) -> bool:
    """Whether some of the message's buffers must travel in slices.

    Example:
        >>> is_large(Submit(1, "/inference", 0, 0, None, [b"x", bytes(PART_BYTES + 1)]))
        True
    """
    buffers = _buffers(message)
    return any(len(buffer) > _limit(buffers) for buffer in buffers)


def _limit(buffers: list[Buffer]) -> int:
    """Bytes from which a buffer of these goes ahead."""
    rest = sum(len(b) for b in buffers if len(b) <= PART_BYTES)
    return PART_BYTES if rest <= MAX_CHUNK_BYTES else INLINE_BYTES


class Chunk(NamedTuple):
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

    def step(self) -> Chunk | None:
        """The next slice, in order; then the message that names them; then None."""
        self.begun = True
        return next(self._steps, None)

    def _walk(self) -> Iterator[Chunk]:
        for number, buffer in enumerate(self._large, self._first):
            view = memoryview(buffer)
            for offset in range(0, len(view), PART_BYTES):
                part = Part(number, len(view), offset, view[offset : offset + PART_BYTES])
                yield Chunk(part, part)
        self.left = False
        yield Chunk(self._last, self.whole)


class ReceiveBuffer(Protocol):
    """A buffer that grows as its slices come."""

    @property
    def whole(self) -> bytearray | memoryview:
        """All of it, once the last slice has come."""

    def put(self, offset: int, piece: Buffer) -> None:
        """Take the next slice, which begins at `offset`."""


class GrowingBuffer:
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


class Unfinished:
    """What has come of the unfinished buffers of all sessions of a process, and who gives way.

    Sessions of one *source* have one share: one peer can begin many. Of n sources that want much
    each is sure of an n-th of the limit, whatever the others do.

    Args:
        limit: bytes that may have come of them.
        memory: makes the buffer for so many bytes.

    Attributes:
        nbytes: what has come; each buffer counts as `LEAST_CHARGED_BYTES` at least.

    Example:
        >>> unfinished = Unfinished(4 * LEAST_CHARGED_BYTES)
        >>> greedy, other = Incoming(99, unfinished, "greedy"), Incoming(99, unfinished, "other")
        >>> for number in range(4):
        ...     greedy.add(Part(number, 9, 0, b"x"), now=0.0)
        >>> other.add(Part(0, 9, 0, b"x"), now=1.0)
        >>> greedy.arrived, other.arrived
        (0, 65536)
    """

    __slots__ = ("_holders", "_shares", "limit", "memory", "nbytes")

    def __init__(self, limit: int, memory: Callable[[int], ReceiveBuffer] = GrowingBuffer) -> None:
        self.limit, self.memory = limit, memory
        self.nbytes = 0
        self._shares: dict[Source, int] = {}  # bytes, of those that have any
        self._holders: dict[Incoming, None] = {}  # in order, so that a history repeats itself

    def change(self, incoming: Incoming, more: int) -> None:
        """So many bytes more have come on this session, or fewer are kept."""
        self.nbytes += more
        share = self._shares.pop(incoming.source, 0) + more
        if share:
            self._shares[incoming.source] = share
        if incoming.arrived:
            self._holders[incoming] = None
        else:
            self._holders.pop(incoming, None)

    def find_room(self, incoming: Incoming, more: int) -> bool:
        """Have others give way to `more` bytes, as long as they have more; False if none does."""
        wanted = self._shares.get(incoming.source, 0) + more
        while self.nbytes + more > self.limit:
            most = max(self._shares, key=lambda source: self._shares[source], default=None)
            if most is None or self._shares[most] <= wanted:
                return False
            holders = [one for one in self._holders if one.source == most]
            min(holders, key=lambda one: one.oldest).give_up()
        return True


class _Transfer:
    """One buffer, and how much of it has come."""

    __slots__ = ("begun", "buffer", "filled", "total")

    def __init__(self, total: int, begun: float) -> None:
        self.total = total
        self.begun = begun
        self.filled = 0
        self.buffer: ReceiveBuffer | None = None

    @property
    def charge(self) -> int:
        """Bytes that it counts as."""
        return self.charge_with(0)

    def charge_with(self, more: int) -> int:
        """The same when so many more have come."""
        filled = self.filled + more
        return max(filled, LEAST_CHARGED_BYTES) if filled else 0


class Incoming:
    """Puts slices together.

    Args:
        limit: how many bytes may be under way at once; more is a breach of credit.
        unfinished: what all sessions have in common; without it there is room for everything.
        source: whose share of that it counts for.

    Attributes:
        held: bytes of the buffers that were announced and are not yet claimed.
        arrived: bytes that have come of them; each counts as `LEAST_CHARGED_BYTES` at least.
    """

    def __init__(
        self, limit: int, unfinished: Unfinished | None = None, source: Source = 0
    ) -> None:
        self._limit, self._unfinished = limit, unfinished or Unfinished(1 << 62)
        self.source = source
        self._open: dict[int, _Transfer] = {}
        self._given_up = -1  # the last transfer that was
        self.held = self.arrived = 0

    def add(self, part: Part, now: float = 0.0) -> None:
        """Copy one slice to its place; drop it if its transfer was given up.

        Of that its sender hears when it names the transfer, and not for each slice until then.

        Args:
            part: the slice.
            now: local monotonic time in seconds.

        Raises:
            ProtocolError: it is not the next one of its transfer, or there is no room.
        """
        if part.transfer <= self._given_up:
            return
        known = self._open.get(part.transfer)
        transfer = known or _Transfer(part.total, now)
        if part.offset != transfer.filled or part.total != transfer.total:
            where = f"{part.offset} of {part.total} where {transfer.filled} is next"
            raise ProtocolError(f"a slice at {where}")
        if known is None and self.held + part.total > self._limit:
            raise ProtocolError(f"a transfer of {part.total} bytes is over what was granted")
        if known is None:
            self._open[part.transfer] = transfer
            self.held += part.total
        try:
            self._put(transfer, part)
        except ProtocolError:
            self.give_up()  # the rest belongs to the same message
            raise

    def _put(self, transfer: _Transfer, part: Part) -> None:
        more = transfer.charge_with(len(part.slice)) - transfer.charge
        if not self._unfinished.find_room(self, more):
            raise ProtocolError("unfinished transfers are all that there is memory for")
        try:
            if transfer.buffer is None:
                transfer.buffer = self._unfinished.memory(part.total)
            transfer.buffer.put(part.offset, part.slice)
        except MemoryError:
            text = f"there is no memory for a transfer of {part.total} bytes"
            raise ProtocolError(text) from None
        transfer.filled += len(part.slice)
        self._charge(more)

    def _charge(self, more: int) -> None:
        self.arrived += more
        self._unfinished.change(self, more)

    @property
    def oldest(self) -> float:
        """When the transfer began that has been coming for longest; infinity without any."""
        return next(iter(self._open.values())).begun if self._open else float("inf")

    def give_up(self, begun_before: float = float("inf")) -> None:
        """Keep nothing of the transfers that began before that time, in seconds."""
        while self.oldest < begun_before:
            number = next(iter(self._open))
            self._given_up = max(self._given_up, number)
            self._drop(number)

    def claim(self, message: Message) -> None:
        """Replace every `Transfer` in the message by its buffer.

        Transfers are numbered and named in order. So one that is older than those named here
        belonged to a message that could not be read, and is dropped.

        Args:
            message: what came; not worth the call for a bundle that is `plain`.

        Raises:
            ProtocolError: it names a transfer that is not complete.
        """
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
                raise ProtocolError(f"transfer {transfer.number} {self._lack(transfer.number)}")
            buffers[at] = buffer

    def _lack(self, number: int) -> str:
        if number > self._given_up:
            return "is named but is not complete"
        return "was given up: it came too slowly, or others needed the memory"

    def _take(self, named: Transfer) -> Buffer | None:
        transfer = self._drop(named.number)
        if transfer is None or transfer.buffer is None or transfer.filled != named.total:
            return None
        return transfer.buffer.whole

    def _drop(self, number: int) -> _Transfer | None:
        transfer = self._open.pop(number, None)
        if transfer is not None:
            self.held -= transfer.total
            self._charge(-transfer.charge)
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
        return Outcomes(stood_in, message.notices, message.stats)
    if isinstance(message, Answer):
        return Answer(stand_in(message.outcome))
    assert isinstance(message, Submit)
    copy: Submit = stand_in(message)
    return copy
