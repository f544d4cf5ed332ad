"""One inference request on its way through the gateway, and what the HTTP wire asks of the rest.

Pure.

The wire (`gateway/web/http1.py`) makes an `Exchange` of every inference request and hands it, body
and all, to an `Inference`. The answer may come at any later time, from anywhere in the loop's
thread:

```python
class Echo:                                        # the smallest Inference
    def __init__(self) -> None:
        self.routes = {b"/echo": Way()}

    def admit(self, exchange: Exchange, nbytes: int) -> bytes | None:
        return None

    def submit(self, exchange: Exchange) -> None:
        exchange.respond(responses.result(b"1", b"text/plain", b"", exchange.body))

    def gone(self, exchange: Exchange) -> None: ...
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.web import compression, headers
from gateway.web.browser_policy import with_lines
from mesh.protocol.messages import Buffer

# What an answer's Connection header must say, where it must say something.
CLOSE: Final = b"close"
KEEP: Final = b"keep-alive"


def with_connection(answer: bytes, value: bytes) -> bytes:
    """The same answer with a ``Connection`` header after its status line.

    Example:
        >>> with_connection(b"HTTP/1.1 200 OK\\r\\n\\r\\n", CLOSE)
        b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n'
    """
    return answer.replace(b"\r\n", b"\r\nConnection: " + value + b"\r\n", 1)


class Route(Protocol):
    """What the wire needs to know of an HTTP path that leads to stages."""

    @property
    def endpoint(self) -> str:
        """The path itself, as metrics and the access log name it."""

    @property
    def wants_meta(self) -> bool:
        """Whether a worker of the route asked for the request's method, query and headers."""

    def hold(self, nbytes: int) -> None:
        """Charge so many bytes of answers that clients have not taken yet; less where negative."""


class Inference(Protocol):
    """Whoever takes the inference requests: the gateway's book, or a stand-in in a test."""

    @property
    def routes(self) -> Mapping[bytes, Route]:
        """Path to route. Looked up for every request; changes take effect at once."""

    def admit(self, exchange: Exchange, nbytes: int) -> bytes | None:
        """Let a request in whose body is still to come, with room for `nbytes` bytes of it.

        Asked once the head is there, and again with a greater number if a body of unknown length
        outgrows its room. Not asked where the whole request is there at once. Who is let in stays
        so until its answer, or until `gone`.

        Returns:
            A whole answer that says why there is no room, else None.
        """

    def submit(self, exchange: Exchange) -> None:
        """Take a complete request; sooner or later call its `respond`, once."""

    def gone(self, exchange: Exchange) -> None:
        """It will not be complete, or its client went away: nobody wants it any more."""


class Writer(Protocol):
    """The part of a transport that answers need."""

    def write(self, piece: Buffer, /) -> object:
        """Send, or keep until it can be sent; `piece` must not change any more."""

    def abort(self) -> None:
        """Close at once."""


class HttpRequest(Protocol):
    """Whatever awaits its turn to be answered on a connection: an exchange or a page.

    Attributes are those of `Exchange`; `status` and `sent` (bytes) are of the answer.
    """

    target: bytes
    body: bytes
    request_id: bytes | None
    arrived: float
    connection: bytes

    @property
    def method(self) -> bytes:
        """Such as ``b"POST"``."""

    @property
    def route(self) -> Route | None:
        """What the path led to, if that is inference."""

    @property
    def status(self) -> int:
        """Of the answer, 0 before there is one."""

    @property
    def sent(self) -> int:
        """Bytes of the answer."""

    def told(self, name: bytes) -> bytes:
        """A header of an answer by `gateway.web.responses`, empty where it has none."""

    def admit(self, nbytes: int) -> bytes | None:
        """Find room for a body of `nbytes` bytes that is still to come, or say why there is none.

        What was found is given back when it is answered, or `lost`.
        """

    def start(self) -> None:
        """The request is complete: set off whoever makes the answer."""

    def flush(self, transport: Writer) -> bool:
        """It is the oldest now: write what there is; True when that was all of it."""

    def writable(self) -> None:
        """The client has room for more of the answer."""

    def lost(self) -> None:
        """The connection is no more, or reads no more of the request."""


