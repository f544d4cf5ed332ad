"""The head of an HTTP/1.1 request while it is being read, and the checks of it."""

from __future__ import annotations

from typing import Any

from gateway.web import headers
from gateway.web.headers import HeaderLayout, RequestHead
from gateway.web.http_request import CLOSE, KEEP
from gateway.web.request_checks import (
    HEAD_TOO_LONG,
    MOST_LINES,
    TOO_MANY_LINES,
    RequestRefused,
    browser_lines,
    check_host,
    check_size,
    layout_for,
)
from gateway.web.server_state import ServerState

_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each request


class HeadReader:
    """Collects the heads of a connection's requests, one after the other.

    Attributes:
        begun: the pieces of the request target received so far; empty between two heads.
        target: the target of the last complete head.
        names: the names of header lines so far; after the head, of trailers.
        layout: the header names of the last complete head; clients repeat them.
        lines: header lines for the answer if a browser sent the request.
    """

    __slots__ = (
        "_bytes",
        "_reserved_bytes",
        "_server",
        "_values",
        "begun",
        "layout",
        "lines",
        "names",
        "target",
    )

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self.begun: list[bytes] = []
        self.target = b""
        self.names: list[bytes] = []
        self._values: list[bytes] = []
        self.layout = headers.NO_LAYOUT
        self.lines = b""
        self._bytes = 0  # bytes of a head that is parsed in several cuts
        self._reserved_bytes = 0  # reserved bytes of an incomplete head

    def take_line(self, name: bytes, value: bytes) -> None:
        """Take a header line, or after the body a trailer."""
        self.names.append(name)
        self._values.append(value)

    def complete(self, parser: Any, cut_bytes: int) -> RequestHead:
        """Check a complete head.

        Args:
            parser: the parser of httptools that read it.
            cut_bytes: the length of the cut in which it ended.

        Raises:
            RequestRefused: no version of HTTP allows this head. The version itself is read only if
                something is unusual; nearly always it is 1.1.
        """
        server, values = self._server, self._values
        target = self.target = b"".join(self.begun)
        self.begun.clear()
        names = self.names
        self.names, self._values, self.lines = [], [], b""
        layout = self.layout
        if names != layout.names:
            layout = self.layout = layout_for(names, server)
        method = parser.get_method()
        if layout.browser:
            self.lines = browser_lines(method, layout, values, server)
        if self._bytes or cut_bytes > server.limits.max_header:
            self._let_go()
            check_size(target, names, values, server)
        if layout.host >= 0 and values[layout.host] not in server.hosts:
            check_host(values[layout.host], target, server)
        return _new_tuple(RequestHead, (method, target, names, values, "1.1"))

    def measure(self, nbytes: int) -> None:
        """Count `nbytes` more bytes of an incomplete head.

        Raises:
            RequestRefused: it is too long, or there is no room for all incomplete heads together.
        """
        self._bytes += nbytes
        if len(self.names) > MOST_LINES:
            raise RequestRefused("headers_too_large", TOO_MANY_LINES)
        if self._bytes > self._server.limits.max_header:
            raise RequestRefused("headers_too_large", HEAD_TOO_LONG)
        if not self._server.heads.take(nbytes):
            text = "too many requests whose headers are not complete"
            raise RequestRefused("overloaded", text)
        self._reserved_bytes += nbytes

    def drop(self) -> None:
        """Drop an incomplete head, or trailers."""
        self.begun.clear()
        self.names, self._values = [], []
        self._let_go()

    def _let_go(self) -> None:
        self._bytes = 0
        self._server.heads.give_back(self._reserved_bytes)
        self._reserved_bytes = 0


def connection_for(layout: HeaderLayout, version: str, is_last: bool) -> bytes:
    """Return the value of the answer's Connection header: `CLOSE`, `KEEP` or nothing.

    Raises:
        RequestRefused: the version is not supported, or the request does not name one host.
    """
    if version not in ("1.1", "1.0"):
        text = f"HTTP/{version} is not spoken here; use HTTP/1.1"
        raise RequestRefused("version_not_supported", text)
    if layout.hosts > 1 or (layout.hosts == 0 and version == "1.1"):
        raise RequestRefused("bad_request", "a request needs exactly one Host header")
    if is_last:
        return CLOSE
    return KEEP if version == "1.0" else b""
