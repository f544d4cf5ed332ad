"""The types that cross a socket, complete. `mesh/protocol/wire.py` turns them into frames and back.
Pure.

Longer than other modules on purpose: a reader of the protocol finds all of it on one page.

A link carries two kinds of message. *Reliable* ones (`RELIABLE`) are numbered, kept by the sender
until the ack covers them, and retransmitted after a reconnect. The rest may be lost: each says
something that a later message says again.

Every message travels under a `Header`, which also carries the ack and the credit of its
sender, so that whatever goes anyway renews both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

Buffer = bytes | bytearray | memoryview

# A hop: the stage's name and the revision of its pipeline.
Hop = tuple[str, str]
Hops = tuple[Hop, ...]
# Why a batch was closed, one of each in `BatchStats.reason`. Who hears another expels its speaker:
# a new one needs a new version of the protocol.
REASONS: Final = frozenset({"size", "bytes", "wait", "deadline", "idle", "drain"})
MOST_SINGLES: Final = (
    64  # tasks that a replica of batches of 1 runs one by one, and tells of as one
)
# A request's identity in the whole mesh: its owner's incarnation and the owner's counter.
RequestId = tuple[int, int]


class Role(IntEnum):
    """What a process is in the mesh."""

    GATEWAY = 0
    REPLICA = 1
    SUPERVISOR = 2
    CLIENT = 3


class Type(IntEnum):
    """The message types, as the fixed header names them."""

    HELLO = 1
    WELCOME = 2
    TASKS = 3
    PART = 4
    CREDIT = 5
    OUTCOMES = 6
    DEATH = 7
    SUBMIT = 8
    ANSWER = 9
    CANCEL = 10
    PEERS = 11
    PING = 12
    DRAIN = 13
    BYE = 14
    WHO = 15
    ERR = 16


class Flag(IntEnum):
    """Bits of `Task.flags`."""

    SOLO = 1  # a suspect of having killed a replica: run it with its group only, or alone
    HEDGE = 2  # a second attempt, while the first stays valid
    STREAM = 4  # the client wants events
    ONCE = 8  # already begun at a stage that must not run twice


class OutcomeKind(IntEnum):
    """What an `Outcome` says of its task."""

    RESULT = 0  # done: the buffers are the answer's body
    FAILURE = 1  # failed: `label` is the error code, `text` the message
    UNSTARTED = 2  # given back, never begun; no attempt is used up
    EVENT = 3  # one event of a stream, `index` counts from 0
    HANDBACK = 4  # an output for the next stage, which the owner must dispatch (the hub)


class Header(NamedTuple):
    """The fixed part of every message.

    Attributes:
        type: what follows.
        sender: the sender's incarnation.
        receiver: the incarnation that is meant, 0 when it is not known yet.
        sequence: number of a reliable message on this pair of incarnations, from 1; else 0.
        ack: the highest sequence number that the sender has received, cumulative.
        tasks: how many tasks the sender has granted since the pair met (absolute).
        bytes: how many payload bytes it has granted since the pair met (absolute).
        age: milliseconds between the message's encoding and this sending of it.
    """

    type: Type
    sender: int
    receiver: int
    sequence: int = 0
    ack: int = 0
    tasks: int = 0
    bytes: int = 0
    age: int = 0


@dataclass(slots=True)
class Meta:
    """What a worker may want to know of the HTTP request; carried only where it asked for it."""

    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]


@dataclass(slots=True, eq=False)
class Task:
    """A request on its way to, or in, one stage.

    Attributes:
        owner: incarnation of the gateway that owns the request.
        number: the owner's counter; with `owner` the request's identity.
        hops: the hops still to visit, the first of them being the stage it goes to now.
        hop: how many stages lie behind it.
        attempt: how many times it was begun from the first stage, from 1.
        deadline: local monotonic time in seconds; on the wire the budget left in milliseconds.
        buffers: the payload: the HTTP body before the first stage, later what the stage before
            serialized. A memoryview among them is flat bytes (format "B").
        nbytes: length of all buffers together; every queue on the way asks for it.
        flags: bits of `Flag`.
        priority: 0 is normal, 1 high.
        trace: the client's ``traceparent``, if it sent one.
        timings: microseconds per stage behind it, flat: queue, compute, queue, compute, ...
        meta: the HTTP request's particulars, where a worker asked for them.
        request_id: the ``X-Request-ID`` that the client chose, None where it chose none.
        tried: incarnations that it is not given to while another is free. Not on the wire.
        source: the incarnation that it came from, in the process that holds it. Not on the wire.
        group: of suspects, the owner's number of those that it may run with; 0: with none.
    """

    owner: int
    number: int
    hops: Hops
    hop: int
    attempt: int
    deadline: float
    buffers: list[Buffer]
    nbytes: int
    flags: int = 0
    priority: int = 0
    trace: str | None = None
    timings: tuple[int, ...] = ()
    meta: Meta | None = None
    request_id: str | None = None
    tried: tuple[int, ...] = ()
    source: int = 0
    group: int = 0

    @property
    def id(self) -> RequestId:
        """The request's identity in the whole mesh."""
        return (self.owner, self.number)


