"""Which requests of web browsers are served: under which names, and sent by whose pages. Pure.

A browser sends requests wherever a page tells it to, also to a service that only its own machine
can reach. Two checks keep pages of strangers away:

- **Host**, against DNS rebinding: a name of the attacker's that suddenly resolves to 127.0.0.1 is
  the page's own origin to the browser. But the request still names that host, and we are not it.
- **Origin**: a page may send a simple POST to any origin without asking, and a preflight asks for
  the rest. `Sec-Fetch-Site` says whose page it was; older browsers, and pages that are loaded
  without TLS from another machine, send `Origin` alone, which is compared with the Host.

Both are properties of the head, so they are decided when a head is parsed, and not again while its
bytes are repeated. Clients other than browsers send none of these lines and notice nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from gateway.web import headers as heads
from mesh.config.settings import ADMIN_PAGES, HEALTH_PAGES

ANY: Final = "*"
_OWN: Final = frozenset({b"same-origin", b"none"})  # "none": typed, or a bookmark
_EMBEDDED: Final = frozenset({b"object", b"embed"})
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_SHOWABLE: Final = re.compile(rb"[!-~]{1,100}")
_HEADER_NAMES: Final = re.compile(rb"[0-9A-Za-z!#$%&'*+.^_`|~, -]{1,1000}")
_HEALTH: Final = frozenset(page.encode() for page in HEALTH_PAGES)
_ADMIN: Final = frozenset(page.encode() for page in ADMIN_PAGES)
_VARY: Final = b"Vary: Origin\r\n"
_PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: GET, HEAD, POST\r\nAccess-Control-Max-Age: 600\r\n"
)


class Reach(Enum):
    """From where a listener can be reached."""

    MACHINE = "loopback"
    NETWORK = "network"
    SOCKET = "unix"  # no browser can name it


class NotServed(Exception):
    """A request that is refused for the host that it names or the page that sent it.

    Attributes:
        code: a word of `gateway.web.responses.TABLE`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BrowserPolicy:
    """What one listener serves to browsers.

    Args:
        hosts: names that are served; ``*.example`` stands for all below it, ``*`` for every name.
        cors: origins, as browsers write them, whose pages may send requests; ``*`` for all.
        reach: from where it can be reached.
        by_address: a Host that is an IP address is served, whatever `hosts` says: nobody can make
            a browser believe that an address is a name.

    Example:
        >>> policy = BrowserPolicy(reach=Reach.MACHINE)
        >>> policy.check_host(b"localhost:8000", b"/")
        True
        >>> policy.check_origin(b"POST", b"localhost:8000", {heads.SITE: b"same-origin"})
        b''
    """

    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    reach: Reach = Reach.SOCKET
    by_address: bool = False

    def listening_at(self, names: Iterable[object]) -> BrowserPolicy:
        """The same for a listener at these addresses, as `socket.getsockname` gives them."""
        return replace(self, reach=reach_of(names))

    @property
    def vary(self) -> bytes:
        """The line of every answer that may be kept: it depends on who asks."""
        return _VARY if self.cors and ANY not in self.cors else b""

    # ---- names

    def check_host(self, host: bytes, target: bytes) -> bool:
        """Raise `NotServed` if the service has not this name.

        Args:
            host: the value of the Host line, with a port or without; "" where there is none, which
                no browser sends.
            target: what is asked for. Who looks whether a service is alive may use any name, who
                watches it any address.

        Returns:
            Whether every target is served under this name.
        """
        name = _name_of(host)
        if not name or self._serves(name):
            return True
        if self.reach is Reach.NETWORK and self._is_looked_at(name, target):
            return False
        shown = name if _SHOWABLE.fullmatch(name.encode("latin-1")) else "this one"
        if self.reach is Reach.MACHINE:
            text = f"HTTP listens on loopback only, so hosts like localhost are served, not {shown}"
        else:
            text = f"{shown} is none of the hosts that are served here"
        raise NotServed("host_not_served", f"{text}; to serve it list it in [gateway] hosts")

    def _is_looked_at(self, name: str, target: bytes) -> bool:
        """Whether it is a page by which others look after the service, as they find it.

        What scrapes metrics finds gateways by their addresses, which no browser takes for names.
        """
        return target in _HEALTH or (target in _ADMIN and _address_of(name) is not None)

    def _serves(self, name: str) -> bool:
        if self.reach is Reach.SOCKET or (self.reach is Reach.NETWORK and not self.hosts):
            return True
        address = _address_of(name)
        if self.reach is Reach.MACHINE and _is_loopback(name, address):
            return True
        if self.by_address and address is not None:
            return True
        return any(_fits(name, one) for one in self.hosts)

    # ---- pages

    def check_origin(self, method: bytes, host: bytes, told: Mapping[int, bytes]) -> bytes:
        """The header lines that the answer to a browser's request must have, each with its CRLF.

        Args:
            method: such as ``b"POST"``.
            host: the value of the Host line.
            told: what the browser says of the request, by the kinds of `gateway.web.headers`.

        Raises:
            NotServed: a page of another origin sent it that may not.
        """
        if not _is_foreign(host, told):
            return self.vary
        origin = told.get(heads.ORIGIN, b"")
        if ANY in self.cors:
            return _granted(b"*", method, told)
        if origin and origin.decode("latin-1") in self.cors:
            return _granted(origin, method, told) + _VARY
        if _is_visit(method, told):
            return self.vary
        whose = origin.decode("ascii") if _SHOWABLE.fullmatch(origin) else "another site"
        text = f"a web page of {whose} sent this request, and [gateway] cors does not list it"
        raise NotServed("cross_site", text)


