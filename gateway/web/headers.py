"""Which header lines of a request matter to the HTTP wire, and what their values mean. Pure.

Pure, and apart from the connection, so that HTTP/2 reads the same lines by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from mesh.config.units import parse_duration

HOST: Final = 1
LENGTH: Final = 2
ENCODING: Final = 3
EXPECT: Final = 4
CONNECTION: Final = 5
UPGRADE: Final = 6
REQUEST_ID: Final = 7
TRACEPARENT: Final = 8
TIMEOUT: Final = 9
PRIORITY: Final = 10
CODING: Final = 11
WANTED: Final = 12
UNREAD: Final = 13  # a coding of the body where none is spoken
# What only browsers say; who may send what by them is decided in gateway/web/browser_policy.py.
ORIGIN: Final = 20
SITE: Final = 21
MODE: Final = 22
DESTINATION: Final = 23
ASKED_METHOD: Final = 24  # of a preflight
ASKED_HEADERS: Final = 25

_KINDS: Final = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": ENCODING,
    b"expect": EXPECT,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
    b"x-request-id": REQUEST_ID,
    b"traceparent": TRACEPARENT,
    b"x-request-timeout": TIMEOUT,
    b"x-priority": PRIORITY,
    b"content-encoding": UNREAD,
    b"origin": ORIGIN,
    b"sec-fetch-site": SITE,
    b"sec-fetch-mode": MODE,
    b"sec-fetch-dest": DESTINATION,
    b"access-control-request-method": ASKED_METHOD,
    b"access-control-request-headers": ASKED_HEADERS,
}
_KINDS_CODED: Final = _KINDS | {b"content-encoding": CODING, b"accept-encoding": WANTED}
_HOP_BY_HOP: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})

_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")
_TRACEPARENT: Final = re.compile(
    rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{,128})?"
)
_TARGET: Final = re.compile(rb"/[!-~\x80-\xff]*")
_HOST: Final = re.compile(rb"(\[[0-9A-Za-z:.%]+\]|[A-Za-z0-9._~!$&'()*+;=%-]*)(:[0-9]*)?[ \t]*")
_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NAMES: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]*")
_BREAKS: Final = re.compile(rb"[\r\n\0]")
_BARE: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_PRIORITIES: Final = {b"normal": 0, b"0": 0, b"high": 1, b"1": 1}
_SHOWN_CHARACTERS: Final = 40  # characters of a wrong value that its client is shown


class HeaderLayout(NamedTuple):
    """Where in a head the lines are that matter, for one sequence of header names.

    A client repeats the same names request after request, so that looking them up once is enough.

    Attributes:
        names: the header names, as they were spelt.
        plain: True for the ordinary head: one Host, one Content-Length, nothing else that matters.
        odd: True if hosts, version or connection need a closer look.
        length: where the Content-Length is, -1 if there is none.
        host: where the Host is, -1 if there is none.
        hosts: how many Host lines there are.
        upgrades: there is an Upgrade line.
        framing: (kind, index) of the lines that say how the body comes, Content-Length excepted.
        told: (kind, index) of the lines that say something of the request.
        browser: (kind, index) of the lines by which a browser says whose page sent the request;
            empty where it does not say that.
    """

    names: list[bytes]
    plain: bool
    odd: bool
    length: int
    host: int
    hosts: int
    upgrades: bool
    framing: tuple[tuple[int, int], ...]
    told: tuple[tuple[int, int], ...]
    browser: tuple[tuple[int, int], ...] = ()


def layout_for(names: list[bytes], coded: bool = False) -> HeaderLayout:
    """Find the lines that matter among header names in any spelling.

    Args:
        names: in the order of their lines.
        coded: whether compressed bodies are spoken.

    Example:
        >>> plan = layout_for([b"HOST", b"Accept", b"content-length"])
        >>> plan.plain, plan.length
        (True, 2)
    """
    meaning = _KINDS_CODED if coded else _KINDS
    kinds = [meaning.get(name.lower(), 0) for name in names]
    hosts = kinds.count(HOST)
    length = kinds.index(LENGTH) if LENGTH in kinds else -1
    host = kinds.index(HOST) if hosts else -1
    odd = hosts != 1 or CONNECTION in kinds or UPGRADE in kinds
    framing = tuple([(kind, i) for i, kind in enumerate(kinds) if kind in (ENCODING, EXPECT)])
    told = tuple([(kind, i) for i, kind in enumerate(kinds) if REQUEST_ID <= kind < ORIGIN])
    says_whose = ORIGIN in kinds or SITE in kinds
    browser = tuple([(kind, i) for i, kind in enumerate(kinds) if kind >= ORIGIN and says_whose])
    plain = length >= 0 and not (odd or framing or told or browser)
    return HeaderLayout(
        names, plain, odd, length, host, hosts, UPGRADE in kinds, framing, told, browser
    )


class RequestHead(NamedTuple):
    """A request line and its header lines, as they were sent."""

    method: bytes
    target: bytes
    names: list[bytes]
    values: list[bytes]
    version: str = "1.1"


NO_LAYOUT: Final = layout_for([])


def sane_request_id(value: bytes | None) -> bytes | None:
    """The client's request id if it may be repeated in an answer, else None.

    Example:
        >>> sane_request_id(b"a-1"), sane_request_id(b"a b"), sane_request_id(None)
        (b'a-1', None, None)
    """
    return value if value and _REQUEST_ID.fullmatch(value) else None


def sane_traceparent(value: bytes | None) -> str | None:
    """The value of ``traceparent`` if it is well-formed, else None."""
    return value.decode("ascii") if value and _TRACEPARENT.fullmatch(value) else None


def budget_of(value: bytes) -> float:
    """The seconds that an ``X-Request-Timeout`` grants; a bare number counts seconds.

    Seconds, because that is what HTTP itself counts in (``Retry-After``, ``max-age``), and because
    a client that meant milliseconds then gets more time than it asked for and not none.

    Raises:
        ValueError: it is no duration, or none at all; the text says what to write instead.

    Example:
        >>> budget_of(b"250ms"), budget_of(b"2s"), budget_of(b"1.5")
        (0.25, 2.0, 1.5)
    """
    text = value.decode("latin-1").strip()
    try:
        budget = float(text) if _BARE.fullmatch(text) else parse_duration(text)
    except ValueError:
        budget = 0.0
    if budget <= 0:
        hint = "a time such as 500ms or 2s, above zero; a bare number is in seconds"
        raise ValueError(f"X-Request-Timeout is {_shown(text)}; it must be {hint}")
    return budget


def priority_of(value: bytes) -> int:
    """What an ``X-Priority`` asks for: 0 is normal, 1 high.

    Raises:
        ValueError: it is neither; the text says what there is.

    Example:
        >>> priority_of(b"High"), priority_of(b"0")
        (1, 0)
    """
    priority = _PRIORITIES.get(value.strip().lower())
    if priority is None:
        shown = _shown(value.decode("latin-1"))
        raise ValueError(f"X-Priority is {shown}; it must be normal (or 0) or high (or 1)")
    return priority


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def lines_of(names: list[bytes], values: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Header lines as pairs, without the space that may stand around a value."""
    return [(name, value.strip(b" \t")) for name, value in zip(names, values, strict=True)]


