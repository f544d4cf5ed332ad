"""HTTP/1.1 on raw bytes: the hottest code of the gateway.

One `Http1Connection` per client socket. `httptools` calls it back for each piece of a request; once
a head is complete the path decides: an inference route becomes an `Exchange` and never meets any
tornado object; everything else becomes a `Page`, which tornado's `Application` answers. How the
answers leave is the other half, `gateway/web/http1_responses.py`.

A client that keeps its connection sends the same head again and again, byte for byte. A head that
httptools has accepted is therefore remembered with what it meant, and a segment that consists of
exactly this head and its body is not parsed a second time.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, cast

import httptools

from gateway.web import headers
from gateway.web.browser_policy import with_lines
from gateway.web.exchange import CLOSE, Exchange, HttpRequest, RefusedRequest
from gateway.web.http1_checks import MOST_LINES, STEP, TOO_LONG, TOO_MANY, Vetting
from gateway.web.http1_responses import (
    BODY,
    CLOSING,
    DEAF,
    HEAD,
    IDLE,
    LAST,
    LINGERING,
    MANY,
    Refused,
    Stop,
    fold,
)
from gateway.web.patience import TINY_BYTES, Patience
from gateway.web.server_state import ServerState
from gateway.web.tornado_adapter import Page
from gateway.web.uploads import SLOW_S
from gateway.web.uploads import TOO_MANY as TOO_MANY_SLOW
from mesh.protocol.messages import Buffer

_END: Final = b"\r\n\r\n"
# Cuts of a segment that are parsed before the loop turns again.
_TURN: Final = 32
# Bytes of a head or of chunks that are parsed in one go, and pieces of bodies after which the loop
# turns: some milliseconds at most.
_SLICE: Final = 16 * 1024
_CALLS: Final = 2048
# A cut of more bytes than this is not copied out of its segment.
_UNCOPIED: Final = 16 * 1024


class Http1Connection(Vetting):
    """One client's connection: the reading half, on top of the answering one."""

    __slots__ = (
        "_chunk",
        "_cuts",
        "_known",
        "_left",
        "_lesson",
        "_names",
        "_patience",
        "_plan",
        "_replay",
        "_said",
        "_target",
        "_tiny",
        "_values",
    )

    def __init__(self, server: ServerState) -> None:
        """Nothing is connected yet; asyncio calls `connection_made` next."""
        super().__init__(server)
        self._known = server.known
        self._plan = headers.NO_LAYOUT  # of the last head; clients repeat the same header lines
        self._target = b""
        self._said = b""  # the target of the request whose head was read last
        self._names: list[bytes] = []
        self._values: list[bytes] = []
        self._left = 0  # bytes of the body that is being read which have not come, if declared
        self._cuts = 0  # that may still be parsed in this turn
        self._tiny = 0  # those among them that are tiny, and not paid for yet
        self._patience: Patience | None = None  # with them
        self._chunk = 0  # bytes of the cut that is being parsed
        self._lesson: tuple[bytes, bytes] | None = None  # target and length of the head just parsed
        self._replay: bytes | None = None  # a head to be read again, without its upgrade

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: count it, or say that it is one too many."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._server.connections.add(self)
        if self._server.excess > 0:
            self._refuse("too_many_connections", "too many connections are open")

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is no more; whoever works for it is told."""
        self._phase = CLOSING
        self._forsake()
        if self._half_closed is not None:
            self._half_closed.stop()
            self._half_closed = None  # it refers to us, as the parser does: no cycle may stay
        self._parser = None
        if self._account is not None:
            self._account.close()
            self._account = None
        self._server.leave(self)

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
            self._lesson = None
            self._read(data)
            if self._lesson is not None:
                self._learn(data, start, self._lesson)
        elif self._phase < LAST:
            self._read(data)
        elif self._tunnel is not None:
            self._tunnel.data_received(data)  # not opened yet
        elif self._phase == LAST:
            self._phase = DEAF
        elif self._phase == LINGERING and not self._retiring:
            self._age = 0.0

    def _read(self, segment: bytes) -> None:
        """Parse what came, cut by cut, until it is more than may be pending, or takes long.

        httptools cannot be stopped once it has been given something, hence the cuts: none of them
        holds the end of more than one request, or makes it call back more than some thousand times.
        The rest is kept, and read on when answers have
        left; meanwhile nothing more is read from the client.
        """
        at = 0
        self._cuts = _TURN
        while self._cuts > 0:
            self._cuts -= 1
            end = self._cut(segment, at)
            long = at and end - at > _UNCOPIED
            self._parse(memoryview(segment)[at:end] if long else segment[at:end])
            if self._phase == HEAD or (self._phase == BODY and not self._declared):
                self._measure(end - at)
            at = end
            if self._phase >= LAST:
                self._ignore(segment[at:])
                return
            if at == len(segment):
                if self._phase == BODY and self._admitted < 0:
                    self._await_body()
                if self._calls < _CALLS:
                    return
                break
            if self._phase == IDLE and self._is_full():
                break
        self._keep(segment[at:])

    def _cut(self, segment: bytes, at: int) -> int:
        """Where the piece that begins at `at` ends: the next empty line, or the declared body.

        It ends earlier where that is far: of lines and chunks a few bytes may mean a callback each.
        """
        if self._phase == BODY and self._left > 0:
            return min(at + self._left, len(segment))
        end = segment.find(_END, at, at + _SLICE + 3) + 4
        return end if end > 3 else min(at + _SLICE, len(segment))

    def _measure(self, nbytes: int) -> None:
        """Of a head or a chunked body so many bytes more were parsed, and it is not whole."""
        self._head += nbytes
        if self._head > self._server.limits.max_header or len(self._names) > MOST_LINES:
            self._check_growth()
        elif self._phase == HEAD and not self._find_room_for_head(nbytes):
            self._refuse("overloaded", "too many requests whose headers are not complete")
        if self._tiny:
            self._pay()
        if self._calls >= _CALLS:
            self._cuts = 0

    def _pay(self) -> None:
        """Lose patience with a body that comes in a great many tiny pieces."""
        tiny, self._tiny = self._tiny, 0
        now = monotonic()
        if self._patience is None:
            self._patience = Patience(now)
        if not self._patience.bears(tiny, now) and self._phase < LAST:
            self._server.drop("tiny_pieces")
            text = f"the body comes in too many pieces of less than {TINY_BYTES} bytes"
            self._refuse("bad_request", f"{text}; send larger chunks")

    def _ignore(self, rest: bytes) -> None:
        """This follows a request that was the last one."""
        if rest and self._tunnel is not None:
            self._tunnel.data_received(rest)
        elif rest and self._phase == LAST:
            self._phase = DEAF

    def _parse(self, segment: Buffer) -> None:
        """Let httptools call back for what the segment contains."""
        self._chunk = len(segment)
        rest = None
        try:
            self._parser.feed_data(segment)
        except httptools.HttpParserUpgrade as stop:
            rest = bytes(segment[stop.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._stopped(error.__context__)
        except httptools.HttpParserError as error:
            self._malformed(error)
        if rest is not None:  # not while that is handled, which would be the context of any other
            self._parse_again(rest)

    def _await_body(self) -> None:
        """Some of the body is still to come, and nobody has asked yet whether there is room."""
        try:
            self._admit(self._declared)
        except Exception as reason:  # noqa: BLE001 - a refusal, or logged; its client is answered
            self._stopped(reason)

    def _learn(self, segment: bytes, start: int, lesson: tuple[bytes, bytes]) -> None:
        """Remember the head if the segment was exactly one request; its body begins at `start`."""
        target, length = lesson
        if self._phase == IDLE and len(segment) - start == int(length):
            self._server.learn(segment[:start], (target, int(length)))

    def _enter(self, exchange: HttpRequest) -> None:
        """The request is whole: enter it in the order of answers, then set it off."""
        pending = self.pending
        pending.append(exchange)
        if len(pending) > 1:
            self._crowd()
        try:
            exchange.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            self._failed(exchange, error)

    def _enter_page(self, page: Page) -> None:
        """The same for a page. It takes long, and does not work ahead of its turn."""
        if not self.pending:
            self._cuts = 0
            self._enter(page)
            return
        self.pending.append(page)
        self._crowd()

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
        self._said = target
        self._phase = BODY
        self._age = 0.0
        plan = self._plan
        if names != plan.names:
            plan = self._plan = self._plan_for(names)
        lines = self._lines = self._check_browser(plan, values) if plan.browser else b""
        if self._head or self._chunk > self._server.limits.max_header:
            self._check_head(target, names, values)
        connection = b""
        parser = self._parser
        if plan.host >= 0 and values[plan.host] not in self._server.hosts:
            self._check_host(values[plan.host], target)
        if plan.odd or not parser.should_keep_alive() or self._retiring:
            if plan.upgrades and not self._upgrade(plan, names, values):
                head = headers.RequestHead(parser.get_method(), target, names, values)
                self._replay = headers.without_upgrade(head, parser.get_http_version())
                return
            connection = self._check_plan(plan)
        route = self.inference.routes.get(target)
        is_plain = route is not None and not (route.wants_meta or lines)
        direct = is_plain and parser.get_method() == b"POST"
        exchange: Exchange | Page
        if direct:
            exchange = Exchange(self, route, target, monotonic(), connection)
        else:
            exchange = self._begin(target, names, values, connection)
        self._exchange = exchange
        self._admitted = -1
        self._declared = self._left = int(values[plan.length]) if plan.length >= 0 else 0
        self._lesson = None
        for kind, index in plan.told:
            exchange.hear(kind, values[index].strip())
        if plan.framing or self._declared > self._server.small:
            self._weigh(plan, values)
        elif plan.plain and direct and not connection:
            self._lesson = (target, values[plan.length])

    def on_body(self, piece: bytes) -> None:
        """A piece of the body; mostly it is the only one and stays as it is."""
        exchange = self._exchange
        assert exchange is not None
        self._left -= len(piece)
        if self._pieces is None and not exchange.body:
            exchange.body = piece
            self._head = 0
            return
        if self._pieces is None:
            self._pieces = [exchange.body]
            self._received = len(exchange.body)
        self._pieces.append(piece)
        self._received += len(piece)
        self._calls += 1
        self._tiny += len(piece) < TINY_BYTES
        self._head = 0
        if len(self._pieces) >= MANY:
            fold(self._pieces)
        if self._received > self._server.limits.max_body:
            raise self._too_large()
        if self._received > self._admitted:
            self._admit(self._received + STEP)

    def on_message_complete(self) -> None:
        """The request is whole, unless its head is to be read again."""
        exchange = self._exchange
        if exchange is None:
            return  # an upgrade, to be read again without it
        self._exchange = None
        self._said = b""
        self._phase = LAST if exchange.connection is CLOSE else IDLE
        self._head = 0
        if self._uploading:
            self._end_upload()
        if self._pieces is not None:
            exchange.body = b"".join(self._pieces)
            self._pieces = None
            self._received = 0
        if self._names:
            self._names, self._values = [], []  # trailers mean nothing to us
        if isinstance(exchange, Page):
            self._enter_page(exchange)
        else:
            self._enter(exchange)
        if (self._retiring or self._phase > LAST) and self._tunnel is None:
            raise Stop

    # ---- what goes wrong

    def _check_growth(self) -> None:
        """Bound what the parser keeps to itself of a head or body, and what we keep of lines."""
        if self._phase == HEAD:
            many = len(self._names) > MOST_LINES
            self._refuse("headers_too_large", TOO_MANY if many else TOO_LONG)
        else:
            self._refuse("headers_too_large", "the body's framing or trailers are too long")

    def _parse_again(self, rest: bytes) -> None:
        """Read a request that asked for an upgrade as if it had not; it is the last."""
        if self._tunnel is not None:
            self._ignore(rest)
            return
        replay, self._replay = self._replay, None
        if replay is not None:
            self._parser = httptools.HttpRequestParser(self)
            self._phase = IDLE
            self._head = 0
            self._read(replay + rest)

    def _stopped(self, reason: BaseException | None) -> None:
        """A callback of ours ended the parsing."""
        if isinstance(reason, Refused):
            self._answer_early(reason.answer)
        elif not isinstance(reason, Stop) and self._phase < LAST:
            self._blame(reason)
            self._refuse("server_error", "the gateway failed")

    def _failed(self, turn: HttpRequest, reason: BaseException) -> None:
        """What a request set off has failed: in its place that is said, and nothing follows."""
        at = self.pending.index(turn)
        later = self.pending[at:]
        del self.pending[at:]
        for each in later:
            each.lost()
        self._blame(reason)
        self._refuse("server_error", "the gateway failed")

    def _blame(self, reason: BaseException | None) -> None:
        """A bug of ours, or of whoever serves the inference: log it."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an HTTP request raised inside the gateway", "exception": reason}
        )

    def _malformed(self, error: httptools.HttpParserError) -> None:
        """What came is no HTTP/1.1."""
        if self._phase >= LAST:
            self._phase = max(self._phase, DEAF)  # it follows a request that said it was the last
        elif "PRI" in str(error) or "HTTP/2" in str(error):
            message = "HTTP/2 can only be spoken from a connection's first byte on"
            self._refuse("version_not_supported", message)
        else:
            self._refuse("bad_request", f"malformed HTTP: {error}")

    def _refuse(self, code: str, message: str) -> None:
        self._answer_early(self._failure(code, message))

    def _answer_early(self, answer: bytes) -> None:
        """Answer, in its turn, a request of which more may still come; read none of that."""
        if self._lines and self._phase == BODY:
            answer = with_lines(answer, self._lines)
        self._phase = DEAF
        self._age = 0.0
        self._tail = b""
        method, target = self._asked()
        self._drop()
        self._names, self._values = [], []
        self._owes_continue = False
        exchange = RefusedRequest(self, method, target, monotonic(), CLOSE)
        self.pending.append(exchange)
        exchange.respond(answer)

    def _asked(self) -> tuple[bytes, bytes]:
        """Method and target of the request that is being read, as far as they are known."""
        if self._exchange is not None:
            return self._exchange.method, self._exchange.target
        target = self._target or self._said
        return (self._parser.get_method() if target else b""), target

    def _watch_body(self) -> None:
        """The body is not whole yet: how many such may its client have?"""
        if self._age >= SLOW_S and not (self._uploading or self._begin_upload()):
            self._refuse("overloaded", TOO_MANY_SLOW)

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
            self._phase = DEAF if self._tail else LAST
        elif self._phase == IDLE:
            self._close()

    def __repr__(self) -> str:
        """Show its phase and how many answers it awaits."""
        return f"<Connection phase {self._phase}, {len(self.pending)} pending>"
