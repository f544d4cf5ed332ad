"""Everything that is not inference: one request as tornado's `Application` sees it.

A `Page` is tornado's `HTTPConnection` for one request, over the connection of
`gateway/web/http1.py`. tornado calls more of such an object than its documentation names
(`set_close_callback`, `context`, `detach`), and leaves to it what its own connection class did:
chunked framing, `Connection` lines, the check of header lines, no body after HEAD.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from tornado import httputil
from tornado.iostream import StreamClosedError

from gateway.web import headers, responses
from gateway.web.browser_policy import with_lines
from gateway.web.byte_budget import ByteBudget
from gateway.web.exchange import ResponseChannel
from gateway.web.http_request import CLOSE, ResponseWriter, with_connection
from gateway.web.websocket_stream import WebSocketStream

SWITCHING: Final = 101
_FORBIDDEN: Final = re.compile(rb"[\r\n\0]")


class ClientAddress(NamedTuple):
    """Where a request came from, in the two words that `HTTPServerRequest` asks for."""

    remote_ip: str
    protocol: str


class PageChannel(Protocol):
    """The connection that a page came by, as far as the page knows it."""

    @property
    def application(self) -> httputil.HTTPServerConnectionDelegate:
        """Who answers."""

    @property
    def client_address(self) -> ClientAddress:
        """Who asks."""

    @property
    def choked(self) -> bool:
        """True while the client does not take what was written."""

    @property
    def room(self) -> ByteBudget:
        """For the bodies of all pages' requests."""

    @property
    def vary(self) -> bytes:
        """Header lines of pages that no browser asks for."""

    def name(self) -> bytes:
        """An id for a request that came without one."""

    def release(self) -> None:
        """Write what the oldest requests have ready, in order."""

    def hand_over(self) -> WebSocketStream:
        """Give the connection away; RuntimeError if it has not been upgraded."""


