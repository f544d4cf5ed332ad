"""What a core asks of its shell, and what its links tell it. Pure.

Instructions go down, to the network; news and deliveries come up, to the gateway's or the
replica's core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mesh.links.session import Session
from mesh.protocol.fields import Frame
from mesh.protocol.messages import Message, Role, StageFacts


class Send(NamedTuple):
    """Send these frames as one multipart; if the network refuses, the link is gone."""

    link: int
    frames: list[Frame]


class Dial(NamedTuple):
    """Open a socket to this address; its link bears this number."""

    link: int
    address: str


class HangUp(NamedTuple):
    """Close a link; nothing that is queued on it matters."""

    link: int


class ProbePort(NamedTuple):
    """Find out whether anybody listens at this address; the answer bears the peer's number."""

    peer: int
    address: str


Instruction = Send | Dial | HangUp | ProbePort


class SessionStarted(NamedTuple):
    """A session begins, or (resumed) has a connection again."""

    session: Session
    resumed: bool


class SessionLost(NamedTuple):
    """The pair is over: the other died or has forgotten us. Nothing more will come of it.

    Attributes:
        session: what it was; what it held stays with it.
        reason: for people.
        orderly: the other said goodbye.
    """

    session: Session
    reason: str
    orderly: bool = False


class MessageRefused(NamedTuple):
    """The other could not read this message of ours."""

    session: Session
    message: Message
    reason: str


class SessionSilent(NamedTuple):
    """For long the other has said nothing, or has not acked what waits for it; its link is up.

    No death: it does not turn, or nothing gets through to it.
    """

    session: Session


class MessageReceived(NamedTuple):
    """It is silent no more."""

    session: Session


News = SessionStarted | SessionLost | MessageRefused | SessionSilent | MessageReceived


class Stranger(NamedTuple):
    """Who said HELLO and has no session, by its own word.

    Attributes:
        peer: the incarnation.
        role: what it says it is.
        host: the name of its host.
        pid: its process id there.
    """

    peer: int
    role: Role
    host: str
    pid: int


class Delivery(NamedTuple):
    """What one multipart brought.

    Attributes:
        session: who said it.
        covered: messages of ours that it acks for the first time.
        message: what was said; None if it was received before, is a slice, or is handled here.
    """

    session: Session
    covered: Sequence[Message]
    message: Message | None


@dataclass(slots=True)
class Identity:
    """What a process says of itself.

    Attributes:
        incarnation: a random number that is new with each life of a process.
        role: what it is.
        mesh: name of the mesh.
        stage: what it runs, if it is a replica.
        feed: where consumers of its outputs dial it, or "".
        host: for people.
        pid: process id on that host.
        timeout: seconds that a request lives by default; heartbeats follow from it.
        pool: bytes of large buffers that each other process may have under way to it.
        parent: process id there of the supervisor that sees it end, 0 without one.
    """

    incarnation: int
    role: Role
    mesh: str = "mesh"
    stage: StageFacts | None = None
    feed: str = ""
    host: str = ""
    pid: int = 0
    timeout: float = 3.0
    pool: int = 256 * 1024 * 1024
    parent: int = 0
