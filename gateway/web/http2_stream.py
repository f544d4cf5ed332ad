"""One request on an HTTP/2 connection, and its answer.

A `Stream` is to its `Exchange` or `Page` what a whole connection is in HTTP/1.1: where it came
from, and where its answer goes. Exchanges and pages write HTTP/1.1; the stream takes their heads
apart and sends the rest as DATA, as fast as the client opens its windows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final, Protocol

from h2.connection import H2Connection
from tornado.httputil import HTTPServerConnectionDelegate

from gateway.web import headers as heads
from gateway.web import responses as answers
from gateway.web import uploads
from gateway.web.browser_policy import NotServed, pairs_of, told_by, with_lines
from gateway.web.exchange import Exchange, Refusal, Turn, Writer
from gateway.web.room import Room
from gateway.web.server_state import CLIENT_GONE, Shared
from gateway.web.tornado_adapter import Origin, Page, turn_for
from gateway.web.unread import Charged
from gateway.web.websocket_stream import Tunnel
from mesh.protocol.messages import Buffer

# Bytes by which the room for a body of unknown length grows.
_STEP: Final = 64 * 1024
# Bytes that may wait to be sent before a page is told to stop writing.
_HIGH: Final = 64 * 1024
# Bytes that a stream sends before others have their turn.
_SHARE: Final = 64 * 1024
_HEAD_BYTES: Final = 512  # what the head of an answer counts as while it is not sent
_BYTES_PER_SECOND: Final = 16 * 1024
_END: Final = b"\r\n\r\n"


class Carrier(Protocol):
    """The connection that carries the streams, as far as they know it."""

    @property
    def shared(self) -> Shared:
        """What all connections of the server have in common."""

    @property
    def origin(self) -> Origin:
        """Who asks."""

    @property
    def client(self) -> str:
        """Who asks, as far as slow bodies are counted."""

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
        received: bytes of the body so far.
        owed: bytes of its window that the client has used and was not given again.
        whole: the client has sent everything.
        over: the answer has been sent to its end.
        charged: the route that the answer is of, if it is inference.
    """

    special: bool = True

    __slots__ = (
        "_admitted",
        "_age",
        "_asked",
        "_body",
        "_carrier",
        "_finished",
        "_head",
        "_lines",
        "_lingered",
        "_owes_continue",
        "_parts",
        "_shared",
        "_told",
        "_turn",
        "_unsent",
        "_uploading",
        "charged",
        "inference",
        "number",
        "over",
        "owed",
        "pending",
        "received",
        "whole",
    )

    def __init__(self, carrier: Carrier, number: int) -> None:
        """Made when the head of a request has come; `begin` reads it."""
        self._carrier = carrier
        self._shared = carrier.shared
        self.inference = self._shared.inference
        self.number = number
        self.pending: list[Turn] = []
        self.received = 0
        self.owed = 0
        self.whole = False
        self.over = False
        self.charged: Charged | None = None
        self._age = 0.0  # seconds without progress, as the sweep counts them
        self._lingered = 0.0  # seconds for which its body has been thrown away
        self._turn: Exchange | Page | None = None  # whose body is being read
        self._uploading = False  # it is counted as slow
        self._admitted = -1  # bytes of it for which there is room
        self._asked = (b"", b"")  # method and target
        self._body = bytearray()
        self._lines = b""  # of the answer, for the browser that asks
        self._owes_continue = False
        self._head: list[tuple[bytes, bytes]] | None = None  # of the answer, while not sent
        self._told = False  # the answer's head is known
        self._parts: deque[memoryview] = deque()  # of its body
        self._unsent = 0
        self._finished = False  # nothing will be added to them

    # ---- the request

    def begin(self, head: heads.Head, ended: bool) -> None:
        """A head came; `ended` says that no body follows."""
        self.whole = ended
        self._asked = (head.method, head.target)
        plan = heads.plan_for(head.names, self._shared.coded)
        try:
            self._check_browser(head, plan)
        except NotServed as refused:
            headers = pairs_of(self._shared.browsers.vary)
            self._refuse(refused.code, str(refused), *headers)
            return
        if self._carrier.is_behind:
            self._refuse("overloaded", "too much of former answers is unread on this connection")
        elif heads.size_of(head.target, head.names, head.values) > self._shared.limits.max_header:
            self._refuse("headers_too_large", "the headers are too long")
        elif plan.hosts != 1 or not heads.sane_host(head.values[plan.host]):
            self._refuse("bad_request", "a request needs exactly one :authority or Host")
        elif head.method == b"CONNECT":
            self._refuse("method_not_allowed", "this is no proxy", ("Allow", ""))
        elif not heads.sane_target(head.target, head.method):
            self._refuse("bad_request", "the request's :path is not a path")
        elif not heads.sane_lines(head):
            self._refuse("bad_request", "a header line contains what no header line may")
        else:
            vary = self._shared.browsers.vary
            turn = self._turn = turn_for(self, head, "2.0", b"", self._lines, vary)
            for kind, index in plan.told:
                turn.hear(kind, head.values[index])
            self._weigh(turn, plan, head.values)
            if ended:
                self.end()

    def _check_browser(self, head: heads.Head, plan: heads.Plan) -> None:
        """Find out what the answer must say. Raises `NotServed`: a name or page of strangers."""
        shared = self._shared
        host = head.values[plan.host] if plan.host >= 0 else b""
        if plan.browser:
            told = told_by(plan.browser, head.values)
            self._lines = shared.browsers.check_origin(head.method, host, told)
        is_new = host not in shared.hosts and heads.sane_host(host)
        if is_new and shared.browsers.check_host(host, head.target):
            shared.learn_host(host)

    def _weigh(self, turn: Exchange | Page, plan: heads.Plan, values: list[bytes]) -> None:
        """Look at a body before it comes: it may be too large, find no room, or await our word."""
        size = int(values[plan.length]) if plan.length >= 0 else 0
        expectation = dict(plan.framing).get(heads.EXPECT)
        if size > self._shared.limits.max_body:
            self._refuse_body()
        elif not self.whole:
            self._admit(turn, size if plan.length >= 0 else _STEP)
        if expectation is not None and self._turn is not None and not self.whole:
            self._expect(values[expectation])

    def _admit(self, turn: Exchange | Page, nbytes: int) -> None:
        """Find room for the body, or refuse it."""
        answer = turn.admit(nbytes)
        if answer is None:
            self._admitted = nbytes
        else:
            self._answer_early(answer)

    def _begin_upload(self) -> bool:
        """Count a slow body; False if its client has too many."""
        self._uploading = self._shared.uploads.begin(self._carrier.client)
        return self._uploading

    def _end_upload(self) -> None:
        """The body is whole, or given up."""
        if self._uploading:
            self._uploading = False
            self._shared.uploads.end(self._carrier.client)

    def _expect(self, expectation: bytes) -> None:
        """The client waits for our word before it sends the body."""
        if expectation.lower() != b"100-continue":
            self._refuse("expectation_failed", "only 100-continue can be expected")
            return
        self._owes_continue = True
        self._carrier.due(self)

    def read(self, piece: bytes) -> None:
        """A piece of the body came."""
        self.received += len(piece)
        turn = self._turn
        if turn is None:
            if self._lingered < self._shared.limits.linger_most:
                self._age = 0.0
            return  # refused: what still comes is thrown away
        self._body += piece
        if self.received > self._shared.limits.max_body:
            self._refuse_body()
        elif self.received > self._admitted:
            self._admit(turn, self.received + _STEP)

    def end(self) -> None:
        """The request is whole: set it off."""
        self.whole = True
        turn, self._turn = self._turn, None
        self._end_upload()
        if turn is None:
            return
        self._age = 0.0
        self._owes_continue = False
        turn.body = bytes(self._body)
        self._body.clear()
        self.pending.append(turn)
        if isinstance(turn, Page):
            self._carrier.later(self)
        else:
            self.set_off()

    def set_off(self) -> None:
        """Let whoever makes the answer begin, if the client is still there."""
        try:
            for turn in self.pending:
                turn.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            self._blame(error)

    @property
    def reading(self) -> bool:
        """Whether more of the body is to come and is wanted."""
        return self._turn is not None

    @property
    def held(self) -> int:
        """Bytes of the body that are kept for this request."""
        return len(self._body) + sum([len(turn.body) for turn in self.pending])

    # ---- refusals

    def _refuse_body(self) -> None:
        message = f"the body is larger than {self._shared.limits.max_body} bytes"
        self._refuse("body_too_large", message)

    def _refuse(self, code: str, message: str, *headers: tuple[str, str]) -> None:
        name = self._turn.request_id if self._turn is not None else None
        self._answer_early(self._shared.failure(code, message, name, headers))

    def _answer_early(self, answer: bytes) -> None:
        """Answer a request of which more may still come.

        That is thrown away for a while: many clients look at an answer only after they have sent
        everything, and take a reset for a failure even when it follows a whole answer.
        """
        self._drop()
        self._body.clear()
        self._owes_continue = False
        exchange = Refusal(self, *self._asked, monotonic(), b"")
        self.pending.append(exchange)
        exchange.respond(with_lines(answer, self._lines) if self._lines else answer)

    def _blame(self, reason: BaseException) -> None:
        """A bug of ours, or of whoever serves the inference: log it, answer, go on with others."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an HTTP request raised inside the gateway", "exception": reason}
        )
        self.lost()
        if self._told:
            self._carrier.cancel(self)
        else:
            self._refuse("server_error", "the gateway failed")

    # ---- what exchanges and pages need of a connection

    @property
    def transport(self) -> Writer:
        """Where answers are written: this stream."""
        return self

    @property
    def application(self) -> HTTPServerConnectionDelegate:
        """Who answers what is not inference."""
        return self._shared.application

    @property
    def origin(self) -> Origin:
        """Who asks."""
        return self._carrier.origin

    @property
    def choked(self) -> bool:
        """True while the client does not take what was written."""
        return self._unsent >= _HIGH

    @property
    def room(self) -> Room:
        """For the bodies of pages' requests."""
        return self._shared.room

    def name(self) -> bytes:
        """An id for a request that came without one."""
        return self._shared.name()

    def release(self) -> None:
        """Take what the answer has ready."""
        if self.pending and self.pending[0].flush(self) and self.pending:
            turn = self.pending.pop()
            self.charged = turn.route
            if self._shared.access is not None:
                self._shared.access(turn, self.origin.remote_ip)
            self._finished = True
            self._carrier.due(self)

    def hand_over(self) -> Tunnel:
        """Refused: a stream is not a connection."""
        raise RuntimeError("an HTTP/2 stream cannot be detached")

    def write(self, piece: Buffer, /) -> None:
        """Keep a piece of the answer until it can be sent; the first one begins with its head."""
        if not self._told:
            head, _, piece = bytes(piece).partition(_END)
            self._told = True
            try:
                self._head = answers.parted(head)
            except ValueError as error:
                self._blame(error)
                return
        if len(piece):
            self._parts.append(memoryview(piece))
            self._unsent += len(piece)
        self._carrier.due(self)

    def abort(self) -> None:
        """The answer cannot be completed."""
        self._carrier.cancel(self)

    # ---- the answer

    def advance(self, wire: H2Connection) -> int:
        """Hand some frames to h2; returns about how many bytes, 0 if nothing can be sent now."""
        sent = 0
        if self._owes_continue:
            self._owes_continue = False
            wire.send_headers(self.number, [(b":status", b"100")])
            sent += 1
        if self._head is not None:
            sent += self._send_head(wire)
        while self._parts and sent < _SHARE:
            room = wire.local_flow_control_window(self.number)
            if room <= 0:
                break
            sent += self._send_part(wire, min(room, wire.max_outbound_frame_size, _SHARE))
        if self._finished and self._told and not (self._parts or self.over):
            wire.end_stream(self.number)
            self.over = True
            sent += 1
        if sent:
            self._age = 0.0
            for turn in self.pending:
                turn.writable()
        return sent

    def _send_head(self, wire: H2Connection) -> int:
        assert self._head is not None
        self.over = self._finished and not self._parts
        wire.send_headers(self.number, self._head, end_stream=self.over)
        self._head = None
        return 1

    def _send_part(self, wire: H2Connection, room: int) -> int:
        part = self._parts[0]
        if len(part) > room:
            part, self._parts[0] = part[:room], part[room:]
        else:
            self._parts.popleft()
        self._unsent -= len(part)
        self.over = self._finished and not self._parts
        wire.send_data(self.number, part, end_stream=self.over)
        return len(part)

    @property
    def unsent(self) -> int:
        """About how many bytes of the answer are left to be sent."""
        return self._unsent if self._head is None else self._unsent + _HEAD_BYTES

    @property
    def waits(self) -> bool:
        """Whether something is left to be sent as soon as there is room."""
        return bool(self._parts)

    def lost(self) -> None:
        """The client does not want the answer any more, or cannot get it."""
        self._drop()
        self._body.clear()
        self._parts.clear()
        self._unsent = 0
        pending, self.pending = self.pending, []
        for turn in pending:
            if self._shared.access is not None:
                self._shared.access(turn, self.origin.remote_ip, CLIENT_GONE)
            turn.lost()

    def _drop(self) -> None:
        """Read no more of the request: it will not be whole."""
        self._end_upload()
        turn, self._turn = self._turn, None
        if turn is not None and self._admitted >= 0:
            turn.lost()

    # ---- time

    def tick(self, step: float) -> None:
        """`step` seconds have passed: end what takes too long. Called by the server's sweep."""
        limits = self._shared.limits
        self._age += step
        if self._turn is not None:
            if self._age >= limits.body_timeout + self.received / _BYTES_PER_SECOND:
                self._refuse("request_timeout", "the request did not arrive in time")
            elif self._age >= uploads.SLOW_S and not (self._uploading or self._begin_upload()):
                self._refuse("overloaded", uploads.TOO_MANY)
        elif self.over:
            self._lingered += step
            if self._age >= limits.linger:
                self._carrier.cancel(self)
        elif not self._parts:
            self._age = 0.0  # whoever answers has clocks of its own
        elif self._age >= limits.write_timeout:
            self._carrier.cancel(self)

    def patient(self) -> None:
        """It is not the client's fault that nothing comes."""
        self._age = 0.0

    def __repr__(self) -> str:
        """Show its number and how far it is."""
        state = "reading" if self.reading else "pending" if self.pending else "answered"
        return f"<Stream {self.number}, {state}>"
