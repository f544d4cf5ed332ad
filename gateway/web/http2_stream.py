"""One request on an HTTP/2 connection.

A `Stream` is to its request what a whole connection is in HTTP/1.1: it reads the request and sends
the answer (`gateway/web/http2_answer.py`).
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from h2.connection import H2Connection
from tornado.httputil import HTTPServerConnectionDelegate

from gateway.web import headers, uploads
from gateway.web.browser_policy import with_lines
from gateway.web.byte_budget import ByteBudget
from gateway.web.exchange import AnyInference, RefusedRequest
from gateway.web.front_protocols import open_request
from gateway.web.headers import HeaderLayout, RequestHead
from gateway.web.http2_answer import StreamAnswer
from gateway.web.http_request import HttpRequest, ResponseWriter
from gateway.web.limits import BODY_BYTES_PER_S, BODY_STEP_BYTES
from gateway.web.request_checks import (
    RequestRefused,
    browser_lines,
    check_expectation,
    check_host,
    check_length,
    check_size,
    check_target,
)
from gateway.web.server_state import CLIENT_GONE, ServerState
from gateway.web.tornado_adapter import ClientAddress
from gateway.web.unread import Charged
from gateway.web.websocket_stream import WebSocketStream
from mesh.protocol.messages import Buffer


class StreamOwner(Protocol):
    """The interface of the connection to its streams."""

    @property
    def server(self) -> ServerState:
        """The state that all connections share."""

    @property
    def client_address(self) -> ClientAddress:
        """Who asks."""

    @property
    def is_behind(self) -> bool:
        """Whether the client has left so much unread that it may send no further request."""

    def due(self, stream: Stream) -> None:
        """Send what the stream has ready."""

    def later(self, stream: Stream) -> None:
        """Schedule a call of the stream's `set_off`."""

    def cancel(self, stream: Stream) -> None:
        """The stream cannot be answered any more."""


