"""A client connection without a network, and an inference that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any

from tornado import httputil

from gateway.web import responses as answers
from gateway.web.exchange import Exchange, Limits, Turn
from gateway.web.http1 import Connection
from gateway.web.server_state import Shared


def turned(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in a loop."""

    @wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


def without_first(test: Callable[..., Any], *more: str) -> Signature:
    """What pytest shall fill: `more`, and of a test what a decorator does not make, its first."""
    _, *asked = signature(test).parameters.values()
    return Signature([*(Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in more), *asked])


class FakeTransport(asyncio.Transport):
    """Takes what is written, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writes = 0
        self.unsent = 0
        self.reading = True
        self.ended = False
        self.closed = False
        self.aborted = False
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, piece: Any) -> None:
        assert not self.ended, "write after write_eof"
        self.written += bytes(piece)
        self.writes += 1

    def take(self) -> bytes:
        """What was written since the last time."""
        written, self.written = self.written, b""
        return written

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 4711) if name == "peername" else default


class Way:
    """A route."""

    endpoint = "/inference"

    def __init__(self, wants_meta: bool = False) -> None:
        self.wants_meta = wants_meta
        self.held = 0

    def hold(self, nbytes: int) -> None:
        self.held += nbytes


class Inference:
    """Collects exchanges; `answer` answers the oldest that it still has."""

    def __init__(self, at_once: bool = False) -> None:
        self.routes: dict[bytes, Way] = {b"/inference": Way(), b"/meta": Way(wants_meta=True)}
        self.taken: list[Exchange] = []
        self.left: list[Exchange] = []
        self.asked: list[int] = []
        self.refusal: bytes | None = None
        self.refusals: list[bytes | None] = []  # of the next times it is asked
        self.at_once = at_once

    def admit(self, exchange: Exchange, nbytes: int) -> bytes | None:
        self.asked.append(nbytes)
        return self.refusals.pop(0) if self.refusals else self.refusal

    def submit(self, exchange: Exchange) -> None:
        self.taken.append(exchange)
        if self.at_once:
            echo(exchange)

    def gone(self, exchange: Exchange) -> None:
        self.left.append(exchange)

    @property
    def bodies(self) -> list[bytes]:
        return [exchange.body for exchange in self.taken]


def echo(exchange: Exchange) -> None:
    """Answer with the request's own body."""
    exchange.respond(answers.result(b"id", b"text/plain", b"", exchange.body))


class Pages(httputil.HTTPServerConnectionDelegate):
    """Stands where tornado's application stands: remembers requests, answers 200 with the path."""

    def __init__(self, begin: Callable[[Any, httputil.HTTPHeaders], None] | None = None) -> None:
        self.begin = begin
        self.lines: list[httputil.RequestStartLine] = []
        self.headers: list[httputil.HTTPHeaders] = []
        self.bodies: list[bytes] = []

    def start_request(self, server_conn: object, request_conn: Any) -> httputil.HTTPMessageDelegate:
        return _PageRequest(self, request_conn)


class _PageRequest(httputil.HTTPMessageDelegate):
    def __init__(self, pages: Pages, connection: Any) -> None:
        self.pages = pages
        self.connection = connection
        self.body = b""

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        self.pages.lines.append(start_line)
        self.pages.headers.append(headers)

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def finish(self) -> None:
        pages, connection = self.pages, self.connection
        pages.bodies.append(self.body)
        if pages.begin is not None:
            pages.begin(connection, pages.headers[-1])
            return
        line = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
        text = pages.lines[-1].path.encode()
        headers = httputil.HTTPHeaders({"Content-Length": str(len(text))})
        connection.write_headers(line, headers, text)
        connection.finish()


def shared(
    inference: Inference | None = None,
    limits: Limits | None = None,
    pages: httputil.HTTPServerConnectionDelegate | None = None,
    access: Callable[[Turn], None] | None = None,
) -> Shared:
    """What the connections of a test have in common."""
    return Shared(
        inference=inference or Inference(),
        application=pages or Pages(),
        limits=limits or Limits(),
        names=lambda number: b"boot-%d" % number,
        access=access,
    )


def connect(common: Shared) -> tuple[Connection, FakeTransport]:
    """A new client."""
    connection = Connection(common)
    transport = FakeTransport()
    connection.connection_made(transport)
    return connection, transport


def post(
    body: bytes = b"", path: str = "/inference", lines: str = "", version: str = "1.1"
) -> bytes:
    """A request of the plainest kind, with further header `lines`, each ended by CRLF."""
    head = f"POST {path} HTTP/{version}\r\nHost: h\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body


def chunked(*pieces: bytes, path: str = "/inference", end: bytes = b"0\r\n\r\n") -> bytes:
    """A request whose body comes in chunks."""
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]) + end


def statuses(written: bytes) -> list[int]:
    """Status codes of consecutive answers that state their length."""
    found = []
    while written:
        head, separator, rest = written.partition(b"\r\n\r\n")
        assert separator, written
        status = int(head.split()[1])
        found.append(status)
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert len(rest) >= length
        written = rest[length:]
    return found
