"""One inference request on its way through the gateway, and the service that answers it.

Pure.

The HTTP connections make an `Exchange` of every inference request and hand it, body and all, to an
`Inference`. The answer may come at any later time, from anywhere in the loop's thread:

```python
class Echo:                                        # the smallest Inference
    def __init__(self) -> None:
        self.routes = {b"/echo": Way()}

    def admit(self, exchange: AnyExchange, nbytes: int) -> bytes | None:
        return None

    def submit(self, exchange: AnyExchange) -> None:
        exchange.respond(responses.result(b"1", b"text/plain", b"", exchange.body))

    def gone(self, exchange: AnyExchange) -> None: ...
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from gateway.web import compression, headers
from gateway.web.browser_policy import with_lines
from gateway.web.http_request import CLOSE, HttpRequest, ResponseWriter, Route, with_connection
from mesh.protocol.messages import Buffer

RouteT = TypeVar("RouteT", bound=Route)
ReservationT = TypeVar("ReservationT")
RequestT = TypeVar("RequestT")


class Inference(Protocol[RouteT, ReservationT, RequestT]):
    """The service that answers inference requests: the gateway's, or a stand-in in a test.

    It chooses three types: its routes, what it keeps in an exchange while the body is incomplete,
    and what it keeps there while the request is in flight.
    """

    @property
    def routes(self) -> Mapping[bytes, RouteT]:
        """The routes by path. The set of paths does not change while clients are served."""

    def admit(
        self, exchange: Exchange[RouteT, ReservationT, RequestT], nbytes: int
    ) -> bytes | None:
        """Admit a request whose body is incomplete, with room for `nbytes` bytes of it.

        Called when the head is complete, and again with a greater number if a body of unknown
        length outgrows its room. Not called if the whole request arrives at once. The room is held
        until the request is answered, or until `gone`.

        Returns:
            The whole answer that refuses the request, or None.
        """

    def submit(self, exchange: Exchange[RouteT, ReservationT, RequestT]) -> None:
        """Take a complete request; sooner or later call its `respond`, once."""

    def gone(self, exchange: Exchange[RouteT, ReservationT, RequestT]) -> None:
        """Drop a request whose body will not be complete, or whose client disconnected."""


AnyInference: TypeAlias = Inference[Any, Any, Any]


class ResponseChannel(Protocol):
    """Where an exchange came from and its answer goes: an HTTP/1.1 queue, or an HTTP/2 stream.

    Attributes:
        pending: the requests without an answer, oldest first. An exchange that can be answered at
            once removes itself.
        special: True while answers must be written by `release`.
        inference: the service that answers.
    """

    pending: list[HttpRequest]
    special: bool
    inference: AnyInference

    @property
    def transport(self) -> ResponseWriter:
        """Where answers are written."""

    def release(self) -> None:
        """Write the answers that are ready at the front of `pending`, in order."""


class Exchange(msgspec.Struct, Generic[RouteT, ReservationT, RequestT], eq=False):
    """One inference request and the right to answer it once.

    A `msgspec.Struct`, because every request makes one: it is built without a call of Python code.

    Attributes:
        route: the route of its path; None only if the connection itself refuses the request.
        target: the request target as it was sent, with its query.
        arrived: monotonic time, seconds, at which the head was complete.
        connection: the value of the answer's ``Connection`` header: `CLOSE`, `KEEP` or nothing.
        body: the whole body, as it was sent.
        gone: whether the client disconnected.
        reservation: what the service keeps of it while its body is incomplete.
        request: what the service keeps of it while it is in flight.
        inner: the exchange that is answered in its place if bodies are compressed.
        request_id: the client's ``X-Request-ID`` if it has at most 128 characters, all of them
            visible ASCII, else None.
        traceparent: the client's ``traceparent``, if it is well-formed.
        timeout: seconds that the client's ``X-Request-Timeout`` grants, or None.
        priority: from its ``X-Priority``: 0 is normal, 1 high.
        fault: error code and text if the request's head is wrong, for which the service refuses
            it; else None.
        codings: the compressed encodings that the request uses or accepts, None if it names none.
        headers: all header lines, only if the route wants them.
    """

    awaits_turn: ClassVar[bool] = False

    _channel: ResponseChannel | None
    route: RouteT
    target: bytes
    arrived: float
    connection: bytes = b""
    body: bytes = b""
    gone: bool = False
    reservation: ReservationT | None = None
    request: RequestT | None = None
    inner: AnyExchange | None = None
    request_id: bytes | None = None
    traceparent: str | None = None
    timeout: float | None = None
    priority: int = 0
    fault: tuple[str, str] | None = None
    codings: compression.ContentCodings | None = None
    headers: list[tuple[bytes, bytes]] | None = None
    _answer: tuple[bytes, Buffer | None] | None = None

    @property
    def method(self) -> bytes:
        """``b"POST"``, the only method of inference."""
        return b"POST"

    @property
    def status(self) -> int:
        """The status of the answer, 0 before there is one."""
        return int(self._answer[0][9:12]) if self._answer else 0

    @property
    def sent(self) -> int:
        """Bytes of the answer, its head included."""
        answer, rest = self._answer or (b"", None)
        return len(answer) + len(rest or b"")

    def sent_header(self, name: bytes) -> bytes:
        """The value of an answer's header, as `gateway.web.responses` wrote it; empty if none."""
        answer = self._answer[0] if self._answer else b""
        head = answer[: answer.find(b"\r\n\r\n")]
        return head.partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]

    def writable(self) -> None:
        """Do nothing: an exchange writes all of its answer at once."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after this answer."""
        return self.connection is not CLOSE

    def respond(self, answer: bytes, rest: Buffer | None = None) -> None:
        """Answer with bytes that `gateway.web.responses` made; only the first call counts.

        Args:
            answer: head and body, or the head alone.
            rest: the body, if `answer` is only its head. It is not copied, and must not change
                any more.
        """
        channel = self._channel
        if channel is None:
            return
        self._channel = None
        if (
            rest is None
            and not self.connection
            and not channel.special
            and len(channel.pending) == 1
        ):
            channel.pending.clear()
            channel.transport.write(answer)
            return
        self._answer = (answer, rest)
        channel.release()

    def take_header(self, kind: int, value: bytes) -> None:
        """Read a header line of a kind of `gateway.web.headers`. For the connection only."""
        if kind == headers.REQUEST_ID:
            self.request_id = headers.sane_request_id(value)
        elif kind == headers.TRACEPARENT:
            self.traceparent = headers.sane_traceparent(value)
        else:
            self._ask(kind, value)

    def _ask(self, kind: int, value: bytes) -> None:
        """Read a header by which the client asks for something, or note what is wrong with it."""
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
        """Read how the body is compressed, or how the answer may be."""
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
        """See `Inference.admit`. For the connection only."""
        channel = self._channel
        return channel.inference.admit(self, nbytes) if channel is not None else None

    def start(self) -> None:
        """Submit the request, which is complete, to the service. For the connection only."""
        channel = self._channel
        if channel is not None:
            channel.inference.submit(self)

    def flush(self, transport: ResponseWriter) -> bool:
        """Write the answer, if there is one; return whether there was. For the connection only."""
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
        """Notify the service that the connection is gone, unless this is answered."""
        self.gone = True
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.inference.gone(self)

    def __repr__(self) -> str:
        """Show the target and the state."""
        state = "gone" if self.gone else "open" if self._channel is not None else "answered"
        return f"<Exchange {self.target!r} {len(self.body)} bytes, {state}>"


AnyExchange: TypeAlias = Exchange[Any, Any, Any]


class BrowserExchange(Exchange[RouteT, ReservationT, RequestT], eq=False):
    """A request whose answer has header lines for the browser that sent it.

    Attributes:
        lines: as `BrowserPolicy.check_origin` makes them.
    """

    lines: bytes = b""

    def respond(self, answer: bytes, rest: Buffer | None = None) -> None:
        """Answer with the browser's header lines added."""
        super().respond(with_lines(answer, self.lines), rest)


class RefusedRequest(Exchange[Any, Any, Any], eq=False):
    """A request of any method and target that the connection itself refuses.

    Attributes:
        asked_method: its method; empty, like the target, if it is unknown.
    """

    asked_method: bytes = b""

    @property
    def method(self) -> bytes:
        """The request's method."""
        return self.asked_method