class Stream:
    """A request that is being read, awaits its answer, or is being answered.

    Attributes:
        number: the stream's number in HTTP/2.
        inference: the service that answers inference requests.
        pending: the request, from when it is complete until its answer is.
        special: always True: answers are written by `release`.
        answer: the answer, as far as it is not sent.
        received: bytes of the body so far.
        whole: whether the client has sent everything.
        charged: the route that is charged for the answer, if it is inference.
    """

    special: bool = True

    __slots__ = (
        "_admitted",
        "_age",
        "_asked",
        "_body",
        "_lines",
        "_lingered",
        "_owner",
        "_request",
        "_server",
        "_slow_client",
        "answer",
        "charged",
        "inference",
        "number",
        "pending",
        "received",
        "whole",
    )

    def __init__(self, owner: StreamOwner, number: int) -> None:
        """Create the stream of a request whose head arrived; `begin` reads the head."""
        self._owner = owner
        self._server = owner.server
        self.inference: AnyInference = self._server.inference
        self.number = number
        self.pending: list[HttpRequest] = []
        self.answer = StreamAnswer(number)
        self.received = 0
        self.whole = False
        self.charged: Charged | None = None
        self._age = 0.0  # seconds without progress, counted by the sweep
        self._lingered = 0.0  # seconds for which its body has been discarded
        self._request: HttpRequest | None = None  # the request whose body is being read
        self._slow_client = ""  # the client that is counted as sending it slowly
        self._admitted = -1  # reserved bytes of the body
        self._asked = (b"", b"")  # its method and target
        self._body = bytearray()
        self._lines = b""  # header lines of the answer if a browser sent the request

    # ---- the request

    def begin(self, head: RequestHead, ended: bool) -> None:
        """Read the head; `ended` means that no body follows."""
        self.whole = ended
        self._asked = (head.method, head.target)
        layout = headers.layout_for(head.names, self._server.coded)
        try:
            self._check(head, layout)
            request = self._request = open_request(self, head, lines=self._lines)
            for kind, index in layout.told:
                request.take_header(kind, head.values[index])
            self._weigh(request, layout, head.values)
        except RequestRefused as refused:
            self._refuse(refused)
            return
        if ended:
            self.end()

    def _check(self, head: RequestHead, layout: HeaderLayout) -> None:
        """Refuse a head that would be refused, or invalid, in HTTP/1.1."""
        server, method, target = self._server, head.method, head.target
        if layout.browser:
            self._lines = browser_lines(method, layout, head.values, server)
        host = head.values[layout.host] if layout.hosts == 1 else b""
        is_sane = layout.hosts == 1 and headers.sane_host(host)
        if is_sane and host not in server.hosts:
            check_host(host, target, server)
        if self._owner.is_behind:
            text = "too much of former answers is unread on this connection"
            raise RequestRefused("overloaded", text)
        check_size(target, head.names, head.values, server)
        if not is_sane:
            text = "a request needs exactly one :authority or Host"
            raise RequestRefused("bad_request", text)
        if method == b"CONNECT":
            check_target(method, target, server)
        if not headers.sane_target(target, method):
            raise RequestRefused("bad_request", "the request's :path is not a path")
        if not headers.sane_lines(head):
            text = "a header line contains what no header line may"
            raise RequestRefused("bad_request", text)

    def _weigh(self, request: HttpRequest, layout: HeaderLayout, values: list[bytes]) -> None:
        """Check a body before it arrives: its size, the room for it, and whether to ask for it."""
        size = int(values[layout.length]) if layout.length >= 0 else 0
        check_length(size, self._server)
        if self.whole:
            return
        self._admit(request, size if layout.length >= 0 else BODY_STEP_BYTES)
        expectation = dict(layout.framing).get(headers.EXPECT)
        if expectation is not None:
            check_expectation(values[expectation])
            self.answer.owe_continue(True)
            self._owner.due(self)

    def _admit(self, request: HttpRequest, nbytes: int) -> None:
        """Reserve room for the body; raise `RequestRefused` if there is none."""
        answer = request.admit(nbytes)
        if answer is not None:
            raise RequestRefused(answer=answer)
        self._admitted = nbytes

    def read(self, piece: bytes) -> None:
        """Add a piece of the body."""
        self.received += len(piece)
        request = self._request
        if request is None:
            if self._lingered < self._server.limits.linger_most:
                self._age = 0.0
            return  # refused: further input is discarded
        self._body += piece
        try:
            if self.received > self._server.limits.max_body:
                check_length(self.received, self._server)
            if self.received > self._admitted:
                self._admit(request, self.received + BODY_STEP_BYTES)
        except RequestRefused as refused:
            self._refuse(refused)

    def end(self) -> None:
        """Start the request, which is complete."""
        self.whole = True
        request, self._request = self._request, None
        self._end_slow()
        if request is None:
            return
        self._age = 0.0
        self.answer.owe_continue(False)
        request.body = bytes(self._body)
        self._body.clear()
        self.pending.append(request)
        if request.awaits_turn:
            self._owner.later(self)
        else:
            self.set_off()

    def end_input(self) -> None:
        """Drop an incomplete request: the client sends nothing more, on any stream."""
        self.whole = True

    def set_off(self) -> None:
        """Start the answer, if the client is still connected."""
        try:
            for request in self.pending:
                request.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            self._blame(error)

    @property
    def reading(self) -> bool:
        """Whether more of the body must be read."""
        return self._request is not None

    @property
    def held(self) -> int:
        """The bytes of the body that are buffered for this request."""
        return len(self._body) + sum([len(request.body) for request in self.pending])

    def _end_slow(self) -> None:
        """Stop counting the body as a slow one: it is complete or dropped."""
        client, self._slow_client = self._slow_client, ""
        if client:
            self._server.uploads.end(client)

    # ---- refusals

    def _refuse(self, refused: RequestRefused) -> None:
        """Refuse a request that may not be complete.

        Its further input is discarded for a while: many clients read an answer only after they have
        sent everything, and treat a reset as a failure even if it follows a complete answer.
        """
        name = self._request.request_id if self._request is not None else None
        answer = refused.answer or self._server.failure(
            refused.code, refused.message, name, refused.headers
        )
        self._drop()
        self._body.clear()
        self.answer.owe_continue(False)
        method, target = self._asked
        request = RefusedRequest(self, None, target, monotonic(), asked_method=method)
        self.pending.append(request)
        request.respond(with_lines(answer, self._lines) if self._lines else answer)

    def _blame(self, reason: BaseException) -> None:
        """Log an internal error and answer 500; the other streams go on."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an HTTP request raised inside the gateway", "exception": reason}
        )
        self.lost()
        if self.answer.told:
            self._owner.cancel(self)
        else:
            self._refuse(RequestRefused("server_error", "the gateway failed"))

    # ---- what requests ask of it

    @property
    def transport(self) -> ResponseWriter:
        """The transport of answers: this stream."""
        return self

    @property
    def application(self) -> HTTPServerConnectionDelegate:
        """The tornado application that answers what is not inference."""
        return self._server.application

    @property
    def client_address(self) -> ClientAddress:
        """Who asks."""
        return self._owner.client_address

    @property
    def choked(self) -> bool:
        """True while the client does not read what was written."""
        return self.answer.is_behind

    @property
    def room(self) -> ByteBudget:
        """The room for the bodies of pages' requests."""
        return self._server.room

    @property
    def vary(self) -> bytes:
        """The header lines of pages for clients that are no browsers."""
        return self._server.browsers.vary

    def name(self) -> bytes:
        """Return an id for a request without one."""
        return self._server.name()

    def release(self) -> None:
        """Write the answer as far as it is ready."""
        if self.pending and self.pending[0].flush(self) and self.pending:
            request = self.pending.pop()
            self.charged = request.route
            if self._server.access is not None:
                self._server.access(request, self.client_address.remote_ip)
            self.answer.finish()
            self._owner.due(self)

    def hand_over(self) -> WebSocketStream:
        """Raise RuntimeError: a stream cannot be upgraded."""
        raise RuntimeError("an HTTP/2 stream cannot be detached")

    def write(self, piece: Buffer, /) -> None:
        """Keep a piece of the answer until it can be sent; the first one begins with its head."""
        try:
            self.answer.add(piece)
        except ValueError as error:
            self._blame(error)
            return
        self._owner.due(self)

    def abort(self) -> None:
        """Reset the stream: the answer cannot be completed."""
        self._owner.cancel(self)

    # ---- the connection's side

    def advance(self, wire: H2Connection) -> int:
        """Send part of the answer; return the approximate bytes, 0 if nothing can be sent now."""
        sent = self.answer.advance(wire)
        if sent:
            self._age = 0.0
            for request in self.pending:
                request.writable()
        return sent

    def lost(self) -> None:
        """End the stream: the client cancelled it, or cannot receive the answer."""
        self._drop()
        self._body.clear()
        self.answer.drop()
        pending, self.pending = self.pending, []
        for request in pending:
            if self._server.access is not None:
                self._server.access(request, self.client_address.remote_ip, CLIENT_GONE)
            request.lost()

    def _drop(self) -> None:
        """Drop the request: it will not be complete."""
        self._end_slow()
        request, self._request = self._request, None
        if request is not None and self._admitted >= 0:
            request.lost()

    def tick(self, step: float) -> None:
        """Enforce the time limits after `step` more seconds. Called by the server's sweep."""
        limits = self._server.limits
        self._age += step
        if self._request is not None:
            if self._age >= limits.body_timeout + self.received / BODY_BYTES_PER_S:
                self._refuse(
                    RequestRefused("request_timeout", "the request did not arrive in time")
                )
            elif self._age >= uploads.SLOW_S:
                self._count_slow()
        elif self.answer.over:
            self._lingered += step
            if self._age >= limits.linger:
                self._owner.cancel(self)
        elif not self.answer.waits:
            self._age = 0.0  # the service that answers has its own time limits
        elif self._age >= limits.write_timeout:
            self._owner.cancel(self)

    def _count_slow(self) -> None:
        """Count a slow body, once; refuse it if its client has too many."""
        if not self._slow_client:
            self._slow_client = self._server.uploads.count(self.client_address.remote_ip)
            if not self._slow_client:
                self._refuse(RequestRefused("overloaded", uploads.TOO_MANY))

    def patient(self) -> None:
        """Reset the time without progress: it is not the client's fault that nothing comes."""
        self._age = 0.0

    def __repr__(self) -> str:
        """Show the number and the state."""
        state = "reading" if self.reading else "pending" if self.pending else "answered"
        return f"<Stream {self.number}, {state}>"