ANYBODY: Final = BrowserPolicy(hosts=(ANY,))  # any name, but no pages of others


def reach_of(names: Iterable[object]) -> Reach:
    """From where listeners at these addresses can be reached, as `socket.getsockname` gives them.

    Example:
        >>> reach_of([("127.0.0.1", 8000), ("::1", 8000, 0, 0)]), reach_of([("0.0.0.0", 8000)])
        (<Reach.MACHINE: 'loopback'>, <Reach.NETWORK: 'network'>)
    """
    listed = list(names)
    if not any(isinstance(name, tuple) for name in listed):
        return Reach.SOCKET
    addresses = [_address_of(str(name[0])) for name in listed if isinstance(name, tuple)]
    near = all(address is not None and _is_loopback("", address) for address in addresses)
    return Reach.MACHINE if near else Reach.NETWORK


def with_lines(answer: bytes, lines: bytes) -> bytes:
    """The same answer with further header lines after its status line.

    Of those that grant access the worker's own count, where it wrote some.

    Example:
        >>> with_lines(b"HTTP/1.1 200 OK\\r\\nA: b\\r\\n\\r\\n", b"Vary: Origin\\r\\n")
        b'HTTP/1.1 200 OK\\r\\nVary: Origin\\r\\nA: b\\r\\n\\r\\n'
    """
    head = answer[: answer.find(b"\r\n\r\n")].lower()
    if b"\r\naccess-control-" in head:
        return answer
    return answer.replace(b"\r\n", b"\r\n" + lines, 1)


def pairs_of(lines: bytes) -> list[tuple[str, str]]:
    """Header lines as names and values.

    Example:
        >>> pairs_of(b"Vary: Origin\\r\\n")
        [('Vary', 'Origin')]
    """
    parted = [line.partition(": ") for line in lines.decode("latin-1").split("\r\n") if line]
    return [(name, value) for name, _, value in parted]


def _granted(origin: bytes, method: bytes, told: Mapping[int, bytes]) -> bytes:
    """What lets a page of this origin read the answer; and, in a preflight, send its request."""
    lines = b"Access-Control-Allow-Origin: %b\r\n" % origin
    if method != b"OPTIONS" or heads.ASKED_METHOD not in told:
        return lines + b"Access-Control-Expose-Headers: *\r\n"
    wanted = told.get(heads.ASKED_HEADERS, b"")
    if _HEADER_NAMES.fullmatch(wanted):
        lines += b"Access-Control-Allow-Headers: %b\r\n" % wanted
    return lines + _PREFLIGHT


def _is_foreign(host: bytes, told: Mapping[int, bytes]) -> bool:
    """Whether a page of another origin sent the request.

    One of the same *site* counts as foreign, too: every port of localhost is one site.
    """
    site = told.get(heads.SITE)
    if site is not None:
        return site.strip().lower() not in _OWN
    origin = told.get(heads.ORIGIN)
    return origin is not None and not _is_origin_of(origin, host)


def _is_origin_of(origin: bytes, host: bytes) -> bool:
    """Whether an Origin is the service itself, under the name that the Host says."""
    scheme, separator, authority = origin.strip().decode("latin-1").lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    own = host.strip(b" \t").decode("latin-1").lower()
    return bool(separator) and authority.removesuffix(port) == own.removesuffix(port)


def _is_visit(method: bytes, told: Mapping[int, bytes]) -> bool:
    """Whether somebody followed a link here: the page that had the link cannot read the answer."""
    if method not in (b"GET", b"HEAD") or told.get(heads.MODE, b"") != b"navigate":
        return False
    return told.get(heads.DESTINATION, b"") not in _EMBEDDED


def _name_of(host: bytes) -> str:
    """The name or address in a Host line, without port, brackets and the dot at its end."""
    text = host.strip(b" \t").decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].removesuffix(".")


def _address_of(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_loopback(name: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        return address.is_loopback
    return name == "localhost" or name.endswith(".localhost")


def _fits(name: str, listed: str) -> bool:
    listed = listed.lower().strip("[]").removesuffix(".")
    if listed == ANY:
        return True
    return name.endswith(listed[1:]) if listed.startswith("*.") else name == listed


def told_by(kinds: Sequence[tuple[int, int]], values: Sequence[bytes]) -> dict[int, bytes]:
    """What a browser says of its request: the value of each line that `heads.Plan.browser` found.

    Example:
        >>> told_by([(heads.SITE, 1)], [b"localhost", b"none"])[heads.SITE]
        b'none'
    """
    return {kind: values[index] for kind, index in kinds}
