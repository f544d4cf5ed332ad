"""Who may say what on a link: one table, asked before any core sees a message. Pure.

Keys say who may connect (`mesh/transport/allowlist.py`); this table says what each may say once it
is in. It has a row for each pair of roles that speak to each other, and for each direction: the
*consumer* dialled, the *producer* was dialled. What a row does not list costs the speaker its
session.

What a peer says of itself in HELLO, and the addresses that a gateway names, have ranges here, too:
other processes plan by them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sized
from typing import Final

from mesh.errors import ProtocolError
from mesh.protocol.messages import Cancel, Hello, Message, Part, Peers, Ping, Role, StageFacts, Type

_ALWAYS: Final = frozenset({Type.CREDIT, Type.PING, Type.DRAIN, Type.BYE, Type.WHO, Type.ERR})
_NOTHING: Final[frozenset[Type]] = frozenset()

# Speaker, listener, whether the speaker is the consumer of the link (it dialled) -> what it may say
# beyond `_ALWAYS`. HELLO and WELCOME open a link: whoever has a row as consumer may say HELLO to
# that listener, whoever has one as producer may say WELCOME.
MAY_SAY: Final[Mapping[tuple[Role, Role, bool], frozenset[Type]]] = {
    (Role.GATEWAY, Role.REPLICA, False): frozenset(
        {Type.TASKS, Type.PART, Type.CANCEL, Type.PEERS}
    ),
    (Role.REPLICA, Role.GATEWAY, True): frozenset({Type.OUTCOMES, Type.PART}),
    (Role.REPLICA, Role.REPLICA, False): frozenset({Type.TASKS, Type.PART}),
    (Role.REPLICA, Role.REPLICA, True): _NOTHING,
    (Role.SUPERVISOR, Role.GATEWAY, True): frozenset({Type.DEATH}),
    (Role.GATEWAY, Role.SUPERVISOR, False): _NOTHING,
    (Role.CLIENT, Role.GATEWAY, True): frozenset({Type.SUBMIT, Type.PART, Type.CANCEL}),
    (Role.GATEWAY, Role.CLIENT, False): frozenset({Type.ANSWER, Type.PART}),
}
_ALLOWED: Final = {row: types | _ALWAYS for row, types in MAY_SAY.items()}

# Types of which it matters, too, what is said: see `content_objection`.
JUDGED: Final = frozenset({Type.CANCEL, Type.PEERS, Type.PART, Type.PING})

MAX_PEERS: Final = 512  # addresses that one gateway may name
# Processes that may be connected from one source, a key and an address. All replicas of a host may
# share both, and each is a process with a model; a whole mesh has a thousand.
MOST_FROM_ONE_SOURCE: Final = 256
MAX_OWNERS: Final = 4096  # producers that one process may say it reaches
MAX_BATCH: Final = 65_536
_MAX_TIMEOUT_S: Final = 31 * 86_400.0  # seconds
_WORD: Final = re.compile(r"[!-~]([ -~]{0,126}[!-~])?")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_CONTENT_TYPE: Final = re.compile(r"[ -~]{1,256}")
_HOST: Final = re.compile(r"[!-~]{0,255}")
_MAX_ADDRESS_CHARS: Final = 256


class Breach(ProtocolError):
    """A peer said something that it may not say. It costs that peer its session."""


def breach_or_bug(error: Exception) -> tuple[str, Exception | None]:
    """Return the reason to expel a peer, and the error itself if it is no breach but our bug.

    Example:
        >>> breach_or_bug(Breach("it may not say CANCEL"))
        ('it may not say CANCEL', None)
    """
    if isinstance(error, Breach):
        return str(error), None
    return f"it could not be handled: {type(error).__name__}", error


def permitted(speaker: Role, listener: Role, *, dialled: bool) -> frozenset[Type]:
    """What `speaker` may say to `listener` on a link that the speaker dialled, or not.

    Example:
        >>> Type.DEATH in permitted(Role.SUPERVISOR, Role.GATEWAY, dialled=True)
        True
        >>> permitted(Role.CLIENT, Role.REPLICA, dialled=True)
        frozenset()
    """
    return _ALLOWED.get((speaker, listener, dialled), _NOTHING)


def content_objection(message: Message, speaker: int, *, may_owe: bool) -> str:
    """Why a message of one of the types `JUDGED` is not the speaker's to say; "" if it is.

    Args:
        message: it.
        speaker: the incarnation that says it.
        may_owe: whether the speaker may have a payload for us, which comes in slices.

    Example:
        >>> content_objection(Cancel(8, [1]), 7, may_owe=False)
        'it may not cancel what is not its own'
    """
    if type(message) is Cancel:
        return "" if message.owner == speaker else "it may not cancel what is not its own"
    if type(message) is Peers:
        return peers_objection(message)
    if type(message) is Ping:
        return owners_objection(message.owners)
    if type(message) is Part and not may_owe:
        return "it owes nothing that could come in slices"
    return ""


def hello_objection(listener: Role, hello: Hello) -> str:
    """Why HELLO may not come from such a peer, or may not say what it says; "" if it may.

    Example:
        >>> hello_objection(Role.REPLICA, Hello(Role.CLIENT, 1, "mesh", (1,)))
        'a client has nothing to say to a replica'
    """
    if (hello.role, listener, True) not in MAY_SAY:
        return f"a {hello.role.name.lower()} has nothing to say to a {listener.name.lower()}"
    if (hello.stage is not None) is not (hello.role is Role.REPLICA):
        return "a replica names its stage, and only a replica does"
    too_many = owners_objection(hello.owners)
    if too_many:
        return too_many
    if not _HOST.fullmatch(hello.host):
        return "the name of the host is no short printable word"
    if len(hello.feed) > _MAX_ADDRESS_CHARS or not hello.feed.isprintable():
        return "the feed address is too long or not printable"
    return "" if hello.stage is None else stage_objection(hello.stage)


def owners_objection(owners: Sized) -> str:
    """Return why a peer cannot reach so many producers, or "". HELLO says them, and each PING.

    Example:
        >>> owners_objection(range(5000))
        '5000 producers are more than 4096'
    """
    return f"{len(owners)} producers are more than {MAX_OWNERS}" if len(owners) > MAX_OWNERS else ""


def stage_objection(facts: StageFacts) -> str:
    """What of a replica's facts is out of range; "" if nothing is.

    Example:
        >>> stage_objection(StageFacts("embed", "1", batch=0, timeout=3.0, pool=1))
        'batch is 0, not within 1 to 65536'
    """
    if not _NAME.fullmatch(facts.name):
        return "the stage's name is not letters, digits, _ and -"
    if not 1 <= facts.batch <= MAX_BATCH:
        return f"batch is {facts.batch}, not within 1 to {MAX_BATCH}"
    if facts.pool < 1:
        return "pool is 0 bytes: no task fits into it"
    if not 0.0 < facts.timeout <= _MAX_TIMEOUT_S:
        return f"timeout is {facts.timeout:g} s, not above 0 and at most {_MAX_TIMEOUT_S:g}"
    if not _CONTENT_TYPE.fullmatch(facts.content_type):
        return "the content type is not printable ASCII of at most 256 characters"
    words = {"revision": facts.revision, "version": facts.version, "routes": facts.routes}
    for name, word in words.items():
        if word and not _WORD.fullmatch(word):
            return f"{name} is not a printable word of at most 128 characters"
    return ""


def peers_objection(peers: Peers) -> str:
    """Why a list of addresses to dial is refused as a whole; "" if it is not."""
    if len(peers.peers) > MAX_PEERS:
        return f"{len(peers.peers)} addresses are more than {MAX_PEERS}"
    if any(len(peer.address) > _MAX_ADDRESS_CHARS for peer in peers.peers):
        return f"an address is longer than {_MAX_ADDRESS_CHARS} characters"
    return ""


def is_numeric_tcp(address: str) -> bool:
    """Whether this is ``tcp://`` with a numeric host and a port: nothing is left to resolve.

    libzmq looks names up on its only thread, which stops every link of the process meanwhile.

    Example:
        >>> is_numeric_tcp("tcp://10.0.0.7:7000"), is_numeric_tcp("tcp://slow.example:7000")
        (True, False)
    """
    if not address.startswith("tcp://"):
        return False
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65_535):
        return False
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        number = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        return False
    return bracketed == (number.version == 6)
