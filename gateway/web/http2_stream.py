"""One request on an HTTP/2 connection.

A `Stream` is to its request what a whole connection is in HTTP/1.1: where it came from, and where
its answer goes (`gateway/web/http2_answer.py`).
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
    """The connection that carries the streams, as far as they know it."""

    @property
    def server(self) -> ServerState:
        """What all connections of the server have in common."""

    @property
    def client_address(self) -> ClientAddress:
        """Who asks."""

    @property
    def is_behind(self) -> bool:
        """Whether the client has left so much unread that it may ask for nothing more."""

    def due(self, stream: Stream) -> None:
        """The stream has something to send."""

    def later(self, stream: Stream) -> None:
        """Have the stream's `set_off` called, not at once."""

    def cancel(self, stream: Stream) -> None:
        """The stream cannot be answered any more."""


class Stream:
    """A request that is being read, awaits its answer, or is being answered.

    Attributes:
        number: HTTP/2's.
        inference: who answers inference requests.
        pending: the request, once it is whole, until its answer is.
        special: True: answers always go through `release`.
        answer: what is to be sent.
        received: bytes of the body so far.
        whole: the client has sent everything.
        charged: the route that the answer is of, if it is inference.
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
        """Made when the head of a request has come; `begin` reads it."""
        self._owner = owner
        self._server = owner.server
        self.inference: AnyInference = self._server.inference
        self.number = number
        self.pending: list[HttpRequest] = []
        self.answer = StreamAnswer(number)
        self.received = 0
        self.whole = False
        self.charged: Charged | None = None
        self._age = 0.0  # seconds without progress, as the sweep counts them
        self._lingered = 0.0  # seconds for which its body has been thrown away
        self._request: HttpRequest | None = None  # whose body is being read
        self._slow_client = ""  # who is counted as sending it slowly
        self._admitted = -1  # bytes of it for which there is room
        self._asked = (b"", b"")  # method and target
        self._body = bytearray()
        self._lines = b""  # of the answer, for the browser that asks

    # ---- the request

    def begin(self, head: RequestHead, ended: bool) -> None:
        """A head came; `ended` says that no body follows."""
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
        """Refuse a head that HTTP/1.1 would refuse, or that would not be one there."""
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
        """Look at a body before it comes: it may be too large, find no room, or await our word."""
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
        """Find room for the body. Raises where there is none."""
        answer = request.admit(nbytes)
        if answer is not None:
            raise RequestRefused(answer=answer)
        self._admitted = nbytes

    def read(self, piece: bytes) -> None:
        """A piece of the body came."""
        self.received += len(piece)
        request = self._request
        if request is None:
            if self._lingered < self._server.limits.linger_most:
                self._age = 0.0
            return  # refused: what still comes is thrown away
        self._body += piece
        try:
            if self.received > self._server.limits.max_body:
                check_length(self.received, self._server)
            if self.received > self._admitted:
                self._admit(request, self.received + BODY_STEP_BYTES)
        except RequestRefused as refused:
            self._refuse(refused)

    def end(self) -> None:
        """The request is whole: set it off."""
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
        """The client sends nothing more, on any stream."""
        self.whole = True

    def set_off(self) -> None:
        """Start making the answer, if the client is still there."""
        try:
            for request in self.pending:
                request.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            self._blame(error)

    @property
    def reading(self) -> bool:
        """Whether more of the body is to come and is wanted."""
        return self._request is not None

    @property
    def held(self) -> int:
        """Bytes of the body that are kept for this request."""
        return len(self._body) + sum([len(request.body) for request in self.pending])

    def _end_slow(self) -> None:
        """The body is whole, or given up."""
        client, self._slow_client = self._slow_client, ""
        if client:
            self._server.uploads.end(client)

    # ---- refusals

    def _refuse(self, refused: RequestRefused) -> None:
        """Answer a request of which more may still come.

        That is thrown away for a while: many clients look at an answer only after they have sent
        everything, and take a reset for a failure even when it follows a whole answer.
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
        """A bug of ours, or of the inference service: log it, answer, go on with others."""
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
        """Where answers are written: this stream."""
        return self

    @property
    def application(self) -> HTTPServerConnectionDelegate:
        """Who answers what is not inference."""
        return self._server.application

    @property
    def client_address(self) -> ClientAddress:
        """Who asks."""
        return self._owner.client_address

    @property
    def choked(self) -> bool:
        """True while the client does not take what was written."""
        return self.answer.is_behind

    @property
    def room(self) -> ByteBudget:
        """For bodies of pages."""
        return self._server.room

    @property
    def vary(self) -> bytes:
        """Header lines of pages that no browser asks for."""
        return self._server.browsers.vary

    def name(self) -> bytes:
        """An id for a request that came without one."""
        return self._server.name()

    def release(self) -> None:
        """Take what the answer has ready."""
        if self.pending and self.pending[0].flush(self) and self.pending:
            request = self.pending.pop()
            self.charged = request.route
            if self._server.access is not None:
                self._server.access(request, self.client_address.remote_ip)
            self.answer.finish()
            self._owner.due(self)

    def hand_over(self) -> WebSocketStream:
        """Refused: a stream is not a connection."""
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
        """The answer cannot be completed."""
        self._owner.cancel(self)

    # ---- the connection's side

    def advance(self, wire: H2Connection) -> int:
        """Send some of the answer; returns about how many bytes, 0 if nothing can be sent now."""
        sent = self.answer.advance(wire)
        if sent:
            self._age = 0.0
            for request in self.pending:
                request.writable()
        return sent

    def lost(self) -> None:
        """The client does not want the answer any more, or cannot get it."""
        self._drop()
        self._body.clear()
        self.answer.drop()
        pending, self.pending = self.pending, []
        for request in pending:
            if self._server.access is not None:
                self._server.access(request, self.client_address.remote_ip, CLIENT_GONE)
            request.lost()

    def _drop(self) -> None:
        """Read no more of the request: it will not be whole."""
        self._end_slow()
        request, self._request = self._request, None
        if request is not None and self._admitted >= 0:
            request.lost()

    def tick(self, step: float) -> None:
        """`step` seconds have passed: end what takes too long. Called by the server's sweep."""
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
            self._age = 0.0  # what answers has clocks of its own
        elif self._age >= limits.write_timeout:
            self._owner.cancel(self)

    def _count_slow(self) -> None:
        """Count a slow body, once; refuse it if its client has too many."""
        if not self._slow_client:
            self._slow_client = self._server.uploads.count(self.client_address.remote_ip)
            if not self._slow_client:
                self._refuse(RequestRefused("overloaded", uploads.TOO_MANY))

    def patient(self) -> None:
        """It is not the client's fault that nothing comes."""
        self._age = 0.0

    def __repr__(self) -> str:
        """Show its number and how far it is."""
        state = "reading" if self.reading else "pending" if self.pending else "answered"
        return f"<Stream {self.number}, {state}>"
