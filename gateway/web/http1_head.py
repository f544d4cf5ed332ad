"""The head of an HTTP/1.1 request while it is being read, and what it must look like."""

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
        begun: the pieces of the request target that have come; empty between two heads.
        target: of the head that was complete last.
        names: of header lines so far, or after the head of trailers.
        layout: of the head that was complete last; clients repeat the same header lines.
        lines: of its answer, for the browser that asks.
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
        self._bytes = 0  # of a head that came in several cuts
        self._reserved_bytes = 0  # of an incomplete head that have taken room

    def take_line(self, name: bytes, value: bytes) -> None:
        """A header line, or after the body a trailer."""
        self.names.append(name)
        self._values.append(value)

    def complete(self, parser: Any, cut_bytes: int) -> RequestHead:
        """The head is complete.

        Args:
            parser: httptools's, which has read it.
            cut_bytes: of the cut in which it ended.

        Raises:
            RequestRefused: it is not acceptable, in whatever version of HTTP. The version itself is
                only looked at where something is unusual; nearly always it is 1.1.
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
        """So many bytes more of a head have come, and it is not complete.

        Raises:
            RequestRefused: it is too long, or there is no room for all such heads together.
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
        """Forget what has come of a head, or of trailers."""
        self.begun.clear()
        self.names, self._values = [], []
        self._let_go()

    def _let_go(self) -> None:
        self._bytes = 0
        self._server.heads.give_back(self._reserved_bytes)
        self._reserved_bytes = 0


def connection_for(layout: HeaderLayout, version: str, is_last: bool) -> bytes:
    """What the answer's Connection header must say: `CLOSE`, `KEEP` or nothing.

    Raises:
        RequestRefused: no such version is spoken, or the request names not one host.
    """
    if version not in ("1.1", "1.0"):
        text = f"HTTP/{version} is not spoken here; use HTTP/1.1"
        raise RequestRefused("version_not_supported", text)
    if layout.hosts > 1 or (layout.hosts == 0 and version == "1.1"):
        raise RequestRefused("bad_request", "a request needs exactly one Host header")
    if is_last:
        return CLOSE
    return KEEP if version == "1.0" else b""
