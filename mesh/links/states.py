"""The states of a session, seen from one end, and all that leads from one to another. Pure.

DESIGN.md §8 draws this table. A session is

- Connected: in `Links.sessions`, with a link, not silent, and no BYE of ours is out;
- Silent: the same, but nothing comes, or nothing that was sent is acked;
- Detached: in `Links.sessions`, without a link;
- Parting: we said BYE, with a link or without;
- Over: no longer in `Links.sessions`.

Beside the state, `Session.draining` says that nothing new is sent.
"""

from __future__ import annotations

from typing import Final, NamedTuple

START: Final = "[*]"  # as the diagrams write it


class Transition(NamedTuple):
    """One way from a state to another.

    Attributes:
        state: before it.
        event: what happened.
        next: the state after it.
        by: the function that makes it, as ``module:name``.
    """

    state: str
    event: str
    next: str
    by: str


def table(*rows: tuple[str, str, str, str]) -> frozenset[Transition]:
    """The transitions of rows that may name several states.

    Args:
        rows: states with spaces between, event, next state, and the function.

    Example:
        >>> sorted(table(("On Off", "broken", "Dark", "lamp:burn")))[0]
        Transition(state='Off', event='broken', next='Dark', by='lamp:burn')
    """
    return frozenset(
        Transition(state, event, following, by)
        for states, event, following, by in rows
        for state in states.split()
    )


_OPEN: Final = "Connected Silent"
_ANY: Final = "Connected Silent Detached Parting"

TRANSITIONS: Final = table(
    # HELLO or WELCOME with a new nonce
    (START, "greeted", "Connected", "mesh.links.links:Links._attach"),
    # HELLO or WELCOME with the session's nonce, on another connection. One that was silent is so
    # until it is judged again, so its replica is given nothing meanwhile
    ("Connected Detached", "resumed", "Connected", "mesh.links.links:Links._attach"),
    ("Silent Detached", "resumed", "Silent", "mesh.links.links:Links._attach"),
    ("Parting", "resumed", "Parting", "mesh.links.links:Links._attach"),
    # nothing heard, or nothing acked of what waits; not just after this process itself stood still
    ("Connected", "quiet", "Silent", "mesh.links.liveness:Liveness._judge"),
    ("Silent", "heard", "Connected", "mesh.links.liveness:Liveness._judge"),
    # the network says so, a send was refused, WHO came, a gap, a header that cannot be read
    (_OPEN, "link_closed", "Detached", "mesh.links.liveness:Liveness.closed"),
    # a process with another number says HELLO on it
    (_OPEN, "link_closed", "Detached", "mesh.links.links:Links._attach"),
    ("Parting", "link_closed", "Parting", "mesh.links.liveness:Liveness.closed"),
    ("Connected Silent Detached", "part", "Parting", "mesh.links.liveness:Liveness.part"),
    # BYE came, or ours is answered: the only end that is in order
    (_OPEN, "goodbye", "Over", "mesh.links.links:Links._parted"),
    ("Parting", "goodbye", "Over", "mesh.links.links:Links._parted"),
    ("Parting", "unanswered", "Over", "mesh.links.liveness:Liveness._tick_session"),
    # no link for 100 ms or four round trips; for 10 s of an address that we dial
    ("Detached Parting", "expired", "Over", "mesh.links.liveness:Liveness._tick_session"),
    ("Detached Parting", "port_refused", "Over", "mesh.links.links:Links.probed"),
    # another nonce, a peer that has forgotten us, another process at its address
    ("Detached Parting", "begun_anew", "Over", "mesh.links.links:Links._hello"),
    ("Detached Parting", "begun_anew", "Over", "mesh.links.links:Links._welcome"),
    # a gateway of our own settings bears the number that it took
    (_ANY, "displaced", "Over", "mesh.links.links:Links._welcome"),
    # at gateways, of the supervisor that the replica named
    (_ANY, "death_notice", "Over", "gateway.requests.core:GatewayCore._died"),
    # it said what it may not say, or what no core could handle
    (_ANY, "breach", "Over", "mesh.links.liveness:Liveness.expel"),
)