@dataclass(slots=True, eq=False)
class Outcome:
    """The result or failure of one task, or one of the lesser things that `OutcomeKind` lists.

    Attributes:
        number: the request, at the owner to whom this is sent.
        attempt: the attempt that it belongs to.
        kind: see `OutcomeKind`.
        hop: index in the route of the stage that made it; for `HANDBACK`, of the one it is for.
        timings: as in `Task`, including the stage that made it.
        buffers: the body, the event's text, or the output that is handed back.
        label: the content type of a result, the error code of a failure.
        text: the message of a failure.
        status: HTTP status that the worker chose for a result, 0 for the usual.
        headers: further HTTP headers that the worker set.
        index: which event of the stream.
    """

    number: int
    attempt: int
    kind: OutcomeKind
    hop: int = 0
    timings: tuple[int, ...] = ()
    buffers: list[Buffer] = field(default_factory=list)
    label: str = ""
    text: str = ""
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    index: int = 0


class HandoffNotice(NamedTuple):
    """A task of yours is now held there. Notes of one request only ever move it forward."""

    number: int
    attempt: int
    hop: int
    holder: int


class BatchStats(NamedTuple):
    """What one batch was like; rides home once, to one gateway.

    Attributes:
        stage: the stage's name.
        size: how many tasks the batch ran.
        wait: microseconds from the first task's arrival until the batch started.
        compute: microseconds that the batch took, decoding and encoding included.
        reason: why the batch was closed, one of `REASONS`.
        expired: tasks dropped since the last statistics because their deadline had passed.
        cancelled: tasks dropped since the last statistics because they were cancelled.
        nbytes: payload bytes of all that the batch made.
        gather: microseconds of `wait` in which the replica was free, and gathered on purpose.
    """

    stage: str
    size: int
    wait: int
    compute: int
    reason: str
    expired: int = 0
    cancelled: int = 0
    nbytes: int = 0
    gather: int = 0


class Peer(NamedTuple):
    """A process to dial."""

    address: str
    incarnation: int
    role: Role
    stage: str
    revision: str


class StageFacts(NamedTuple):
    """What a replica tells of its stage in HELLO; the gateway plans by it.

    Attributes:
        name: the stage.
        revision: of the pipeline that the replica belongs to.
        batch: `max_batch_size`.
        timeout: seconds that one forward may take.
        pool: payload bytes that the replica will hold at once.
        repeatable: False where a task must never run twice.
        wants_meta: the worker asked for method, query and headers of the HTTP request.
        content_type: content type of the results, if this is a route's last stage.
        schema: JSON schemas of input and output as a JSON text, or "".
        version: the user's word for the revision; a later one takes the routes over.
        routes: a short name of all routes; a version with other ones never takes over.
    """

    name: str
    revision: str
    batch: int
    timeout: float
    pool: int
    repeatable: bool = True
    wants_meta: bool = False
    content_type: str = "application/json"
    schema: str = ""
    version: str = ""
    routes: str = ""


@dataclass(slots=True)
class Hello:
    """The consumer's first words on a connection, also when it resumes a session.

    Attributes:
        role: what the dialling process is.
        nonce: names the session: the same one resumes it, another one begins anew.
        mesh: name of the mesh; another one is refused.
        versions: protocol versions that the sender speaks.
        known: the incarnation that this address answered with last time, 0 if none.
        received: the last sequence number received from `known`.
        feed: the address where consumers of this process's outputs dial it, or "".
        stage: for a replica what it runs.
        host: name of the host, for people.
        pid: process id there, for people and for the supervisor's death notice.
        owners: incarnations of the gateways that it can reach, and of the replicas that feed it.
        parent: process id of the supervisor there that will tell of its death, 0 without one.
    """

    role: Role
    nonce: int
    mesh: str
    versions: tuple[int, ...]
    known: int = 0
    received: int = 0
    feed: str = ""
    stage: StageFacts | None = None
    host: str = ""
    pid: int = 0
    owners: tuple[int, ...] = ()
    parent: int = 0


@dataclass(slots=True)
class Welcome:
    """The producer's answer to HELLO: it knows you, and has received this much from you.

    Attributes:
        nonce: of the HELLO that this answers.
        version: the protocol version to speak.
        role: what the answering process is.
        received: the last sequence number received from the consumer's incarnation.
        resumed: False where nothing of an earlier connection is known here.
        timeout: seconds that a request lives by default; heartbeats follow from it.
    """

    nonce: int
    version: int
    role: Role
    received: int
    resumed: bool
    timeout: float


