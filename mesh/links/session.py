"""The session between two incarnations: what each end has sent, received and granted. Pure.

A session outlives its connections, which may break at any byte. Every reliable message has the next
sequence number of its direction, and stays in the `SendBuffer` until an ack covers it. On a new
connection, HELLO and WELCOME name the last number received, and later messages are retransmitted.
So a broken link only delays messages. Messages are lost only with an incarnation, and `unacked`
returns them.

Credit is absolute: the counters say how many tasks and bytes the peer has granted since the session
began, and how many of them are consumed. A lost or repeated grant therefore changes nothing. The
header of every message carries ack and grants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass, field

from mesh.errors import ProtocolError
from mesh.links.send_buffer import UNKNOWN_BYTES, SendBuffer, SentMessage, singly
from mesh.protocol.chunking import Incoming, Source, Unfinished
from mesh.protocol.fields import Frame
from mesh.protocol.incarnations import shown
from mesh.protocol.messages import (
    RELIABLE,
    Cancel,
    Header,
    Message,
    Outcomes,
    Part,
    Role,
    StageFacts,
    Task,
    Tasks,
    Type,
)
from mesh.protocol.wire import encode, seal

ACK_DELAY_S = 0.050  # seconds that an ack or grant may wait for something to ride on
ACK_AFTER_MESSAGES = 64  # unacked messages after which the ack waits no longer
ACK_AFTER_BYTES = (
    2 * 1024 * 1024
)  # the same in bytes: a quarter of what the other may have under way
MAX_REMEMBERED_REFUSALS = 16  # refusals that are remembered in case the other did not hear of them
_NEVER = float("inf")


class Gap(ProtocolError):
    """Messages are missing although a connection keeps order: it must be replaced by a new one."""


@dataclass(slots=True, eq=False, repr=False)
class Session:
    """State of one pair of incarnations, seen from one end.

    Args:
        me: incarnation of this process.
        peer: incarnation of the other.
        role: what the other is.
        limit: bytes of large buffers that the other may have under way to us.
        nonce: of the HELLO that began it. The same nonce resumes it, another one begins anew.
        now: local monotonic time in seconds.
        unfinished: what large buffers that are coming have in common, on all sessions.
        payer: whose share of that they count for; the peer's own where it is 0.

    Attributes:
        link: the connection that carries the pair now, None while there is none.
        stage: what the other runs, if it is a replica.
        feed: where the other takes consumers of its outputs, or "".
        source: where the other comes from, as far as that is proven: key and address, or "".
        answers: whether somebody was found to listen there when it came.
        probe_at: when to look next whether somebody still does, while there is no connection.
        host: name of the other's host, for people.
        pid: its process id there.
        parent: that of the supervisor which will tell of its death, 0 without one.
        owners: gateways that the other says it reaches, and the replicas that feed it.
        since: when the present connection was made; when the last one ended if there is none.
        heard: when the other last said anything.
        said: when anything was last sent to it.
        progress: when the other last acked anything.
        busy_until: until when the other may be computing and say nothing, as it told.
        silent: whether it has been quiet for too long; `Links` makes news of it.
        round_trip: seconds there and back, as last measured; 0 before the first.
        queued: tasks that the other said it holds and has not begun.
        pace: seconds that a batch lately took there, learnt from results; 0 before the first.
        draining: nothing new is to be sent to the other.
        owes_drain: the other waits for our DRAIN, which goes when all that was posted is sent.
        last: the last sequence number that the other will send, None while it has not said so.
        parting: until when our BYE may remain unanswered.
        may_say: the message types that the other may send us.
        may_owe: whether a consumer may have outputs for us; the core sets it, who knows the stages.
        refusals: messages that the other could not read or that cannot be sent, with the reason;
            `Links` makes news of them.
        received: the last sequence number received.
        granted_tasks, granted_bytes: credit that the other gave us.
        spent_tasks, spent_bytes: what we spent of it.
        paused: what it had granted when it last gave tasks back: it takes no more until it grants
            more. 0 if that is long ago.
        allowed_tasks, allowed_bytes: credit that we gave the other.
        taken_tasks, taken_bytes: what it took of it.
        owes_at: when ack or credit must go at the latest, over whatever connection there is then;
            infinity if nothing is owed.
        send_buffer: what was posted to the other; others only look into it.
    """

    me: int
    peer: int
    role: Role
    limit: InitVar[int]
    nonce: int = 0
    now: InitVar[float] = 0.0
    unfinished: InitVar[Unfinished | None] = None
    payer: InitVar[Source] = 0
    link: int | None = field(default=None, init=False)
    stage: StageFacts | None = field(default=None, init=False)
    feed: str = field(default="", init=False)
    source: str = field(default="", init=False)
    answers: bool = field(default=False, init=False)
    probe_at: float = field(default=0.0, init=False)
    host: str = field(default="", init=False)
    pid: int = field(default=0, init=False)
    parent: int = field(default=0, init=False)
    owners: frozenset[int] = field(default=frozenset(), init=False)
    since: float = field(init=False)
    heard: float = field(init=False)
    said: float = field(init=False)
    progress: float = field(init=False)
    busy_until: float = field(default=0.0, init=False)
    silent: bool = field(default=False, init=False)
    round_trip: float = field(default=0.0, init=False)
    queued: int = field(default=0, init=False)
    pace: float = field(default=0.0, init=False)
    draining: bool = field(default=False, init=False)
    owes_drain: bool = field(default=False, init=False)
    last: int | None = field(default=None, init=False)
    parting: float = field(default=_NEVER, init=False)
    may_say: frozenset[Type] = field(default=frozenset(), init=False)
    may_owe: bool = field(default=False, init=False)
    refusals: list[tuple[Message, str]] = field(default_factory=list, init=False)
    received: int = field(default=0, init=False)
    granted_tasks: int = field(default=0, init=False)
    granted_bytes: int = field(default=0, init=False)
    spent_tasks: int = field(default=0, init=False)
    spent_bytes: int = field(default=0, init=False)
    credit_paused: int = field(default=0, init=False)
    allowed_tasks: int = field(default=0, init=False)
    allowed_bytes: int = field(default=0, init=False)
    taken_tasks: int = field(default=0, init=False)
    taken_bytes: int = field(default=0, init=False)
    owes_at: float = field(default=_NEVER, init=False)
    send_buffer: SendBuffer = field(default_factory=SendBuffer, init=False)
    _incoming: Incoming = field(init=False)
    _refused: dict[int, str] = field(default_factory=dict, init=False)
    _told_tasks: int = field(default=0, init=False)
    _told_bytes: int = field(default=0, init=False)
    _unacked_in: int = field(default=0, init=False)

    def __post_init__(
        self, limit: int, now: float, unfinished: Unfinished | None, payer: Source
    ) -> None:
        """Nothing was said yet, but it has just begun."""
        self._incoming = Incoming(limit, unfinished, payer or self.peer)
        self.since = self.heard = self.said = self.progress = now

    def __repr__(self) -> str:
        """What matters when a history is read."""
        where = "down" if self.link is None else f"link {self.link}"
        return (
            f"<Session {self.role.name.lower()} {shown(self.peer)} {where} sent {self.sequence} "
            f"(unreceipted {len(self.send_buffer)}) received {self.received} "
            f"credit {self.free_tasks}>"
        )

    # --- connections ---------------------------------------------------------------------------

    def attach(
        self, link: int, received: int, now: float
    ) -> tuple[Sequence[Message], list[list[Frame]]]:
        """A connection carries the pair; send again what the other has not received.

        Args:
            link: the connection.
            received: the last sequence number that the other has received.
            now: local monotonic time in seconds.

        Returns:
            The messages of ours that are covered by that for the first time; and the multiparts
            to send, in order.
        """
        self.link = link
        self.since = self.heard = self.progress = now
        covered = self.send_buffer.ack(received)
        return covered, self._frames(self.send_buffer.retained(), now)

    def detach(self, now: float) -> None:
        """The connection ended; the pair waits for the next one."""
        self.link = None
        self.since = now

    @property
    def resumes_after(self) -> int:
        """The number that HELLO and WELCOME name as received.

        Of a message that was refused the other must hear, and the ERR may have been lost with
        the connection. Where it was not, the other keeps nothing that it would send again.
        """
        return min(self._refused) - 1 if self._refused else self.received

    # --- sending -------------------------------------------------------------------------------

    @property
    def sequence(self) -> int:
        """The last sequence number that was sent."""
        return self.send_buffer.sequence

    def post(self, message: Message, nbytes: int = UNKNOWN_BYTES) -> None:
        """Queue a reliable message; `flush` sends it. `nbytes` is the length of its payloads."""
        self.send_buffer.post(message, nbytes)

    def post_tasks(self, tasks: list[Task], nbytes: int) -> None:
        """Queue a bundle, and spend the credit that there is for it."""
        self.spent_tasks += len(tasks)
        self.spent_bytes += nbytes
        self.send_buffer.post(Tasks(tasks), nbytes)

    def post_cancel(self, cancel: Cancel) -> None:
        """Queue a CANCEL; what it names and is not on its way yet does not set out."""
        dropped = self.send_buffer.withdraw(cancel)
        self.spent_tasks -= len(dropped)
        self.spent_bytes -= sum([task.nbytes for task in dropped])

    @property
    def free_tasks(self) -> int:
        """Credit that is left: tasks that may be sent now."""
        return self.granted_tasks - self.spent_tasks

    @property
    def free_bytes(self) -> int:
        """Credit that is left: payload bytes that may be sent now."""
        return self.granted_bytes - self.spent_bytes

    def say(self, message: Message, now: float) -> list[Frame]:
        """The frames of an unreliable message, to be sent at once."""
        (frames,) = self._frames([SentMessage(0, encode(message, now), now, message)], now)
        return frames

    def flush(self, now: float) -> list[list[Frame]]:
        """Everything that may go now, small messages before slices of large ones.

        Returns them as multiparts, in order; none while there is no connection.
        """
        send_buffer = self.send_buffer
        if self.link is None or not send_buffer.is_queued:
            return []
        taken = send_buffer.take(now)
        while send_buffer.misfits:
            misfits, send_buffer.misfits = send_buffer.misfits, []
            for message, reason in misfits:
                self._give_up(message, reason)
            taken += send_buffer.take(now)
        return self._frames(taken, now)

    def _frames(self, messages: Iterable[SentMessage], now: float) -> list[list[Frame]]:
        """Put today's headers on: whatever goes tells the other all that it is owed."""
        me, peer, received = self.me, self.peer, self.received
        tasks, nbytes = self.allowed_tasks, self.allowed_bytes
        sent = []
        for sequence, encoded, at, _ in messages:
            age = int((now - at) * 1000)
            header = (encoded[0], me, peer, sequence, received, tasks, nbytes, age)
            sent.append(seal(header, encoded))
        if sent:
            self._told_tasks, self._told_bytes = tasks, nbytes
            self._unacked_in = 0
            self.owes_at = _NEVER
            self.said = now
        return sent

    @property
    def quiet_since(self) -> float:
        """When the other last showed that it takes in what is sent, or has nothing to take in."""
        return min(self.heard, max(self.send_buffer.oldest, self.progress))

    # --- what cannot be sent or read -------------------------------------------------------------

    def told_off(self, sequence: int, reason: str) -> None:
        """The other could not read the message that bore this number."""
        message = self.send_buffer.refused(sequence)
        if message is not None and type(message) is not Part:
            self._give_up(message, reason)

    def _give_up(self, message: Message, reason: str) -> None:
        """Send the rows of a bundle singly, so that only the one at fault is refused."""
        if type(message) is Tasks:
            self.spent_tasks -= len(message.tasks)
            self.spent_bytes -= sum(task.nbytes for task in message.tasks)
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
        """A message of the other's could not be read: count it as received, say so by ERR.

        Returns:
            False if messages before it are missing.
        """
        if sequence > self.received + 1:
            return False
        self.received = max(self.received, sequence)
        self._refused[sequence] = reason
        if len(self._refused) > MAX_REMEMBERED_REFUSALS:
            del self._refused[min(self._refused)]
        return True

    # --- receiving -----------------------------------------------------------------------------

    def accept(
        self, header: Header, message: Message, now: float
    ) -> tuple[Sequence[Message], bool]:
        """Take a message of the other.

        Slices are put together, and named ones put in their place in `message`.

        Returns:
            The messages of ours that its ack covers for the first time; and whether the
            message is news: it is not if it was received before or is a slice.

        Raises:
            Gap: messages before this one are missing.
            ProtocolError: it breaks a limit or a rule.
        """
        fresh, sequence = True, header.sequence
        if header.type in RELIABLE:
            if sequence != self.received + 1:
                self._look_at_repeated(sequence)
                fresh = False
            else:
                if type(message) is Part:
                    self._add_slice(message, now)
                    fresh = False
                elif not ((type(message) is Outcomes or type(message) is Tasks) and message.plain):
                    self._incoming.claim(message)
                self.received = sequence
                self._unacked_in += 1
                if type(message) is Tasks:
                    tasks = message.tasks
                    self.taken_tasks += len(tasks)
                    self.taken_bytes += (
                        tasks[0].nbytes if len(tasks) == 1 else sum([task.nbytes for task in tasks])
                    )
                if self.owes_at == _NEVER:
                    self.owes_at = now + ACK_DELAY_S
                if (
                    self._unacked_in >= ACK_AFTER_MESSAGES
                    or self.allowed_tasks > self._told_tasks
                    or self.allowed_bytes > self._told_bytes
                ):
                    self._hurry(now)
        self.heard = now
        if header.tasks > self.granted_tasks or header.bytes > self.granted_bytes:
            self.granted_tasks = max(self.granted_tasks, header.tasks)
            self.granted_bytes = max(self.granted_bytes, header.bytes)
        covered = self.send_buffer.ack(header.ack)
        if covered:
            self.progress = now
        return covered, fresh

    def _look_at_repeated(self, sequence: int) -> None:
        """A reliable message came that is not the next: raise where it is no mere repeat."""
        if sequence in self._refused:
            raise ProtocolError(self._refused[sequence])
        if sequence > self.received:
            raise Gap(f"message {sequence} came where {self.received + 1} is next")

    def _add_slice(self, part: Part, now: float) -> None:
        self._incoming.add(part, now)
        self._unacked_in += ACK_AFTER_MESSAGES * len(part.slice) // ACK_AFTER_BYTES

    @property
    def owes_payload(self) -> bool:
        """Whether the other may send slices: a producer has credit left, a consumer may owe."""
        if Type.TASKS in self.may_say:
            return self.allowed_tasks > self.taken_tasks
        return self.may_owe

    def is_parent_of(self, parent: int) -> bool:
        """Whether the other is the supervisor that started a process which says so in HELLO.

        Args:
            parent: the number that its supervisor gave it: the supervisor's incarnation, which
                nobody but gateways is told.
        """
        if self.role is not Role.SUPERVISOR or not parent:
            return False
        return parent == self.peer

    # --- credit and acks that nothing carries ------------------------------------------------

    def allow(self, tasks: int, nbytes: int, now: float) -> None:
        """Grant up to these absolute counters; a grant is never taken back."""
        if tasks > self.allowed_tasks or nbytes > self.allowed_bytes:
            self.allowed_tasks = max(self.allowed_tasks, tasks)
            self.allowed_bytes = max(self.allowed_bytes, nbytes)
            self.owes_at = min(self.owes_at, now + ACK_DELAY_S)
            self._hurry(now)

    def _hurry(self, now: float) -> None:
        """Owe at once if many wait for an ack, or the other has less than half of its credit left.

        That remains so until anything is sent to the other.
        """
        tasks, nbytes = self.taken_tasks, self.taken_bytes
        told_tasks, told_bytes = self._told_tasks, self._told_bytes
        if (
            self._unacked_in >= ACK_AFTER_MESSAGES
            or told_tasks < self.allowed_tasks >= 2 * told_tasks - tasks
            or told_bytes < self.allowed_bytes > 2 * told_bytes - nbytes
        ):
            self.owes_at = min(self.owes_at, now)

    # --- the end -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Nothing new is to be sent to the other, and it is to be told when all has been sent."""
        self.draining = self.owes_drain = True

    @property
    def may_say_drain(self) -> bool:
        """Whether DRAIN is owed and all that was posted has its number."""
        return self.owes_drain and not self.send_buffer.is_queued

    @property
    def is_parting(self) -> bool:
        """Whether we said BYE."""
        return self.parting < _NEVER

    @property
    def is_drained(self) -> bool:
        """The other sends nothing new, and all that it sent has come."""
        return self.last is not None and self.received >= self.last

    @property
    def arrived(self) -> int:
        """Bytes that have come of buffers which are not whole, or not named yet."""
        return self._incoming.arrived

    def give_up_slices(self, begun_before: float = _NEVER) -> None:
        """Let go of large buffers that are not whole, or not named yet, and began before then."""
        self._incoming.give_up(begun_before)

    def is_slicing(self) -> bool:
        """Whether something large is under way, in either direction."""
        return bool(self._incoming.held) or self.send_buffer.is_slicing()

    def is_idle(self) -> bool:
        """Nothing queued, nothing unacked: it may be closed without loss."""
        return self.send_buffer.is_idle()

    def pending(self) -> list[Message]:
        """What was posted and is not acked; large messages whole."""
        return self.send_buffer.pending()

    def unacked(self) -> list[Message]:
        """What was posted and never acked; large messages whole. Empties itself."""
        return self.send_buffer.unacked()
