"""The messages that one end of a session has posted and the other has not acked yet. Pure.

A reliable message gets the next sequence number of its direction when it is sent, and is kept until
an ack covers it. After a reconnect, all kept messages are retransmitted. Small messages overtake
the slices of large ones; at most `MAX_UNACKED_BYTES` bytes of slices are in transit at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from mesh.errors import ProtocolError
from mesh.protocol.chunking import Chunk, Outgoing, is_large
from mesh.protocol.fields import PART_BYTES
from mesh.protocol.messages import Cancel, Message, Outcomes, Part, Task, Tasks
from mesh.protocol.wire import Encoded, encode

MAX_UNACKED_BYTES = 8 * 1024 * 1024  # bytes of slices under way
UNKNOWN_BYTES = 2**62  # as the length of a message's payloads: it is looked into
_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each message


class SentMessage(NamedTuple):
    """A reliable message that was sent and is not acked yet.

    Attributes:
        sequence: its sequence number.
        encoded: its encoded body, which follows a header.
        at: when it was encoded, local monotonic time in seconds; its time budgets count from then.
        message: the message that was posted; for a slice the slice, and for the last part of a
            large message the whole message.
    """

    sequence: int
    encoded: Encoded
    at: float
    message: Message


class SendBuffer:
    """Reliable messages from `post` until their ack.

    Attributes:
        sequence: the last sequence number that was assigned.
        is_queued: whether anything was posted that `take` has not numbered yet.
        misfits: posted messages that cannot be encoded, with the reason; they have no number.

    Example:
        >>> from mesh.protocol.messages import Cancel
        >>> send_buffer = SendBuffer()
        >>> send_buffer.post(Cancel(7, [1]), 0)
        >>> [kept.sequence for kept in send_buffer.take(0.0)]
        [1]
        >>> send_buffer.ack(1)
        [Cancel(owner=7, numbers=[1])]
    """

    __slots__ = (
        "_bulk",
        "_retained",
        "_small",
        "_transfers",
        "_under_way",
        "is_queued",
        "misfits",
        "sequence",
    )

    def __init__(self) -> None:
        self.is_queued = False
        self.sequence = 0
        self.misfits: list[tuple[Message, str]] = []
        self._small: list[Message] = []
        self._bulk: deque[Outgoing] = deque()
        self._retained: deque[SentMessage] = deque()
        self._under_way = 0
        self._transfers = 0

    def __len__(self) -> int:
        """How many messages were sent and not acked."""
        return len(self._retained)

    def post(self, message: Message, nbytes: int) -> None:
        """Queue a message; `take` numbers it.

        Args:
            message: what to send. Its large buffers go ahead of it in slices.
            nbytes: of all its payloads together.
        """
        self.is_queued = True
        if nbytes > PART_BYTES and is_large(message):
            outgoing = Outgoing(message, self._transfers)
            self._transfers += outgoing.transfers
            self._bulk.append(outgoing)
        else:
            self._small.append(message)

    def withdraw(self, cancel: Cancel) -> list[Task]:
        """Queue a CANCEL, and drop tasks that wait here for it. It overtakes none that it names.

        Returns:
            The tasks that were dropped: the other will not hear of them.
        """
        dropped: list[Task] = []
        left = dict.fromkeys(cancel.numbers)
        for outgoing in list(self._bulk):
            tasks = outgoing.whole.tasks if type(outgoing.whole) is Tasks else []
            named = [task.number for task in tasks if task.number in left]
            for number in named:
                del left[number]
            if named and len(tasks) == 1 and not outgoing.begun:
                self._bulk.remove(outgoing)
                dropped += tasks
            elif named:
                behind = self._bulk.index(outgoing) + 1
                self._bulk.insert(behind, Outgoing(Cancel(cancel.owner, named), self._transfers))
        if left:
            self._small.append(Cancel(cancel.owner, list(left)))
        self.is_queued = bool(self._small or self._bulk)
        return dropped

    def take(self, now: float) -> list[SentMessage]:
        """Number everything that may go now, in the order in which it must be sent."""
        taken: list[SentMessage] = []
        ready: Iterable[tuple[Message, Message]] = zip(self._small, self._small, strict=True)
        if self._bulk:
            ready = chain(ready, self._steps())
        for message, whole in ready:
            try:
                encoded = encode(message, now)
            except ProtocolError as error:
                self.misfits.append((whole, str(error)))
                continue
            self.sequence += 1
            kept = _new_tuple(SentMessage, (self.sequence, encoded, now, whole))
            self._retained.append(kept)
            taken.append(kept)
        self._small.clear()
        self.is_queued = bool(self._bulk)
        return taken

    def _steps(self) -> Iterator[Chunk]:
        """What may go now of large messages: slices count as under way once they are yielded."""
        while self._bulk and self._under_way < MAX_UNACKED_BYTES:
            step = self._bulk[0].step()
            if step is None:
                self._bulk.popleft()
                continue
            if type(step.message) is Part:
                self._under_way += len(step.message.slice)
            yield step

    @property
    def oldest(self) -> float:
        """When the oldest message that is unacked was sent; infinity if there is none."""
        return self._retained[0].at if self._retained else float("inf")

    def retained(self) -> Iterable[SentMessage]:
        """What was sent and not acked, oldest first."""
        return self._retained

    def ack(self, ack: int) -> Sequence[Message]:
        """Forget what the other has received; returns it."""
        retained = self._retained
        if not retained or retained[0][0] > ack:
            return ()
        covered = []
        while retained and retained[0][0] <= ack:
            message = retained.popleft()[3]
            if type(message) is Part:
                self._under_way -= len(message.slice)
            covered.append(message)
        return covered

    def refused(self, sequence: int) -> Message | None:
        """Forget the message that bore this number, and return it; None if it is not kept."""
        for kept in self._retained:
            if kept.sequence == sequence:
                self._retained.remove(kept)
                if type(kept.message) is Part:
                    self._under_way -= len(kept.message.slice)
                return kept.message
        return None

    def is_slicing(self) -> bool:
        """Whether slices wait to be sent, or for their acks."""
        return bool(self._bulk or self._under_way)

    def is_idle(self) -> bool:
        """Nothing queued, nothing unacked: it may be closed without loss."""
        return not (self.is_queued or self._retained)

    def pending(self) -> list[Message]:
        """What was posted and is not acked; large messages whole."""
        left = [kept.message for kept in self._retained if type(kept.message) is not Part]
        left += [outgoing.whole for outgoing in self._bulk if outgoing.left]
        left += self._small
        return left

    def unacked(self) -> list[Message]:
        """What was posted and never acked; large messages whole. Empties itself."""
        left = self.pending()
        self._retained.clear()
        self._bulk.clear()
        self._small.clear()
        self.is_queued = False
        self._under_way = 0
        return left


def singly(message: Message) -> list[Message]:
    """The same as several messages of one row each, so that one row at fault fails alone.

    Example:
        >>> from mesh.protocol.messages import HandoffNotice
        >>> len(singly(Outcomes([], [HandoffNotice(1, 1, 1, 5), HandoffNotice(2, 1, 1, 5)])))
        1
    """
    if type(message) is Tasks:
        return [Tasks([task]) for task in message.tasks]
    if type(message) is Outcomes:
        rows: list[Message] = [Outcomes([outcome]) for outcome in message.outcomes]
        if message.notices or message.stats:
            rows.append(Outcomes([], message.notices, message.stats))
        return rows
    return [message]
