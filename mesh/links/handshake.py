"""HELLO and WELCOME: their contents, and the reasons to refuse either. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mesh.links.events import Identity
from mesh.links.session import Session
from mesh.protocol.messages import Hello, Role, Welcome
from mesh.protocol.permissions import MOST_FROM_ONE_SOURCE, permitted
from mesh.protocol.wire import VERSION

_LONGEST_REASON: Final = 200


def draw_nonce(chance: float) -> int:
    """Make a nonce, never 0, from a draw from 0 to 1."""
    return int(chance * 2**53) + 1


def hello_of(
    identity: Identity,
    nonce: int,
    known: Session | None,
    owners: tuple[int, ...],
    *,
    confides: bool = True,
) -> Hello:
    """Make the first message of a consumer.

    Args:
        identity: the consumer's identity.
        nonce: the nonce of the session to resume, or a new one.
        known: the session to resume, if there is one.
        owners: incarnations of the reachable gateways and of the replicas that feed this one.
        confides: whether to include our supervisor's number. It is a secret between us and our
            gateways: a process that knows it can report our death.
    """
    return Hello(
        identity.role,
        nonce,
        identity.mesh,
        (VERSION,),
        0 if known is None else known.peer,
        0 if known is None else known.stream.resumes_after,
        identity.feed,
        identity.stage,
        identity.host,
        identity.pid,
        owners,
        identity.parent if confides else 0,
    )


def welcome_of(identity: Identity, session: Session, resumed: bool) -> Welcome:
    """Make the producer's answer to HELLO."""
    received = session.stream.resumes_after
    return Welcome(session.nonce, VERSION, identity.role, received, resumed, identity.timeout)


def welcome_objection(
    identity: Identity, welcome: Welcome, known: Session | None, *, is_gateways: bool
) -> str:
    """Return why the process that answered our HELLO is no producer of ours, or "" if it is one.

    Incarnations are no secret, so another process may claim one. We refuse a feed that claims the
    incarnation of a process with another role. We trust a gateway at an address that our own
    settings name.

    Args:
        identity: the identity of this process, which dialled.
        welcome: the answer.
        known: our session with the incarnation that the answer claims, if there is one.
        is_gateways: whether our own settings list the address as a gateway's.

    Example:
        >>> from mesh.protocol.messages import Role
        >>> me = Identity(7, Role.SUPERVISOR)
        >>> feed = Welcome(1, VERSION, Role.REPLICA, 0, False, 3.0)
        >>> welcome_objection(me, feed, None, is_gateways=True)
        'a replica has nothing to say to a supervisor'
    """
    role = welcome.role
    if welcome.version != VERSION:
        return f"it speaks version {welcome.version}, and was told of {VERSION} alone"
    if not permitted(role, identity.role, dialled=False):
        return f"a {role.name.lower()} has nothing to say to a {identity.role.name.lower()}"
    if role is Role.GATEWAY and not is_gateways:
        return "our settings name no gateway at this address"
    if role is Role.REPLICA and known is not None and known.role is not role:
        return "another process bears this number"
    return ""


def objection(identity: Identity, peer: int, hello: Hello) -> str:
    """Return why this process refuses a HELLO of another mesh or version, or "" if it does not.

    Example:
        >>> from mesh.protocol.messages import Role
        >>> me = Identity(7, Role.GATEWAY, mesh="prod")
        >>> objection(me, 8, Hello(Role.REPLICA, 1, "test", (VERSION,)))
        "this is mesh 'prod', not 'test'"
    """
    if hello.mesh != identity.mesh:
        return f"this is mesh {identity.mesh!r}, not {hello.mesh!r}"
    if VERSION not in hello.versions:
        return f"version {VERSION} is spoken here, not {list(hello.versions)}"
    return "this is yourself" if peer == identity.incarnation else ""


def imposture(session: Session | None, hello: Hello, source: str) -> str:
    """Return why a HELLO may not claim the incarnation of a known process, or "" if it may.

    Incarnations are no secret, so another process could claim one to end its session. The
    supervisor's number is a secret that only the process and its gateways know.

    Args:
        session: the session with that incarnation, None if there is none.
        hello: the message.
        source: where it comes from; "" where that is unknown, or where the session's nonce already
            proves the identity.
    """
    if session is None:
        return ""
    known = session.role, session.stage and session.stage[:2], session.host, session.pid
    said = hello.role, hello.stage and hello.stage[:2], hello.host, hello.pid
    moved = source and session.source and source != session.source
    differs = known != said or session.parent != hello.parent or moved
    return "another process bears this number" if differs else ""


def crowding(source: str, sessions: Iterable[Session]) -> str:
    """Return why one more process from this source is refused, or "" if it is not.

    Args:
        source: where it comes from, "" where that is unknown.
        sessions: all present sessions.

    Example:
        >>> crowding("key@10.0.0.9", [])
        ''
    """
    if not source or sum([s.source == source for s in sessions]) < MOST_FROM_ONE_SOURCE:
        return ""
    return (
        f"{MOST_FROM_ONE_SOURCE} processes are connected with your key from your address, and no "
        "more may be"
    )


def expulsion(pause: float, reason: str) -> str:
    """Make the text that a peer gets when it broke a rule.

    Args:
        pause: seconds for which it is refused.
        reason: the rule that it broke.

    Example:
        >>> expulsion(2.0, "it may not say CANCEL")
        'you are expelled for 2 s: it may not say CANCEL'
    """
    return f"you are expelled for {pause:g} s: {reason}"[:_LONGEST_REASON]
