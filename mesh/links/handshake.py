"""HELLO and WELCOME: what is said in them, and why either may be refused. Pure."""

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
    """A nonce, never 0, of a draw from 0 to 1."""
    return int(chance * 2**53) + 1


def hello_of(
    identity: Identity,
    nonce: int,
    known: Session | None,
    owners: tuple[int, ...],
    *,
    confides: bool = True,
) -> Hello:
    """The consumer's first words.

    Args:
        identity: of the consumer.
        nonce: the session's, or a new one.
        known: the session that shall be resumed, if there is one.
        owners: incarnations of the gateways in reach, and of the replicas that feed this one.
        confides: whether to name our supervisor: who knows that number can declare us dead.
    """
    return Hello(
        identity.role,
        nonce,
        identity.mesh,
        (VERSION,),
        0 if known is None else known.peer,
        0 if known is None else known.resumes_after,
        identity.feed,
        identity.stage,
        identity.host,
        identity.pid,
        owners,
        identity.parent if confides else 0,
    )


def welcome_of(identity: Identity, session: Session, resumed: bool) -> Welcome:
    """The producer's answer."""
    return Welcome(
        session.nonce, VERSION, identity.role, session.resumes_after, resumed, identity.timeout
    )


def welcome_objection(
    identity: Identity, welcome: Welcome, known: Session | None, *, is_gateways: bool
) -> str:
    """Why whoever answers our HELLO is no producer of ours; "" if it is one.

    Numbers are no secret: a feed does not bear that of another kind of process. A gateway, where
    our settings name one, is believed its number in any case.

    Args:
        identity: of this process, which dialled.
        welcome: what was answered.
        known: the session with whoever bears the number of who answers, if there is one.
        is_gateways: whether our own settings say that a gateway is at the address.

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
    """Why this process has nothing to do with that one, or "".

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
    """Why HELLO may not bear the number of a process that is known; "" if it may.

    Numbers are no secret: another process must not end that one's session with its number. That of
    its supervisor is one, which none but the process and its gateways are told.

    Args:
        session: of the process with that number, None if none is known.
        hello: what was said.
        source: where it comes from; "" where that says nothing, or the session's nonce proves more.
    """
    if session is None:
        return ""
    known = session.role, session.stage and session.stage[:2], session.host, session.pid
    said = hello.role, hello.stage and hello.stage[:2], hello.host, hello.pid
    moved = source and session.source and source != session.source
    differs = known != said or session.parent != hello.parent or moved
    return "another process bears this number" if differs else ""


def crowding(source: str, sessions: Iterable[Session]) -> str:
    """Why one more process may not come from where so many do; "" if it may.

    Args:
        source: where it comes from, "" where nobody can tell.
        sessions: all that there are.

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
    """What is said to one that broke a rule.

    Args:
        pause: seconds for which it is refused.
        reason: what it did.

    Example:
        >>> expulsion(2.0, "it may not say CANCEL")
        'you are expelled for 2 s: it may not say CANCEL'
    """
    return f"you are expelled for {pause:g} s: {reason}"[:_LONGEST_REASON]