@dataclass(slots=True)
class Tasks:
    """A bundle of tasks for the consumer of this link. Reliable.

    Attributes:
        tasks: at least one.
        plain: it was read, and every payload in it is one small buffer: none came in slices.
    """

    tasks: list[Task]
    plain: bool = field(default=False, compare=False)


@dataclass(slots=True)
class Part:
    """A slice of a buffer too large for one message. Reliable; a later row names the transfer."""

    transfer: int
    total: int
    offset: int
    slice: Buffer


class Load(NamedTuple):
    """What a consumer has to do, as it tells one of its producers.

    Attributes:
        settled: how many of the producer's tasks it has received in this session and does not hold
            any more.
        others: tasks of all other producers that it holds.
        batch_us: microseconds that its batches lately took; 0 before the first.
    """

    settled: int = 0
    others: int = 0
    batch_us: int = 0


@dataclass(slots=True)
class Credit:
    """Nothing but a header, which has ack and grants, and the load."""

    load: Load | None = field(default=None, compare=False)


@dataclass(slots=True)
class Outcomes:
    """What became of an owner's tasks. Reliable.

    Attributes:
        outcomes, handoff notices, statistics: any number of each.
        plain: as in `Tasks`.
        load: the replica's load; here, in `Credit` and in `Ping` None if an older release sent it.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    notices: list[HandoffNotice] = field(default_factory=list)
    stats: list[BatchStats] = field(default_factory=list)
    plain: bool = field(default=False, compare=False)
    load: Load | None = field(default=None, compare=False)


@dataclass(slots=True)
class Death:
    """A process is dead: the supervisor saw it end. Reliable.

    Attributes:
        incarnation: who died.
        stage: what it ran.
        signal: the signal that ended it, 0 if it exited.
        code: its exit code where `signal` is 0.
        computing: the requests whose batch was being computed.
    """

    incarnation: int
    stage: str
    signal: int
    code: int
    computing: list[RequestId]


@dataclass(slots=True)
class Submit:
    """A request of a native client. Reliable.

    Attributes:
        number: the client's own counter; the answer bears it.
        route: the HTTP path that it stands for.
        budget: milliseconds until its deadline, 0 for the default.
        priority: as in `Task`.
        trace: a ``traceparent``, or None.
        buffers: the body.
    """

    number: int
    route: str
    budget: int
    priority: int
    trace: str | None
    buffers: list[Buffer]


@dataclass(slots=True)
class Answer:
    """The outcome of a native client's request. Reliable."""

    outcome: Outcome


@dataclass(slots=True)
class Cancel:
    """Requests of `owner` whose answers are not wanted any more. Reliable."""

    owner: int
    numbers: list[int]


@dataclass(slots=True)
class Peers:
    """The full, numbered list of addresses to dial; the highest version counts."""

    version: int
    peers: list[Peer]


@dataclass(slots=True)
class Ping:
    """I am turning. Sent when nothing else was.

    Attributes:
        stamp: the sender's clock in microseconds.
        echo: the stamp last received from the peer, 0 if none; with `held` a round trip.
        held: microseconds between receiving that stamp and sending this.
        queued: tasks that the sender holds and has not begun.
        running: milliseconds that its running batch has taken so far, 0 if none runs.
        allowed: milliseconds that the running batch may take.
        owners: the gateways in reach, and the replicas that feed the sender.
        load: the sender's load.
    """

    stamp: int
    echo: int = 0
    held: int = 0
    queued: int = 0
    running: int = 0
    allowed: int = 0
    owners: tuple[int, ...] = ()
    load: Load | None = field(default=None, compare=False)


@dataclass(slots=True)
class Drain:
    """Take nothing new over this link; `last` is the highest sequence number that was sent."""

    last: int


@dataclass(slots=True)
class Bye:
    """The session is over, orderly; answered by BYE."""

    reason: str = ""


@dataclass(slots=True)
class Who:
    """I do not know you: say HELLO."""


@dataclass(slots=True)
class Err:
    """A refusal: of the message that bore `sequence`, or (0) of the whole link."""

    sequence: int
    reason: str


Message = (
    Hello
    | Welcome
    | Tasks
    | Part
    | Credit
    | Outcomes
    | Death
    | Submit
    | Answer
    | Cancel
    | Peers
    | Ping
    | Drain
    | Bye
    | Who
    | Err
)

RELIABLE = frozenset(
    {Type.TASKS, Type.PART, Type.OUTCOMES, Type.DEATH, Type.SUBMIT, Type.ANSWER, Type.CANCEL}
)


def total_bytes(buffers: Sequence[Buffer]) -> int:
    """Length of all buffers together, in bytes.

    Example:
        >>> total_bytes([b"abc", memoryview(b"de")])
        5
    """
    return sum(map(len, buffers))