class ResponseChannel(Protocol):
    """The connection that an exchange came by, as far as the exchange knows it.

    Attributes:
        pending: what awaits an answer, oldest first.
        special: True while an answer must go the long way, through `release`.
        inference: who answers.
    """

    pending: list[HttpRequest]
    special: bool
    inference: Inference

    @property
    def transport(self) -> Writer:
        """Where answers are written."""

    def release(self) -> None:
        """Write what the oldest of `pending` have ready, in order."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the HTTP wire allows a client. Sizes in bytes, times in seconds.

    Attributes:
        max_body: of one request's body.
        max_header: of request line and header lines together.
        head_bytes: of heads that are not complete, on all connections together.
        pipelined: requests of one HTTP/1.1 connection in flight before no more is read from it.
        streams: requests of one HTTP/2 connection in flight; one more is refused.
        connections: open at a time; one more is answered 503.
        idle_timeout: between two requests of a connection.
        header_timeout: from a request's first byte to the end of its headers.
        body_timeout: for the body; each 16 KiB that arrive allow a second more.
        write_timeout: without the client taking any byte of its answer.
        linger: for reading on after an early refusal, so that the client can read the answer:
            as long without anything coming, and `linger_most` altogether.
        page_bytes: of the bodies of all requests together that are not inference.
        unread_bytes: of answers that clients have not taken, all connections together; a quarter
            of it on one.
        uploads_per_address: bodies that one client address may have which come slowly.
    """

    max_body: int = 10 * 1024 * 1024
    max_header: int = 64 * 1024
    head_bytes: int = 64 * 1024 * 1024
    pipelined: int = 16
    streams: int = 100
    connections: int = 20_000
    idle_timeout: float = 75.0
    header_timeout: float = 10.0
    body_timeout: float = 20.0
    write_timeout: float = 30.0
    linger: float = 2.0
    linger_most: float = 30.0
    page_bytes: int = 64 * 1024 * 1024
    unread_bytes: int = 256 * 1024 * 1024
    uploads_per_address: int = 256


