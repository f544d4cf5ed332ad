"""Instructions from the links to the network, and events from the links to a core. Pure.

The shell carries out the instructions. The core of the gateway or of the replica receives the news
and the deliveries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mesh.links.session import Session
from mesh.protocol.fields import Frame
from mesh.protocol.messages import Message, Role, StageFacts


class Send(NamedTuple):
    """Send these frames as one multipart message. If the network refuses them, the link is lost."""

    link: int
    frames: list[Frame]


class Dial(NamedTuple):
    """Open a socket to this address; its link has this number."""

    link: int
    address: str


class HangUp(NamedTuple):
    """Close a link, and discard what is queued on it."""

    link: int


class ProbePort(NamedTuple):
    """Find out whether a process listens at this address; the answer names this peer."""

    peer: int
    address: str


Instruction = Send | Dial | HangUp | ProbePort


class SessionStarted(NamedTuple):
    """A session began, or (`resumed`) has a connection again."""

    session: Session
    resumed: bool


class SessionLost(NamedTuple):
    """A session ended: the peer died, left or has forgotten us. No further message of it comes.

    Attributes:
        session: the session, which keeps its unacked messages.
        reason: why, for the log.
        orderly: whether the peer said BYE.
    """

    session: Session
    reason: str
    orderly: bool = False


class MessageRefused(NamedTuple):
    """The peer could not read this message of ours, or it could not be encoded."""

    session: Session
    message: Message
    reason: str


class SessionSilent(NamedTuple):
    """The link is up, but the peer has sent nothing, or acked nothing, for too long.

    This is not a death: the peer's event loop is stuck, or the network drops what is sent.
    """

    session: Session


class MessageReceived(NamedTuple):
    """A silent peer was heard again."""

    session: Session


News = SessionStarted | SessionLost | MessageRefused | SessionSilent | MessageReceived


class Stranger(NamedTuple):
    """A process that said HELLO and has no session. It claims all of this; nothing is verified.

    Attributes:
        peer: its incarnation.
        role: its role.
        host: its host name.
        pid: its process id there.
    """

    peer: int
    role: Role
    host: str
    pid: int


class Delivery(NamedTuple):
    """What one multipart message brought.

    Attributes:
        session: the session of its sender.
        covered: messages of ours that it acks for the first time.
        message: the message; None for a duplicate, a slice, and what the links handle themselves.
    """

    session: Session
    covered: Sequence[Message]
    message: Message | None


@dataclass(slots=True)
class Identity:
    """What a process says of itself in HELLO and WELCOME.

    Attributes:
        incarnation: a random number, new for each life of a process.
        role: gateway, replica or supervisor.
        mesh: name of the mesh.
        stage: the stage that it runs, if it is a replica.
        feed: the address where consumers of its outputs dial it, or "".
        host: host name, for logs.
        pid: process id on that host.
        timeout: seconds that a request lives by default; the heartbeat interval follows from it.
        pool: bytes of large buffers that each peer may have in transit to it.
        parent: incarnation of its supervisor, which reports its death; 0 without one.
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
