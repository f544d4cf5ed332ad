"""Reads the requests of an HTTP/1.1 connection: the hottest code of the gateway.

`httptools` calls the reader back for each piece of a request; once a head is complete
`gateway/web/front_protocols.py` decides who answers. A request that is whole enters the queue of
answers (`gateway/web/http1_responses.py`).

A client that keeps its connection sends the same head again and again, byte for byte. A head that
was found to ask for plain inference is therefore remembered with what it meant, and a segment that
consists of exactly this head and its body is not parsed a second time.

What is being read is the reader's *state*:

```
IDLE ─► HEAD ─► BODY ─► IDLE ...            the ordinary life
   any of them ─► LAST    a request said that it was the last, or the client sends nothing more
   any of them ─► DEAF    refused: nothing of what still comes is read
LAST ─► DEAF              the client sent something behind its last request
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import httptools

from gateway.web import headers
from gateway.web.browser_policy import with_lines
from gateway.web.exchange import Exchange
from gateway.web.front_protocols import is_repeatable, open_request
from gateway.web.headers import HeaderLayout, RequestHead
from gateway.web.http1_body import RequestBody
from gateway.web.http1_head import HeadReader, connection_for
from gateway.web.http1_pacing import ReadPacing
from gateway.web.http1_responses import ResponseQueue
from gateway.web.http_request import CLOSE
from gateway.web.request_checks import MOST_LINES, RequestRefused, check_target
from gateway.web.server_state import KnownHead, ServerState
from gateway.web.websocket_stream import WebSocketStream
from mesh.protocol.messages import Buffer

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
LAST: Final = 3
DEAF: Final = 4

_END: Final = b"\r\n\r\n"
# Cuts of a segment that are parsed before the loop turns again.
_CUTS_PER_TURN: Final = 32
# Bytes of a head or of chunks that are parsed in one go, and pieces of bodies after which the loop
# turns: some milliseconds at most.
_SLICE_BYTES: Final = 16 * 1024
_PIECES_PER_TURN: Final = 2048
# A cut of more bytes than this is not copied out of its segment.
_UNCOPIED_BYTES: Final = 16 * 1024


class StopParsing(Exception):
    """Nothing more is to be parsed on this connection."""


class RequestReader:
    """Makes requests of what one client sends.

    Args:
        server: what all connections have in common.
        responses: where a request that is whole awaits its answer.

    Attributes:
        state: what is being read, see above.
        head: of the request that is being read, or was read last.
        body: of the request that is being read.
        pacing: when it is read.
        websocket: where the connection goes after an upgrade, if one was asked for.
        retiring: the connection is to end: what is being read is the last request.
    """

    __slots__ = (
        "_age",
        "_cut_bytes",
        "_cuts",
        "_known",
        "_lesson",
        "_parser",
        "_replay",
        "_responses",
        "_server",
        "body",
        "head",
        "on_body",
        "on_header",
        "on_url",
        "pacing",
        "retiring",
        "state",
        "websocket",
    )

    def __init__(self, server: ServerState, responses: ResponseQueue) -> None:
        self._server = server
        self._responses = responses
        self._known = server.known
        self.head = HeadReader(server)
        self.body = RequestBody(server)
        self.pacing = ReadPacing(responses, self._read_on)
        # What httptools calls for each piece.
        self.on_url: Callable[[bytes], None] = self.head.begun.append
        self.on_header: Callable[[bytes, bytes], None] = self.head.take_line
        self.on_body: Callable[[bytes], None] = self.body.take
        self.state = IDLE
        self.websocket: WebSocketStream | None = None
        self.retiring = server.leaving
        self._parser: Any = httptools.HttpRequestParser(self)
        self._age = 0.0  # seconds in this state, as the sweep counts them
        self._cut_bytes = 0  # of the cut that is being parsed
        self._cuts = 0  # that may still be parsed in this turn
        self._lesson: KnownHead | None = None  # what the head meant that was just parsed
        self._replay: bytes | None = None  # a head to be read again, without its upgrade

    # ---- what comes

    def receive(self, segment: bytes) -> None:
        """Read what came. Everything that follows from it happens before this returns."""
        if self.state == IDLE:
            start = segment.find(_END) + 4
            known = self._known.get(segment[:start])
            if known is not None and len(segment) - start == known.length:
                route, queue = known.route, self._responses
                if not (route.wants_meta or self.retiring):
                    self._age = 0.0
                    now = monotonic()
                    queue.enter(Exchange(queue, route, known.target, now, b"", segment[start:]))
                    return
            self.state = HEAD
            self._age = 0.0
            self._lesson = None
            self._read(segment)
            if self._lesson is not None:
                self._learn(segment, start, self._lesson)
        elif self.state < LAST:
            self._read(segment)
        else:
            self._ignore(segment)

    def _learn(self, segment: bytes, start: int, lesson: KnownHead) -> None:
        """Remember the head if the segment was exactly one request; its body begins at `start`."""
        if self.state == IDLE and len(segment) - start == lesson.length:
            self._server.learn(segment[:start], lesson)

    def _read(self, segment: bytes) -> None:
        """Parse what came, cut by cut, until it is more than may be pending, or takes long.

        httptools cannot be stopped once it has been given something, hence the cuts: none of them
        holds the end of more than one request, or makes it call back more than some thousand times.
        The rest is kept, and read on when answers have left; meanwhile nothing more is read from
        the client.
        """
        at, length, body = 0, len(segment), self.body
        self._cuts = _CUTS_PER_TURN
        while self._cuts > 0:
            self._cuts -= 1
            start = at
            # To the end of a declared body, or else to the next empty line; not so far where that
            # is far: of lines and chunks a few bytes may mean a callback each.
            at = (
                min(at + body.left, length)
                if body.left > 0
                else end
                if (end := segment.find(_END, at, at + _SLICE_BYTES + 3) + 4) > 3
                else min(at + _SLICE_BYTES, length)
            )
            long = start and at - start > _UNCOPIED_BYTES
            cut = memoryview(segment)[start:at] if long else segment[start:at]
            self._cut_bytes = at - start
            stopped: Exception | None = None
            try:
                self._parser.feed_data(cut)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                stopped = error
            if stopped is not None:  # not while that is handled: it would be another's context
                self._end_parsing(stopped, cut)
                stopped = None
            if self.head.begun or (self.state == BODY and body.left <= 0):
                self._measure(at - start)
            if self.state >= LAST:
                self._ignore(segment[at:])
                return
            if at == length:
                if self.state == BODY:
                    self._await_body()
                if body.turn_pieces < _PIECES_PER_TURN:
                    return
                break
            if self.state == IDLE and self._responses.is_full:
                break
        self.pacing.keep(segment[at:])

    def _read_on(self, kept: bytes) -> None:
        self.body.begin_turn()
        self._read(kept)

    def _measure(self, nbytes: int) -> None:
        """Of a head or a chunked body so many bytes more were parsed, and it is not whole."""
        try:
            if self.head.begun:
                self.state = HEAD
                self.head.measure(nbytes)
            else:
                self.body.measure(nbytes, len(self.head.names) > MOST_LINES)
        except RequestRefused as refused:
            self._refuse(refused)
        if self.body.turn_pieces >= _PIECES_PER_TURN:
            self._cuts = 0

    def _ignore(self, rest: bytes) -> None:
        """This follows a request that was the last one."""
        if not rest:
            return
        if self.websocket is not None:
            self.websocket.data_received(rest)
            return
        self.state = DEAF
        if not self.retiring:
            self._age = 0.0  # it may go on for a while: see `Http1Connection`

    def _await_body(self) -> None:
        """Some of the body is still to come; perhaps room was not asked for yet."""
        try:
            self.body.await_rest()
        except Exception as reason:  # noqa: BLE001 - a refusal, or logged; its client is answered
            self._stopped(reason)

    # ---- the parser's side

    def on_headers_complete(self) -> None:
        """A head is complete: open its request."""
        self.state = BODY
        self._age = 0.0
        parser = self._parser
        head = self.head.complete(parser, self._cut_bytes)
        layout = self.head.layout
        connection = b""
        if layout.odd or not parser.should_keep_alive() or self.retiring:
            head = head._replace(version=parser.get_http_version())
            if layout.upgrades and not self._upgrade(layout, head):
                self._replay = headers.without_upgrade(head)
                return
            # A WebSocket that is not opened leaves nothing to be read.
            is_last = self.retiring or self.websocket or not parser.should_keep_alive()
            connection = connection_for(layout, head.version, bool(is_last))
        if head.target[:1] != b"/" or head.method == b"CONNECT":
            check_target(head.method, head.target, self._server)
        request = open_request(self._responses, head, connection, self.head.lines)
        declared = int(head.values[layout.length]) if layout.length >= 0 else 0
        self.body.begin(request, declared)
        self._lesson = None
        for kind, index in layout.told:
            request.take_header(kind, head.values[index].strip())
        if layout.framing or declared > self._server.small:
            if self.body.weigh(layout, head):
                self._responses.owe_continue()
        elif layout.plain and not connection and is_repeatable(request):
            assert request.route is not None
            self._lesson = KnownHead(request.route, head.target, declared)

    def on_message_complete(self) -> None:
        """The request is whole, unless its head is to be read again."""
        request = self.body.finish()
        if request is None:
            return  # an upgrade, to be read again without it
        self.state = LAST if request.connection is CLOSE else IDLE
        if self.head.names:
            self.head.drop()  # trailers mean nothing to us
        queue = self._responses
        if request.awaits_turn and not queue.pending:
            self._cuts = 0  # it takes long
        queue.enter(request)
        if (self.retiring or self.state > LAST) and self.websocket is None:
            raise StopParsing

    # ---- upgrades

    def _upgrade(self, layout: HeaderLayout, head: RequestHead) -> bool:
        """Prepare a WebSocket's upgrade, if it is its turn; False for any other."""
        if not self._parser.should_upgrade():
            return True  # it is not meant: Connection does not speak of it
        queue = self._responses
        if self.retiring or queue.pending or (head.method, head.version) != (b"GET", "1.1"):
            return False
        if headers.asks_for_websocket(layout, head.names, head.values):
            self.websocket = WebSocketStream(self._server, queue.transport)
        return self.websocket is not None

    def _parse_again(self, rest: bytes) -> None:
        """Read a request that asked for an upgrade as if it had not; it is the last."""
        if self.websocket is not None:
            self._ignore(rest)
            return
        replay, self._replay = self._replay, None
        if replay is not None:
            self._parser = httptools.HttpRequestParser(self)
            self.state = IDLE
            self._read(replay + rest)

    # ---- what goes wrong

    def _end_parsing(self, reason: Exception, cut: Buffer) -> None:
        """httptools has stopped within this cut."""
        if isinstance(reason, httptools.HttpParserUpgrade):
            self._parse_again(bytes(cut[reason.args[0] :]))
        elif isinstance(reason, httptools.HttpParserCallbackError):
            self._stopped(reason.__context__)
        else:
            self._malformed(reason)

    def _stopped(self, reason: BaseException | None) -> None:
        """A callback of ours ended the parsing."""
        if isinstance(reason, RequestRefused):
            self._refuse(reason)
        elif not isinstance(reason, StopParsing) and self.state < LAST:
            self.fail(reason)

    def fail(self, reason: BaseException | None) -> None:
        """A bug of ours, or of the inference service: log it, tell the client, and end."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an HTTP request raised inside the gateway", "exception": reason}
        )
        self.refuse("server_error", "the gateway failed")

    def _malformed(self, error: Exception) -> None:
        """What came is no HTTP/1.1."""
        if self.state >= LAST:
            self.state = DEAF  # it follows a request that said it was the last
        elif "PRI" in str(error) or "HTTP/2" in str(error):
            message = "HTTP/2 can only be spoken from a connection's first byte on"
            self.refuse("version_not_supported", message)
        else:
            self.refuse("bad_request", f"malformed HTTP: {error}")

    def refuse(self, code: str, message: str) -> None:
        """Answer the request that is being read, in its turn, and read nothing more."""
        self._refuse(RequestRefused(code, message))

    def _refuse(self, refused: RequestRefused) -> None:
        request = self.body.request
        name = request.request_id if request is not None else None
        answer = refused.answer or self._server.failure(
            refused.code, refused.message, name, refused.headers
        )
        if self.head.lines and self.state == BODY:
            answer = with_lines(answer, self.head.lines)
        method, target = self._asked()
        self.stop(DEAF)
        self._responses.refuse(method, target, answer)

    def _asked(self) -> tuple[bytes, bytes]:
        """Method and target of the request that is being read, as far as they are known."""
        request = self.body.request
        if request is not None:
            return request.method, request.target
        target = b"".join(self.head.begun) or (self.head.target if self.state == BODY else b"")
        return (self._parser.get_method() if target else b""), target

    # ---- the connection's side

    @property
    def takes_interim(self) -> bool:
        """Whether the client must understand an interim answer: not in HTTP/1.0."""
        version: str = self._parser.get_http_version()
        return version != "1.0"

    def grow_older(self, step: float) -> float:
        """`step` seconds have passed; returns for how many nothing has come that moved it on."""
        self._age += step
        return self._age

    def rest(self) -> None:
        """It is not the client's fault that nothing comes."""
        self._age = 0.0

    def retire(self) -> None:
        """What is being read is the last request."""
        self.retiring = True
        if self.body.request is not None:
            self.body.request.connection = CLOSE

    def stop(self, state: int = LAST) -> None:
        """Read nothing more: of what is being read, and of what is kept."""
        self.state = max(self.state, DEAF if self.pacing.kept else state)
        self._age = 0.0
        self.pacing.stop()
        self.head.drop()
        self.body.drop()

    def close(self) -> None:
        """The connection is no more: the parser refers to us, and no cycle may stay."""
        self.stop(DEAF)
        self.pacing.close()
        self._parser = None
