"""HTTP/1.1 on raw bytes: the hottest code of the gateway.

One `Connection` per client socket. `httptools` calls it back for every piece of a request; once a
head is complete the path decides: an inference route becomes an `Exchange` and never meets any
tornado object; everything else becomes a `Page`, which tornado's `Application` answers. How the
answers leave is the other half, `gateway/lane.py`.

A client that keeps its connection sends the same head again and again, byte for byte. A head that
httptools has accepted is therefore remembered with what it meant, and a segment that consists of
exactly this head and its body is not parsed a second time.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Final, cast

import httptools

from gateway import heads
from gateway.exchange import CLOSE, KEEP, Exchange
from gateway.lane import BODY, CLOSING, DEAF, HEAD, IDLE, LAST, MANY, Lane, Refused, Stop, fold
from gateway.pages import Page, turn_for
from gateway.shared import Shared
from gateway.tunnel import Tunnel
from mesh.messages import Buffer

# A body that is declared to be at least this long needs room before any of it is looked at.
_LARGE: Final = 64 * 1024
# Bytes by which the room for a body of unknown length grows.
_STEP: Final = 64 * 1024
_END: Final = b"\r\n\r\n"
_TOO_LONG: Final = "request line and headers are too long"


class Connection(Lane):
    """One client's connection: the reading half, on top of the answering one."""

    __slots__ = (
        "_admitted",
        "_chunk",
        "_declared",
        "_exchange",
        "_head",
        "_known",
        "_lesson",
        "_names",
        "_parser",
        "_pieces",
        "_plan",
        "_replay",
        "_retiring",
        "_target",
        "_values",
    )

    def __init__(self, shared: Shared) -> None:
        """Nothing is connected yet; asyncio calls `connection_made` next."""
        super().__init__(shared)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._known = shared.known
        self._plan = heads.NO_PLAN  # of the last head; clients repeat the same header lines
        self._target = b""
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._exchange: Exchange | Page | None = None  # whose body is being read
        self._admitted = -1  # bytes of its body for which there is room
        self._pieces: list[Buffer] | None = None  # of a body that came in several
        self._declared = 0  # bytes of its body, as its head says
        self._chunk = 0  # bytes of the segment that is being parsed
        self._head = 0  # bytes of later segments since the phase began, or since the last piece
        self._lesson: tuple[bytes, bytes] | None = None  # target and length of the head just parsed
        self._replay: bytes | None = None  # a head to be read again, without its upgrade
        self._retiring = False

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: count it, or say that it is one too many."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        guests = self._shared.guests
        guests.add(self)
        if len(guests) > self._shared.limits.connections:
            self._refuse("too_many_connections", "too many connections are open")

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is no more; whoever works for it is told."""
        self._phase = CLOSING
        self._forsake()
        self._parser = None  # the parser refers to us: no cycle may stay
        self._shared.leave(self)

    def data_received(self, data: bytes) -> None:
        """Read what came. Everything that follows from it happens before this returns."""
        if self._phase == IDLE:
            start = data.find(_END) + 4
            known = self._known.get(data[:start])
            if known is not None and len(data) - start == known[1]:
                route = self.inference.routes.get(known[0])
                if route is not None and not route.wants_meta and not self._retiring:
                    exchange = Exchange(self, route, known[0], monotonic(), b"")
                    exchange.body = data[start:]
                    self._age = 0.0
                    self._enter(exchange)
                    return
            self._phase = HEAD
            self._age = 0.0
            self._parse(data)
            if self._lesson is not None:
                self._learn(data, start, self._lesson)
        elif self._phase < LAST:
            self._head += len(data)
            self._parse(data)
            if self._head:
                self._check_growth()
        elif self._tunnel is not None:
            self._tunnel.data_received(data)  # not opened yet
        elif self._phase == LAST:
            self._phase = DEAF

    def _parse(self, segment: bytes) -> None:
        """Let httptools call back for what the segment contains."""
        self._chunk = len(segment)
        self._lesson = None
        rest = None
        try:
            self._parser.feed_data(segment)
        except httptools.HttpParserUpgrade as stop:
            rest = segment[stop.args[0] :]
        except httptools.HttpParserCallbackError as error:
            self._stopped(error.__context__)
        except httptools.HttpParserError as error:
            self._malformed(error, segment)
        if rest is not None:  # not while that is handled, which would be the context of any other
            self._parse_again(rest)
        if self._phase == BODY and self._admitted < 0:
            self._await_body()

    def _await_body(self) -> None:
        """Some of the body is still to come, and nobody has asked yet whether there is room."""
        try:
            self._admit(self._declared)
        except Refused as refused:
            self._answer_early(refused.answer)

    def _learn(self, segment: bytes, start: int, lesson: tuple[bytes, bytes]) -> None:
        """Remember the head if the segment was exactly one request; its body begins at `start`."""
        target, length = lesson
        if self._phase == IDLE and len(segment) - start == int(length):
            self._shared.learn(segment[:start], (target, int(length)))

    def _enter(self, exchange: Exchange | Page) -> None:
        """The request is whole: enter it in the order of answers, then set it off."""
        pending = self.pending
        pending.append(exchange)
        if len(pending) > 1:
            self._crowd()
        try:
            exchange.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            pending.remove(exchange)
            exchange.lost()
            self._blame(error)

    # ---- the parser's side

    def on_url(self, url: bytes) -> None:
        """A piece of the request target; the first sign of a request."""
        if self._target:
            self._target += url
        else:
            self._target = url
            self._phase = HEAD

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, or after the body a trailer."""
        self._names.append(name)
        self._values.append(value)

    def on_headers_complete(self) -> None:
        """The fork: inference becomes an `Exchange`, everything else a `Page`."""
        target, names, values = self._target, self._names, self._values
        self._target, self._names, self._values = b"", [], []
        self._phase = BODY
        self._age = 0.0
        if self._head or self._chunk > self._shared.limits.max_header:
            self._check_head(target, names, values)
        plan = self._plan
        if names != plan.names:
            plan = self._plan = heads.plan_for(names, self._shared.coded)
        connection = b""
        parser = self._parser
        if plan.host >= 0 and values[plan.host] != self._shared.host:
            self._check_host(values[plan.host])
        if plan.odd or not parser.should_keep_alive() or self._retiring:
            if plan.upgrades and not self._upgrade(plan, names, values):
                head = heads.Head(parser.get_method(), target, names, values)
                self._replay = heads.without_upgrade(head, parser.get_http_version())
                return
            connection = self._check_plan(plan)
        route = self.inference.routes.get(target)
        direct = route is not None and not route.wants_meta and parser.get_method() == b"POST"
        exchange: Exchange | Page
        if direct:
            exchange = Exchange(self, route, target, monotonic(), connection)
        else:
            exchange = self._begin(target, names, values, connection)
        self._exchange = exchange
        self._admitted = -1
        self._declared = int(values[plan.length]) if plan.length >= 0 else 0
        self._lesson = None
        for kind, index in plan.told:
            exchange.hear(kind, values[index].strip())
        if plan.framing or (plan.length >= 0 and len(values[plan.length]) > self._shared.short):
            self._weigh(plan, values)
        elif plan.plain and direct and not connection:
            self._lesson = (target, values[plan.length])

    def on_body(self, piece: bytes) -> None:
        """A piece of the body; mostly it is the only one and stays as it is."""
        exchange = self._exchange
        assert exchange is not None
        if self._pieces is None and not exchange.body:
            exchange.body = piece
            self._head = 0
            return
        if self._pieces is None:
            self._pieces = [exchange.body]
            self._received = len(exchange.body)
        self._pieces.append(piece)
        self._received += len(piece)
        self._head = 0
        if len(self._pieces) >= MANY:
            fold(self._pieces)
        if self._received > self._shared.limits.max_body:
            raise self._too_large()
        if self._received > self._admitted:
            self._admit(self._received + _STEP)

    def on_message_complete(self) -> None:
        """The request is whole, unless its head is to be read again."""
        exchange = self._exchange
        if exchange is None:
            return  # an upgrade, to be read again without it
        self._exchange = None
        self._phase = LAST if exchange.connection is CLOSE else IDLE
        self._head = 0
        if self._pieces is not None:
            exchange.body = b"".join(self._pieces)
            self._pieces = None
            self._received = 0
        if self._names:
            self._names, self._values = [], []  # trailers mean nothing to us
        self._enter(exchange)
        if (self._retiring or self._phase > LAST) and self._tunnel is None:
            raise Stop

    # ---- a head, in detail

    def _begin(
        self, target: bytes, names: list[bytes], values: list[bytes], connection: bytes
    ) -> Exchange | Page:
        """Take in a request that is not of the plainest kind."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if method == b"CONNECT":
            raise Refused(self._failure("method_not_allowed", "this is no proxy", ("Allow", "")))
        return turn_for(self, heads.Head(method, target, names, values), version, connection)

    def _check_head(self, target: bytes, names: list[bytes], values: list[bytes]) -> None:
        """Measure a head that may be too large: it came in several segments, or in a long one."""
        self._head = 0
        if heads.size_of(target, names, values) > self._shared.limits.max_header:
            raise Refused(self._failure("headers_too_large", _TOO_LONG))

    def _check_host(self, host: bytes) -> None:
        """Refuse a Host that is none, and remember one that is."""
        if not heads.sane_host(host):
            raise Refused(self._failure("bad_request", "the Host header names no host"))
        self._shared.host = host

    def _check_plan(self, plan: heads.Plan) -> bytes:
        """What the answer's Connection header must say. Raises where the head is not acceptable."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            message = f"HTTP/{version} is not spoken here; use HTTP/1.1"
            raise Refused(self._failure("version_not_supported", message))
        if plan.hosts > 1 or (plan.hosts == 0 and version == "1.1"):
            raise Refused(self._failure("bad_request", "a request needs exactly one Host header"))
        if self._retiring or self._tunnel is not None or not self._parser.should_keep_alive():
            return CLOSE  # a tunnel that is not opened leaves nothing to be read
        return KEEP if version == "1.0" else b""

    def _weigh(self, plan: heads.Plan, values: list[bytes]) -> None:
        """Look at a body before it comes: it may be large, of unknown size, or await our word."""
        framing = {kind: values[index] for kind, index in plan.framing}
        chunked = heads.ENCODING in framing
        if chunked:
            self._pieces = []
            self._received = 0
        size = self._declared
        if size > self._shared.limits.max_body:
            raise self._too_large()
        expectation = framing.get(heads.EXPECT)
        if chunked or size >= _LARGE or expectation:
            self._admit(_STEP if chunked else size)
        if expectation is not None and (chunked or size):
            self._expect(expectation)

    def _admit(self, nbytes: int) -> None:
        """Find room for a body of so many bytes. Raises where there is none."""
        assert self._exchange is not None
        answer = self._exchange.admit(nbytes)
        if answer is not None:
            self._admitted = -1
            raise Refused(answer)
        self._admitted = nbytes

    def _drop(self) -> None:
        """Read no more of the request that is being read: it will not be whole."""
        exchange, self._exchange = self._exchange, None
        self._pieces = None
        self._received = 0
        if exchange is not None and self._admitted >= 0:
            exchange.lost()

    def _expect(self, expectation: bytes) -> None:
        """The client waits for our word before it sends the body."""
        if self._parser.get_http_version() != "1.1":
            return
        if expectation.strip().lower() != b"100-continue":
            raise Refused(self._failure("expectation_failed", "only 100-continue can be expected"))
        self._owes_continue = self.special = True
        self._continue()

    # ---- what goes wrong

    def _check_growth(self) -> None:
        """After a later segment of a head or body: bound what the parser keeps to itself."""
        limit = self._shared.limits.max_header
        if self._phase == HEAD and self._head > limit:
            self._refuse("headers_too_large", _TOO_LONG)
        elif self._phase == BODY and self._head > limit:
            self._refuse("headers_too_large", "the body's framing or trailers are too long")

    def _upgrade(self, plan: heads.Plan, names: list[bytes], values: list[bytes]) -> bool:
        """Prepare a WebSocket's upgrade, if it is its turn; False for any other."""
        parser = self._parser
        if not parser.should_upgrade():
            return True  # it is not meant: Connection does not speak of it
        form = (parser.get_method(), parser.get_http_version())
        if self._retiring or self.pending or form != (b"GET", "1.1"):
            return False
        if heads.asks_for_websocket(plan, names, values):
            self._tunnel = Tunnel(self._shared, self.transport)
        return self._tunnel is not None

    def _parse_again(self, rest: bytes) -> None:
        """Read a request that asked for an upgrade as if it had not; it is the last."""
        if self._tunnel is not None:
            self._tunnel.data_received(rest)
            return
        replay, self._replay = self._replay, None
        if replay is not None:
            self._parser = httptools.HttpRequestParser(self)
            self._phase = IDLE
            self._head = 0
            self.data_received(replay + rest)

    def _stopped(self, reason: BaseException | None) -> None:
        """A callback of ours ended the parsing."""
        if isinstance(reason, Refused):
            self._answer_early(reason.answer)
        elif not isinstance(reason, Stop) and self._phase < LAST:
            self._blame(reason)

    def _blame(self, reason: BaseException | None) -> None:
        """A bug of ours, or of whoever serves the inference: log it, answer, go on with others."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an HTTP request raised inside the gateway", "exception": reason}
        )
        self._refuse("server_error", "the gateway failed")

    def _malformed(self, error: httptools.HttpParserError, segment: bytes) -> None:
        """What came is no HTTP/1.1."""
        if self._phase >= LAST:
            self._phase = max(self._phase, DEAF)  # it follows a request that said it was the last
        elif segment.startswith(b"PRI * HTTP/2.0"):
            message = "HTTP/2 can only be spoken from a connection's first byte on"
            self._refuse("version_not_supported", message)
        else:
            self._refuse("bad_request", f"malformed HTTP: {error}")

    def _too_large(self) -> Refused:
        message = f"the body is larger than {self._shared.limits.max_body} bytes"
        return Refused(self._failure("body_too_large", message))

    def _failure(self, code: str, message: str, *headers: tuple[str, str]) -> bytes:
        """The answer to the request that is being read."""
        exchange = self._exchange
        name = exchange.request_id if exchange is not None else None
        return self._shared.failure(code, message, name, headers)

    def _refuse(self, code: str, message: str) -> None:
        self._answer_early(self._failure(code, message))

    def _answer_early(self, answer: bytes) -> None:
        """Answer, in its turn, a request of which more may still come; read none of that."""
        self._phase = DEAF
        self._age = 0.0
        self._drop()
        self._owes_continue = False
        exchange = Exchange(self, None, b"", monotonic(), CLOSE)
        self.pending.append(exchange)
        exchange.respond(answer)

    def _expire(self) -> None:
        if self._phase == IDLE:
            self._close()
        elif self._phase in (HEAD, BODY):
            self._refuse("request_timeout", "the request did not arrive in time")
        else:
            self.transport.abort()

    def retire(self) -> None:
        """Answer what is pending or has begun, take nothing after it, then close."""
        self._retiring = True
        if self._exchange is not None:
            self._exchange.connection = CLOSE
        elif self._phase == IDLE and self.pending:
            self.pending[-1].connection = CLOSE
            self._phase = LAST
        elif self._phase == IDLE:
            self._close()

    def __repr__(self) -> str:
        """Show its phase and how many answers it awaits."""
        return f"<Connection phase {self._phase}, {len(self.pending)} pending>"