def sane_host(value: bytes) -> bool:
    """Whether a Host is a name or an address, with a port or without, or empty.

    Example:
        >>> sane_host(b"[::1]:80"), sane_host(b"a b")
        (True, False)
    """
    return _HOST.fullmatch(value) is not None


def origin_form(target: bytes) -> bytes:
    """A request target without scheme and authority, which a client may send to a server as well.

    Example:
        >>> origin_form(b"http://host/a?b"), origin_form(b"http://host"), origin_form(b"/a")
        (b'/a?b', b'/', b'/a')
    """
    if target[:7].lower() == b"http://" or target[:8].lower() == b"https://":
        return b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return target


def path_of(target: bytes) -> bytes:
    """The path that a request target names: no query, no authority, escapes resolved.

    Example:
        >>> path_of(b"/a%20b?c=d"), path_of(b"http://host/a"), path_of(b"http://host")
        (b'/a b', b'/a', b'/')
    """
    path = origin_form(target.partition(b"?")[0].partition(b"#")[0])
    return unquote_to_bytes(path) if b"%" in path else path


def from_http2(pairs: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """A request's head as HTTP/2 sends it, in the terms of HTTP/1.1.

    ``:authority`` becomes Host, several ``cookie`` lines become one again (RFC 9113, 8.2.3). What
    names and values may consist of is checked by `sane_lines`.

    Example:
        >>> from_http2([(b":method", b"GET"), (b":path", b"/a"), (b":authority", b"h")])
        RequestHead(method=b'GET', target=b'/a', names=[b'host'], values=[b'h'], version='2.0')
    """
    method = target = authority = b""
    names: list[bytes] = []
    values: list[bytes] = []
    for name, value in pairs:
        if name == b":method":
            method = value
        elif name == b":path":
            target = value
        elif name == b":authority":
            authority = value
            names.append(b"host")
            values.append(value)
        elif name == b"cookie" and b"cookie" in names:
            values[names.index(b"cookie")] += b"; " + value
        elif name[:1] != b":" and not (name == b"host" and authority):
            names.append(name)
            values.append(value)
    return RequestHead(method, target, names, values, "2.0")


def sane_target(target: bytes, method: bytes) -> bool:
    """Whether a target is a path, or the ``*`` of OPTIONS, of which HTTP/1.1 is made as well.

    httptools checks what it reads; what comes by HTTP/2 is checked here.
    """
    if _TARGET.fullmatch(target):
        return True
    return target == b"*" and method == b"OPTIONS"


def sane_lines(head: RequestHead) -> bool:
    """Whether no header line of a request by HTTP/2 would be more than one line in HTTP/1.1.

    h2 looks at that too, since 4.3; httptools does for what it reads.

    Example:
        >>> sane_lines(RequestHead(b"GET", b"/", [b"a"], [b"b"]))
        True
        >>> sane_lines(RequestHead(b"GET", b"/", [b"a"], [b"b\\r\\nc: d"]))
        False
    """
    if not all(head.names) or not _METHOD.fullmatch(head.method):
        return False
    return _NAMES.fullmatch(b"".join(head.names)) is not None and not _BREAKS.search(
        b"".join(head.values)
    )


def size_of(target: bytes, names: list[bytes], values: list[bytes]) -> int:
    """Bytes of a head, as far as they can be told from its parsed form (spaces are not seen)."""
    return len(target) + sum(map(len, names)) + sum(map(len, values)) + 4 * len(names)


def asks_for_websocket(plan: HeaderLayout, names: list[bytes], values: list[bytes]) -> bool:
    """Whether a head with an Upgrade line, of a GET, is a WebSocket's: no body, and one word."""
    if plan.length >= 0 or plan.framing:
        return False
    asked = [v for n, v in zip(names, values, strict=True) if n.lower() == b"upgrade"]
    return [value.strip().lower() for value in asked] == [b"websocket"]


def without_upgrade(head: RequestHead) -> bytes:
    """The same head, as a client would have written it that asks for no upgrade, and only once."""
    lines = [b"%b %b HTTP/%b" % (head.method, head.target, head.version.encode("ascii"))]
    for name, value in zip(head.names, head.values, strict=True):
        if name.lower() not in _HOP_BY_HOP:
            lines.append(b"%b: %b" % (name, value))
    lines.append(b"Connection: close\r\n\r\n")
    return b"\r\n".join(lines)
