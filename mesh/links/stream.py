"""The reliable stream between two incarnations: sequence numbers, acks, slices and credit. Pure.

A reliable message gets the next sequence number of its direction when it is sent, and is kept until
an ack covers it. On a new connection, HELLO and WELCOME name the last number received, and later
messages are retransmitted. So a broken link only delays messages. Messages are lost only with an
incarnation, and `unacked` returns them.

The header of every message carries ack and grants.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Final, NamedTuple

from mesh.errors import ProtocolError
from mesh.links.credit_account import CreditAccount
from mesh.links.large_messages import LargeMessages
from mesh.links.refusals import Refusals, singly
from mesh.protocol.chunking import Incoming, Source, Unfinished, is_large
from mesh.protocol.fields import PART_BYTES, Frame
from mesh.protocol.messages import (
    RELIABLE,
    Cancel,
    Credit,
    Header,
    Message,
    Outcomes,
    Part,
    Ping,
    Task,
    Tasks,
)
from mesh.protocol.wire import Encoded, encode, seal

ACK_DELAY_S: Final = 0.050  # seconds that an ack or grant may wait for a message that carries it
ACK_AFTER_MESSAGES: Final = 64  # unacked messages after which the ack waits no longer
# The same in bytes: a quarter of what the peer may have under way.
ACK_AFTER_BYTES: Final = 2 * 1024 * 1024
UNKNOWN_BYTES: Final = 2**62  # as the length of a message's payloads: it is looked into
_NEVER: Final = float("inf")
_WITH_LOAD: Final = frozenset((Outcomes, Credit, Ping))
_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each message


class Gap(ProtocolError):
    """Messages are missing although a connection keeps order: it must be replaced by a new one."""


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


class ReliableStream:
    """Both directions of one session, seen from one end.

    Args:
        me: incarnation of this process.
        peer: incarnation of the other.
        limit: bytes of large buffers that the peer may have under way to us.
        now: local monotonic time in seconds.
        unfinished: the limit that all sessions share for large buffers that are incomplete.
        payer: whose share of it they count for; the peer's own where it is 0.

    Attributes:
        sequence: the last sequence number that was sent.
        is_queued: whether anything was posted that `flush` has not sent yet.
        refusals: messages that the peer could not read or that cannot be encoded, with the reason.
            `Links` empties it.
        received: the last sequence number received.
        granted: the credit that the peer gave us.
        allowed: the credit that we gave the peer.
        owes_at: when an ack or grant must be sent at the latest; infinity if none is owed.
        heard: when the peer last sent anything.
        said: when anything was last sent to the peer.
        progress: when the peer last acked anything.

    Example:
        >>> stream = ReliableStream(1, 2, 0)
        >>> stream.post(Cancel(7, [1]))
        >>> len(stream.flush(0.0)), stream.sequence, stream.unacked()
        (1, 1, [Cancel(owner=7, numbers=[1])])
    """

    def __init__(
        self,
        me: int,
        peer: int,
        limit: int,
        now: float = 0.0,
        unfinished: Unfinished | None = None,
        payer: Source = 0,
    ) -> None:
        self._me, self._peer = me, peer
        self.sequence = self.received = 0
        self.granted, self.allowed = CreditAccount(), CreditAccount()
        self.heard = self.said = self.progress = now
        self.owes_at = _NEVER
        self.is_queued = False
        self.refusals: list[tuple[Message, str]] = []
        self._small: list[Message] = []
        self._large = LargeMessages()
        self._retained: deque[SentMessage] = deque()
        self._incoming = Incoming(limit, unfinished, payer or peer)
        self._refused = Refusals()
        self._announced_tasks = self._announced_nbytes = 0  # of `allowed`, what the peer knows
        self._unacked_in = 0

    def __len__(self) -> int:
        """How many messages were sent and not acked."""
        return len(self._retained)

    # --- sending -------------------------------------------------------------------------------

    def post(self, message: Message, nbytes: int = UNKNOWN_BYTES) -> None:
        """Queue a reliable message; `flush` sends it. `nbytes` is the length of its payloads."""
        self.is_queued = True
        if nbytes > PART_BYTES and is_large(message):
            self._large.post(message)
        else:
            self._small.append(message)

    def post_tasks(self, tasks: list[Task], nbytes: int) -> None:
        """Queue a bundle of tasks, and use credit for it."""
        self.granted.used_tasks += len(tasks)
        self.granted.used_nbytes += nbytes
        if nbytes > PART_BYTES:
            self.post(Tasks(tasks), nbytes)
        else:
            self._small.append(Tasks(tasks))
            self.is_queued = True

    def post_cancel(self, cancel: Cancel) -> None:
        """Queue a CANCEL. Drop the tasks that it names and that were not sent: the peer never
        hears of them, and their credit comes back."""
        left = dict.fromkeys(cancel.numbers)
        for task in self._large.withdraw(cancel, left):
            self.granted.used_tasks -= 1
            self.granted.used_nbytes -= task.nbytes
        if left:
            self._small.append(Cancel(cancel.owner, list(left)))
        self.is_queued = bool(self._small or self._large.queue)

    def frames_of(self, message: Message, now: float) -> list[Frame]:
        """Return the frames of an unreliable message, to be sent at once."""
        (frames,) = self._frames([SentMessage(0, encode(message, now), now, message)], now)
        return frames

    def flush(self, now: float) -> list[list[Frame]]:
        """Return all that may be sent now as multiparts, small messages before slices."""
        taken: list[SentMessage] = []
        ready: Iterable[tuple[Message, Message]] = zip(self._small, self._small, strict=True)
        if self._large.queue:
            ready = chain(ready, self._large.steps())
        misfits = []
        for message, whole in ready:
            try:
                encoded = encode(message, now)
            except ProtocolError as error:
                misfits.append((whole, str(error)))
                continue
            self.sequence += 1
            kept = _new_tuple(SentMessage, (self.sequence, encoded, now, whole))
            self._retained.append(kept)
            taken.append(kept)
        self._small.clear()
        self.is_queued = bool(self._large.queue)
        sent = self._frames(taken, now)
        if misfits:
            for message, reason in misfits:
                self._give_up(message, reason)
            sent += self.flush(now)
        return sent

    def resend(self, received: int, now: float) -> tuple[Sequence[Message], list[list[Frame]]]:
        """There is a new connection: send again what the peer has not received.

        Args:
            received: the last sequence number that the peer has received.
            now: local monotonic time in seconds.

        Returns:
            The messages of ours that this acks for the first time, and the multiparts to send.
        """
        self.heard = self.progress = now
        return self._acked(received), self._frames(self._retained, now)

    def _frames(self, messages: Iterable[SentMessage], now: float) -> list[list[Frame]]:
        """Add the headers. Each carries the present ack and grants, so nothing is owed then."""
        me, peer, received = self._me, self._peer, self.received
        tasks, nbytes = self.allowed.tasks, self.allowed.nbytes
        sent = []
        for sequence, encoded, at, _ in messages:
            age = int((now - at) * 1000)
            header = (encoded[0], me, peer, sequence, received, tasks, nbytes, age)
            sent.append(seal(header, encoded))
        if sent:
            self._announced_tasks, self._announced_nbytes = tasks, nbytes
            self._unacked_in = 0
            self.owes_at = _NEVER
            self.said = now
        return sent

    def _acked(self, ack: int) -> list[Message]:
        """Forget what the peer has received; returns it."""
        retained, covered = self._retained, []
        while retained and retained[0][0] <= ack:
            message = retained.popleft()[3]
            if type(message) is Part:
                self._large.landed(message)
            covered.append(message)
        return covered

    @property
    def quiet_since(self) -> float:
        """When the peer last showed that it receives what is sent, or has nothing to receive."""
        oldest = self._retained[0].at if self._retained else _NEVER
        return min(self.heard, max(oldest, self.progress))

    # --- what cannot be sent or read -------------------------------------------------------------

    def rejected(self, sequence: int, reason: str) -> None:
        """The peer could not read the message with this number."""
        for kept in self._retained:
            if kept.sequence == sequence:
                self._retained.remove(kept)
                if type(kept.message) is Part:
                    self._large.landed(kept.message)
                else:
                    self._give_up(kept.message, reason)
                return

    def _give_up(self, message: Message, reason: str) -> None:
        """Send the rows of a bundle singly, so that only the row at fault is refused."""
        if type(message) is Tasks:
            self.granted.used_tasks -= len(message.tasks)
            self.granted.used_nbytes -= sum(task.nbytes for task in message.tasks)
        rows = singly(message)
        if len(rows) == 1:
            self.refusals.append((message, reason))
            return
        for row in rows:
            if type(row) is Tasks:
                self.post_tasks(row.tasks, row.tasks[0].nbytes)
            else:
                self.post(row)

    def refuse(self, sequence: int, reason: str) -> bool:
        """Count a message of the peer that cannot be read as received; the caller sends ERR.

        Returns:
            False if messages before it are missing.
        """
        if sequence > self.received + 1:
            return False
        self.received = max(self.received, sequence)
        self._refused.add(sequence, reason)
        return True

    @property
    def resumes_after(self) -> int:
        """The number that HELLO and WELCOME name as received."""
        return self._refused.resumes_after(self.received)

    # --- receiving -----------------------------------------------------------------------------

    def accept(
        self, header: Header, message: Message, now: float
    ) -> tuple[Sequence[Message], bool]:
        """Take a message of the peer, and put slices in their place in it.

        Returns:
            The messages of ours that it acks for the first time; and whether the message is new:
            it is not if it was received before or is a slice.

        Raises:
            Gap: messages before this one are missing.
            ProtocolError: it breaks a limit or a rule.
        """
        fresh = header.type not in RELIABLE or self._count(header.sequence, message, now)
        self.heard = now
        granted = self.granted
        if header.tasks > granted.tasks or header.bytes > granted.nbytes:
            granted.tasks = max(granted.tasks, header.tasks)
            granted.nbytes = max(granted.nbytes, header.bytes)
        if type(message) in _WITH_LOAD:
            granted.learn_load(message.load)  # type: ignore[union-attr]
        retained = self._retained
        if not retained or retained[0][0] > header.ack:
            return (), fresh
        self.progress = now
        return self._acked(header.ack), fresh

    def _count(self, sequence: int, message: Message, now: float) -> bool:
        """Count a reliable message as received; returns whether it is new to the core."""
        if sequence != self.received + 1:
            self._look_at_repeated(sequence)
            return False
        fresh = True
        if type(message) is Part:
            self._add_slice(message, now)
            fresh = False
        elif not ((type(message) is Outcomes or type(message) is Tasks) and message.plain):
            self._incoming.claim(message)
        self.received = sequence
        self._unacked_in += 1
        allowed = self.allowed
        if type(message) is Tasks:
            tasks = message.tasks
            allowed.used_tasks += len(tasks)
            allowed.used_nbytes += (
                tasks[0].nbytes if len(tasks) == 1 else sum([task.nbytes for task in tasks])
            )
        if self.owes_at == _NEVER:
            self.owes_at = now + ACK_DELAY_S
        if (
            self._unacked_in >= ACK_AFTER_MESSAGES
            or allowed.tasks > self._announced_tasks
            or allowed.nbytes > self._announced_nbytes
        ):
            self._hurry(now)
        return fresh

    def _look_at_repeated(self, sequence: int) -> None:
        """A reliable message came that is not the next: raise unless it is a mere repeat."""
        self._refused.repeat(sequence)
        if sequence > self.received:
            raise Gap(f"message {sequence} came where {self.received + 1} is next")

    def _add_slice(self, part: Part, now: float) -> None:
        self._incoming.add(part, now)
        self._unacked_in += ACK_AFTER_MESSAGES * len(part.slice) // ACK_AFTER_BYTES

    def allow(self, tasks: int, nbytes: int, now: float) -> None:
        """Grant up to these absolute counters; a grant is never taken back."""
        allowed = self.allowed
        if tasks > allowed.tasks or nbytes > allowed.nbytes:
            allowed.tasks = max(allowed.tasks, tasks)
            allowed.nbytes = max(allowed.nbytes, nbytes)
            self.owes_at = min(self.owes_at, now + ACK_DELAY_S)
            self._hurry(now)

    def owe(self, now: float) -> None:
        """Owe the peer a message now: something that each message says has changed."""
        self.owes_at = min(self.owes_at, now)

    def _hurry(self, now: float) -> None:
        """Owe at once if many wait for an ack, or the peer has less than half of its credit left.

        That remains so until anything is sent to the peer.
        """
        allowed, announced = self.allowed, self._announced_tasks
        if (
            self._unacked_in >= ACK_AFTER_MESSAGES
            or announced < allowed.tasks >= 2 * announced - allowed.used_tasks
            or self._announced_nbytes
            < allowed.nbytes
            > 2 * self._announced_nbytes - allowed.used_nbytes
        ):
            self.owes_at = min(self.owes_at, now)

    # --- what is left ----------------------------------------------------------------------------

    @property
    def arrived(self) -> int:
        """Bytes received of buffers that are incomplete, or that no message has named yet."""
        return self._incoming.arrived

    def give_up_slices(self, begun_before: float = _NEVER) -> None:
        """Drop large buffers that began before then and are incomplete, or not named yet."""
        self._incoming.give_up(begun_before)

    def is_slicing(self) -> bool:
        """Whether something large is under way, in either direction."""
        return bool(self._incoming.held) or self._large.is_slicing()

    def is_idle(self) -> bool:
        """Nothing queued, nothing unacked: it may be closed without loss."""
        return not (self.is_queued or self._retained)

    def pending(self) -> list[Message]:
        """What was posted and is not acked; large messages whole."""
        left = [kept.message for kept in self._retained if type(kept.message) is not Part]
        return left + self._large.pending() + self._small

    def unacked(self) -> list[Message]:
        """What was posted and never acked; large messages whole. Empties itself."""
        left = self.pending()
        self._retained.clear()
        self._large.clear()
        self._small.clear()
        self.is_queued = False
        return left