class Exchange:
    """One inference request and the right to answer it once.

    Attributes:
        route: what the path led to; None only where the wire itself refuses.
        method: ``b"POST"``, the only method of inference.
        target: the request target as it was sent, with its query.
        body: the whole body, as it was sent.
        request_id: the client's ``X-Request-ID`` if it is fit to be repeated (at most 128 visible
            ASCII characters), else None.
        traceparent: the client's, if it is well-formed.
        timeout: seconds that the client's ``X-Request-Timeout`` grants, or None.
        priority: what its ``X-Priority`` asks for: 0 is normal, 1 high.
        fault: code and text of what is wrong with the request's head, None if nothing is;
            whoever takes the request refuses it.
        codings: what the request says of compressed bodies, None if nothing.
        request: whatever the inference wants to find again when the client is gone.
        headers: all header lines, only where the route wants them.
        arrived: monotonic time, seconds, at which the head was complete.
        gone: the client went away; an answer would reach nobody.
    """

    __slots__ = (
        "_answer",
        "_link",
        "arrived",
        "body",
        "codings",
        "connection",
        "fault",
        "gone",
        "headers",
        "priority",
        "request",
        "request_id",
        "route",
        "target",
        "timeout",
        "traceparent",
    )

    def __init__(
        self,
        link: ResponseChannel,
        route: Route | None,
        target: bytes,
        arrived: float,
        connection: bytes,
    ) -> None:
        """Made by the wire when a head is complete. `connection` is `CLOSE`, `KEEP` or empty."""
        self._link: ResponseChannel | None = link
        self._answer: tuple[bytes, Buffer | None] | None = None
        self.route = route
        self.target = target
        self.arrived = arrived
        self.connection = connection
        self.body = b""
        self.gone = False
        self.request: object = None
        self.request_id: bytes | None = None
        self.traceparent: str | None = None
        self.timeout: float | None = None
        self.priority = 0
        self.fault: tuple[str, str] | None = None
        self.codings: compression.ContentCodings | None = None
        self.headers: list[tuple[bytes, bytes]] | None = None

    @property
    def method(self) -> bytes:
        """``b"POST"``, the only method of inference."""
        return b"POST"

    @property
    def status(self) -> int:
        """Of the answer, 0 before there is one."""
        return int(self._answer[0][9:12]) if self._answer else 0

    @property
    def sent(self) -> int:
        """Bytes of the answer, its head included."""
        answer, rest = self._answer or (b"", None)
        return len(answer) + len(rest or b"")

    def told(self, name: bytes) -> bytes:
        """A header of the answer, written as `gateway.web.responses` does; empty if none."""
        answer = self._answer[0] if self._answer else b""
        head = answer[: answer.find(b"\r\n\r\n")]
        return head.partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]

    def writable(self) -> None:
        """An exchange writes all at once: nothing waits for room."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after this answer."""
        return self.connection is not CLOSE

    def respond(self, answer: bytes, rest: Buffer | None = None) -> None:
        """Answer, with bytes that `gateway.web.responses` made; everything but the first call is
        ignored.

        Args:
            answer: head and body, or the head alone.
            rest: the body, if `answer` is only its head. It is not copied, and must not change
                any more.
        """
        link = self._link
        if link is None:
            return
        self._link = None
        if rest is None and not self.connection and not link.special and len(link.pending) == 1:
            link.pending.clear()
            link.transport.write(answer)
            return
        self._answer = (answer, rest)
        link.release()

    def hear(self, kind: int, value: bytes) -> None:
        """Take in a header line of one of the kinds of `gateway.web.headers`. For the wire only."""
        if kind == headers.REQUEST_ID:
            self.request_id = headers.sane_request_id(value)
        elif kind == headers.TRACEPARENT:
            self.traceparent = headers.sane_traceparent(value)
        else:
            self._ask(kind, value)

    def _ask(self, kind: int, value: bytes) -> None:
        """Take in what the client asks for, or what is wrong with it."""
        if kind >= headers.CODING:
            self._ask_coding(kind, value)
            return
        try:
            if kind == headers.TIMEOUT:
                self.timeout = headers.budget_of(value)
            else:
                self.priority = headers.priority_of(value)
        except ValueError as error:
            self.fault = ("bad_request", str(error))

    def _ask_coding(self, kind: int, value: bytes) -> None:
        """Take in how the body is compressed, or how the answer may be."""
        asked = self.codings or compression.ContentCodings()
        if kind == headers.WANTED:
            self.codings = asked._replace(wanted=compression.wanted_by(value))
            return
        try:
            sent = compression.sent_by(value)
            if sent and asked.sent:
                raise ValueError("Content-Encoding names several codings; use one")
            if sent and kind == headers.UNREAD:
                raise ValueError("compression is off here ([gateway] compression); send none")
            self.codings = asked._replace(sent=sent or asked.sent)
        except ValueError as error:
            self.fault = ("unsupported_encoding", str(error))

    def admit(self, nbytes: int) -> bytes | None:
        """See `Inference.admit`. For the wire only."""
        link = self._link
        return link.inference.admit(self, nbytes) if link is not None else None

    def start(self) -> None:
        """The request is complete: hand it to the inference. For the wire only."""
        link = self._link
        if link is not None:
            link.inference.submit(self)

    def flush(self, transport: Writer) -> bool:
        """Write the answer if there is one, and say whether there was. For the wire only."""
        if self._answer is None:
            return False
        answer, rest = self._answer
        if self.connection:
            answer = with_connection(answer, self.connection)
        transport.write(answer)
        if rest is not None:
            transport.write(rest)
        return True

    def lost(self) -> None:
        """The connection is no more: say so to whoever works on this, unless it is answered."""
        self.gone = True
        link, self._link = self._link, None
        if link is not None:
            link.inference.gone(self)

    def __repr__(self) -> str:
        """Show what it asks for and how far it is."""
        state = "gone" if self.gone else "open" if self._link is not None else "answered"
        return f"<Exchange {self.target!r} {len(self.body)} bytes, {state}>"


class BrowserExchange(Exchange):
    """A request whose answer has header lines for the browser that sent it."""

    __slots__ = ("_lines",)

    def __init__(
        self,
        link: ResponseChannel,
        route: Route | None,
        target: bytes,
        arrived: float,
        connection: bytes,
        lines: bytes,
    ) -> None:
        """Made by the wire; `lines` are as `BrowserPolicy.check_origin` makes them."""
        super().__init__(link, route, target, arrived, connection)
        self._lines = lines

    def respond(self, answer: bytes, rest: Buffer | None = None) -> None:
        """Answer, also with what the browser must know."""
        super().respond(with_lines(answer, self._lines), rest)


class RefusedRequest(Exchange):
    """A request that the wire itself refuses, of whatever method and target."""

    __slots__ = ("_method",)

    def __init__(
        self, link: ResponseChannel, method: bytes, target: bytes, arrived: float, connection: bytes
    ) -> None:
        """Made by the wire; method and target are empty where nothing is known of the request."""
        super().__init__(link, None, target, arrived, connection)
        self._method = method

    @property
    def method(self) -> bytes:
        """What it asked for."""
        return self._method
