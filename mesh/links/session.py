"""The session between two incarnations, seen from one end. Pure.

A session outlives its connections, which may break at any byte. Its parts each have one writer: the
`Session` holds who the peer is, how it is connected and how it leaves; its `ReliableStream` carries
the messages, acks and credit; its `VitalSigns` show whether the peer runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field

from mesh.links.stream import ReliableStream
from mesh.links.vital_signs import VitalSigns
from mesh.protocol.chunking import Source, Unfinished
from mesh.protocol.fields import Frame
from mesh.protocol.incarnations import shown
from mesh.protocol.messages import Hello, Message, Role, StageFacts, Type

_NEVER = float("inf")


@dataclass(slots=True, eq=False, repr=False)
class Session:
    """State of one pair of incarnations, seen from one end.

    Args:
        me: incarnation of this process.
        peer: incarnation of the other.
        role: the peer's role.
        limit: bytes of large buffers that the peer may have under way to us.
        nonce: of the HELLO that began it. The same nonce resumes it, another one begins anew.
        now: local monotonic time in seconds.
        unfinished: the limit that all sessions share for large buffers that are incomplete.
        payer: whose share of it they count for; the peer's own where it is 0.
        may_say: the message types that the peer may send us.

    Attributes:
        stream: the messages in both directions.
        vitals: whether the peer runs, and how busy it is.
        link: the connection that carries the session now, None while there is none.
        since: when that connection was made; when the last one ended if there is none.
        stage: the stage that the peer runs, if it is a replica.
        feed: the address where the peer takes consumers of its outputs, or "".
        source: where the peer comes from, as far as that is proven: key and address, or "".
        host: name of the peer's host, for people.
        pid: the peer's process id there.
        parent: incarnation of the supervisor that will report the peer's death, 0 without one.
        owners: the gateways that the peer says it reaches, and the replicas that feed it.
        may_owe: whether a consumer may have outputs for us.
        draining: nothing new is to be sent to the peer.
        owes_drain: the peer waits for our DRAIN, which is sent after all that was posted.
        last: the last sequence number that the peer will send, None while it has not said so.
        parting: until when our BYE may remain unanswered.
    """

    me: InitVar[int]
    peer: int
    role: Role
    limit: InitVar[int]
    nonce: int = 0
    now: InitVar[float] = 0.0
    unfinished: InitVar[Unfinished | None] = None
    payer: InitVar[Source] = 0
    may_say: frozenset[Type] = frozenset()
    stream: ReliableStream = field(init=False)
    vitals: VitalSigns = field(default_factory=VitalSigns, init=False)
    link: int | None = field(default=None, init=False)
    since: float = field(init=False)
    stage: StageFacts | None = field(default=None, init=False)
    feed: str = field(default="", init=False)
    source: str = field(default="", init=False)
    host: str = field(default="", init=False)
    pid: int = field(default=0, init=False)
    parent: int = field(default=0, init=False)
    owners: frozenset[int] = field(default=frozenset(), init=False)
    may_owe: bool = field(default=False, init=False)
    draining: bool = field(default=False, init=False)
    owes_drain: bool = field(default=False, init=False)
    last: int | None = field(default=None, init=False)
    parting: float = field(default=_NEVER, init=False)

    def __post_init__(
        self, me: int, limit: int, now: float, unfinished: Unfinished | None, payer: Source
    ) -> None:
        self.stream = ReliableStream(me, self.peer, limit, now, unfinished, payer)
        self.since = now

    def __repr__(self) -> str:
        """Return what matters when a history is read."""
        where = "down" if self.link is None else f"link {self.link}"
        stream = self.stream
        return (
            f"<Session {self.role.name.lower()} {shown(self.peer)} {where} sent {stream.sequence} "
            f"(unacked {len(stream)}) received {stream.received} "
            f"credit {stream.granted.free_tasks}>"
        )

    # --- who the peer is -------------------------------------------------------------------------

    def introduce(self, hello: Hello, source: str) -> None:
        """Take what the peer's HELLO says of it."""
        self.source, self.owners = source, frozenset(hello.owners)
        self.stage, self.feed = hello.stage, hello.feed
        self.host, self.pid, self.parent = hello.host, hello.pid, hello.parent

    def reaches(self, owners: Sequence[int]) -> None:
        """The peer says anew which gateways and feeding replicas it reaches."""
        self.owners = frozenset(owners)

    def watch_port(self, address: str) -> None:
        """Probe this address when the connection ends: the peer listens there while it lives."""
        self.feed = address
        self.vitals.listens = bool(address)

    def expect_outputs(self, *, expected: bool) -> None:
        """Say whether the peer may hold tasks whose outputs come to us, which the core knows."""
        self.may_owe = expected

    def is_parent_of(self, parent: int) -> bool:
        """Whether the peer is the supervisor that a process named as its own in HELLO.

        Args:
            parent: the supervisor's incarnation, which only its processes and gateways know.
        """
        if self.role is not Role.SUPERVISOR or not parent:
            return False
        return parent == self.peer

    @property
    def owes_payload(self) -> bool:
        """Whether the peer may send slices: a producer has credit left, a consumer may owe."""
        if Type.TASKS in self.may_say:
            return self.stream.allowed.free_tasks > 0
        return self.may_owe

    # --- connections -----------------------------------------------------------------------------

    def attach(
        self, link: int, received: int, now: float
    ) -> tuple[Sequence[Message], list[list[Frame]]]:
        """A connection carries the session; send again what the peer has not received.

        Args:
            link: the connection.
            received: the last sequence number that the peer has received.
            now: local monotonic time in seconds.

        Returns:
            The messages of ours that this acks for the first time; and the multiparts to send, in
            order.
        """
        self.link, self.since = link, now
        self.owes_drain = self.draining  # it may have been lost with the last connection
        return self.stream.resend(received, now)

    def detach(self, now: float) -> None:
        """The connection ended; the session waits for the next one."""
        self.link, self.since = None, now

    def end(self) -> None:
        """The session is over; what it holds unacked stays."""
        self.link = None
        self.stream.give_up_slices()

    # --- farewells -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Send nothing new, and tell the peer when all that was posted has been sent."""
        self.draining = self.owes_drain = True

    def take_drain(self) -> bool:
        """Whether DRAIN must be sent now: it is owed, and all that was posted has its number."""
        is_due = self.owes_drain and not self.stream.is_queued
        self.owes_drain = self.owes_drain and not is_due
        return is_due

    def drained(self, last: int) -> None:
        """The peer said DRAIN: it sends nothing new after this sequence number."""
        self.last = last
        if not self.draining:
            self.drain()

    @property
    def is_drained(self) -> bool:
        """Whether the peer sends nothing new, and all that it sent was received."""
        return self.last is not None and self.stream.received >= self.last

    def part(self, until: float) -> None:
        """We said BYE, which may remain unanswered until then."""
        self.parting = until

    @property
    def is_parting(self) -> bool:
        """Whether we said BYE."""
        return self.parting < _NEVER