class Page(httputil.HTTPConnection):
    """One request for tornado, and the writing of its answer when its turn has come.

    What tornado writes before its turn is kept; the futures that tornado gets are done when the
    client has room for more.

    Attributes:
        method, target, body: of the request, as they were sent.
        request_id: the client's, or one of ours.
        arrived: monotonic time, seconds, at which the head was complete.
        connection: as in `Exchange`: how the connection goes on after this.
        context: where the request came from; tornado's name for it.
        lines: header lines of the answer for the browser that asks.
        allow: the methods that inference at this path takes, if there is any.
        started: tornado has been told of it.
        status: of the answer, 0 before there is one.
        sent: bytes of the answer, its head included.
    """

    # Not an inference request, and no page's route.
    route: Final = None

    def __init__(
        self, channel: PageChannel, method: bytes, target: bytes, connection: bytes
    ) -> None:
        """Made when a head is complete; `describe` tells the rest."""
        self.method = method
        self.target = target
        self.connection = connection
        self.body = b""
        self.request_id: bytes | None = None
        self.arrived = 0.0
        self.context = channel.client_address
        self.allow: str | None = None
        self.lines = b""
        self.started = False
        self.status = 0
        self.sent = 0
        self._channel: PageChannel | None = channel
        self._room = channel.room
        self._charge = 0  # bytes of it that are taken
        self._version = "1.1"
        self._headers: list[tuple[bytes, bytes]] = []
        self._transport: ResponseWriter | None = None  # set once it is its turn
        self._kept: list[bytes] = []
        self._chunked = False
        self._left: int | None = None  # bytes of a declared body that are still to be written
        self._finished = False
        self._waiting: asyncio.Future[None] | None = None
        self._closed: Callable[[], object] | None = None

    def describe(self, version: str, headers: list[tuple[bytes, bytes]], arrived: float) -> None:
        """Take in HTTP version (``"1.1"``), header lines and time of the request."""
        self._version = version
        self._headers = headers
        self.arrived = arrived

    # ---- the wire's side

    @property
    def awaits_turn(self) -> bool:
        """A page takes long, and does not work ahead of its turn."""
        return not self.started

    def take_header(self, kind: int, value: bytes) -> None:
        """Take in a header line of one of the kinds of `gateway.web.headers`."""
        if kind == headers.REQUEST_ID:
            self.request_id = headers.sane_request_id(value)

    def sent_header(self, name: bytes) -> bytes:
        """Nothing: tornado wrote the answer, and no stage computed it."""
        return b""

    def admit(self, nbytes: int) -> bytes | None:
        """Take room for a body of so many bytes, or say that there is none."""
        if self._room.take(nbytes - self._charge):
            self._charge = nbytes
            return None
        name = self.request_id or (self._channel.name() if self._channel is not None else b"")
        return responses.failure(
            "overloaded", "too many bytes of requests are in flight", None, name
        )

    def _give_back(self) -> None:
        charge, self._charge = self._charge, 0
        self._room.give_back(charge)

    def start(self) -> None:
        """The request is complete: let tornado answer."""
        channel = self._channel
        assert channel is not None
        self.started = True
        self.request_id = self.request_id or channel.name()
        target = headers.origin_form(self.target).decode("latin-1")
        start_line = httputil.RequestStartLine(
            self.method.decode("latin-1"), target, f"HTTP/{self._version}"
        )
        try:
            lines = httputil.HTTPHeaders()
            for name, value in self._headers:
                lines.add(name.decode("latin-1"), value.decode("latin-1"))
            delegate = channel.application.start_request(channel, self)
            delegate.headers_received(start_line, lines)
            if self.body:
                delegate.data_received(self.body)
        except httputil.HTTPInputError as error:
            self._refuse(str(error))
            return
        delegate.finish()

    def flush(self, transport: ResponseWriter) -> bool:
        """It is this page's turn: write what was kept; True when the answer is complete."""
        self._transport = transport
        kept, self._kept = self._kept, []
        if kept:
            transport.write(b"".join(kept))
        self.writable()
        if self._finished:
            self._give_back()
        return self._finished

    def writable(self) -> None:
        """Let tornado write on, if the client has room."""
        waiting, channel = self._waiting, self._channel
        if waiting is not None and channel is not None and not channel.choked:
            self._waiting = None
            if not waiting.done():
                waiting.set_result(None)

    def lost(self) -> None:
        """The connection is no more: tell tornado."""
        self._channel = self._transport = None
        self._kept.clear()
        self._give_back()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            _fail(waiting)
        closed, self._closed = self._closed, None
        if closed is not None and not self._finished:
            closed()

    # ---- tornado's side

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """Have `callback` called if the client goes away before the answer is complete."""
        self._closed = callback

    def write_headers(
        self,
        start_line: httputil.RequestStartLine | httputil.ResponseStartLine,
        headers: httputil.HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Begin the answer. Raises ValueError if a header line would break out of its line."""
        assert isinstance(start_line, httputil.ResponseStartLine)
        self.status = start_line.code
        self._frame(start_line.code, headers)
        if start_line.code == SWITCHING:
            self.connection = b""
        if self.connection:
            headers["Connection"] = self.connection.decode("ascii")
        lines = [f"HTTP/1.1 {start_line.code} {start_line.reason}".encode("latin-1")]
        lines += [f"{name}: {value}".encode("latin-1") for name, value in headers.get_all()]
        if any(_FORBIDDEN.search(line) for line in lines):
            raise ValueError("a header line of the answer contains CR, LF or NUL")
        head = with_lines(b"\r\n".join(lines) + b"\r\n\r\n", self.lines)
        self.sent = len(head)
        return self._put(head + self._framed(chunk or b""))

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Go on with the body."""
        return self._put(self._framed(chunk))

    def finish(self) -> None:
        """The answer is complete. Raises HTTPOutputError if less was written than declared."""
        channel = self._channel
        if self._left:
            if self._transport is not None:
                self._transport.abort()
            raise httputil.HTTPOutputError(f"the body lacks {self._left} of its declared bytes")
        if self._chunked:
            self._put(b"0\r\n\r\n")
        self._finished = True
        if channel is not None:
            channel.release()

    def detach(self) -> WebSocketStream:
        """Take the connection over, after an answer that switches protocols.

        Raises:
            RuntimeError: there was no such answer, or the client did not ask for one.
        """
        if self.status != SWITCHING or self._channel is None:
            raise RuntimeError("this HTTP connection cannot be detached")
        channel, self._channel, self._closed = self._channel, None, None
        return channel.hand_over()

    # ---- framing

    def _frame(self, status: int, headers: httputil.HTTPHeaders) -> None:
        """Decide how the client will know where the body ends."""
        if self.method == b"HEAD" or not responses.has_body(status):
            self._left = 0
        elif "Content-Length" in headers:
            self._left = int(headers["Content-Length"])
        elif self._version == "1.1":
            self._chunked = True
            headers["Transfer-Encoding"] = "chunked"
        else:
            self.connection = CLOSE

    def _framed(self, chunk: bytes) -> bytes:
        """A piece of the body as it goes over the wire."""
        if not chunk or self.method == b"HEAD":
            return b""
        if self._left is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise httputil.HTTPOutputError("more was written than the declared length")
        self.sent += len(chunk)
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk

    def _put(self, piece: bytes) -> asyncio.Future[None]:
        """Write or keep `piece`; the future is done when there is room for the next."""
        channel = self._channel
        future = asyncio.get_running_loop().create_future()
        if channel is None:
            _fail(future)
            return future
        if self._transport is None:
            self._kept.append(piece)
            channel.release()  # it may be its turn already
        elif piece:
            self._transport.write(piece)
        if self._transport is not None and not channel.choked:
            future.set_result(None)
            return future
        if self._waiting is None or self._waiting.done():
            self._waiting = future
        return self._waiting

    def _refuse(self, reason: str) -> None:
        """Tornado does not accept the head."""
        assert self.request_id is not None
        self.connection = CLOSE
        self.status = 400
        answer = responses.failure("bad_request", reason, None, self.request_id)
        answer = with_lines(answer, self.lines)
        self._put(with_connection(answer, CLOSE))
        self._finished = True
        if self._channel is not None:
            self._channel.release()


class Channel(ResponseChannel, PageChannel, Protocol):
    """A connection, or a stream of one, that brings both exchanges and pages."""


def _fail(future: asyncio.Future[None]) -> None:
    """The connection is closed; tornado may or may not look at the future."""
    future.set_exception(StreamClosedError())
    future.exception()
