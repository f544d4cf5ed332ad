"""Reads the requests of an HTTP/1.1 connection: the hottest code of the gateway.

`httptools` calls the reader back for each piece of a request. When a head is complete,
`gateway/web/front_protocols.py` decides which service answers it. A complete request enters the
queue of answers (`gateway/web/http1_responses.py`).

A client that keeps its connection sends the same head again and again, byte for byte. So the
meaning of a head of plain inference is remembered, and a segment that consists of exactly this head
and its body is not parsed a second time.

The reader's *state* says what is being read:

```
IDLE ─► HEAD ─► BODY ─► IDLE ...            the usual cycle
   any of them ─► LAST    the request closes the connection, or the client sends nothing more
   any of them ─► DEAF    refused: no further input is read
LAST ─► DEAF              the client sent something after its last request
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
# The cuts of a segment that are parsed before the loop handles other events.
_CUTS_PER_TURN: Final = 32
# Bytes of a head or of chunks that are parsed in one call, and pieces of bodies before the loop
# handles other events: some milliseconds at most.
_SLICE_BYTES: Final = 16 * 1024
_PIECES_PER_TURN: Final = 2048
# A longer cut is not copied out of its segment.
_UNCOPIED_BYTES: Final = 16 * 1024


class StopParsing(Exception):
    """Parse nothing more on this connection."""


class RequestReader:
    """Parses the requests of one client.

    Args:
        server: the state that all connections share.
        responses: the queue that a complete request enters.

    Attributes:
        state: what is being read, see above.
        head: the head of the present request, or of the last one.
        body: the body of the present request.
        pacing: pauses and resumes reading.
        websocket: the stream that gets the connection after an upgrade, if one was requested.
        retiring: whether the present request is the last: the connection must end.
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
        # The callbacks of httptools.
        self.on_url: Callable[[bytes], None] = self.head.begun.append
        self.on_header: Callable[[bytes, bytes], None] = self.head.take_line
        self.on_body: Callable[[bytes], None] = self.body.take
        self.state = IDLE
        self.websocket: WebSocketStream | None = None
        self.retiring = server.leaving
        self._parser: Any = httptools.HttpRequestParser(self)
        self._age = 0.0  # seconds in this state, counted by the sweep
        self._cut_bytes = 0  # bytes of the cut that is being parsed
        self._cuts = 0  # cuts that may still be parsed in this turn
        self._lesson: KnownHead | None = None  # the meaning of the head that was just parsed
        self._replay: bytes | None = None  # a head that must be parsed again, without its upgrade

    # ---- what comes

    def receive(self, segment: bytes) -> None:
        """Parse received bytes, and handle all that follows from them before returning."""
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
        """Parse received bytes in cuts, until too many requests are pending or it takes too long.

        httptools cannot be stopped within its input, hence the cuts: none contains the end of more
        than one request, or causes more than some thousand callbacks. The rest is kept and parsed
        when answers have left; meanwhile nothing more is read from the client.
        """
        at, length, body = 0, len(segment), self.body
        self._cuts = _CUTS_PER_TURN
        while self._cuts > 0:
            self._cuts -= 1
            start = at
            # Up to the end of a declared body, or else to the next empty line. Lines and chunks
            # may cost a callback for every few bytes, so such a cut is limited.
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
            if stopped is not None:  # outside of the handler: it would be the exception's context
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
        """Count `nbytes` more parsed bytes of a head or chunked body that is not complete."""
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
        """Ignore input after the connection's last request."""
        if not rest:
            return
        if self.websocket is not None:
            self.websocket.data_received(rest)
            return
        self.state = DEAF
        if not self.retiring:
            self._age = 0.0  # discarded for a while: see `Http1Connection`

    def _await_body(self) -> None:
        """Reserve room, if needed, for the missing rest of the body."""
        try:
            self.body.await_rest()
        except Exception as reason:  # noqa: BLE001 - a refusal, or logged; its client is answered
            self._stopped(reason)

    # ---- the parser's side

    def on_headers_complete(self) -> None:
        """Create the request of a complete head."""
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
            # If the WebSocket is refused, nothing more is read.
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
        """Take the complete request, unless its head must be parsed again."""
        request = self.body.finish()
        if request is None:
            return  # an upgrade: parsed again without it
        self.state = LAST if request.connection is CLOSE else IDLE
        if self.head.names:
            self.head.drop()  # trailers are ignored
        queue = self._responses
        if request.awaits_turn and not queue.pending:
            self._cuts = 0  # it was sent slowly
        queue.enter(request)
        if (self.retiring or self.state > LAST) and self.websocket is None:
            raise StopParsing

    # ---- upgrades

    def _upgrade(self, layout: HeaderLayout, head: RequestHead) -> bool:
        """Prepare the upgrade to a WebSocket, if all earlier requests are answered.

        Returns:
            False for any other upgrade.
        """
        if not self._parser.should_upgrade():
            return True  # the Connection header does not name it
        queue = self._responses
        if self.retiring or queue.pending or (head.method, head.version) != (b"GET", "1.1"):
            return False
        if headers.asks_for_websocket(layout, head.names, head.values):
            self.websocket = WebSocketStream(self._server, queue.transport)
        return self.websocket is not None

    def _parse_again(self, rest: bytes) -> None:
        """Parse a request again without the upgrade that it asks for; it is the last one."""
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
        """Handle that httptools stopped within this cut."""
        if isinstance(reason, httptools.HttpParserUpgrade):
            self._parse_again(bytes(cut[reason.args[0] :]))
        elif isinstance(reason, httptools.HttpParserCallbackError):
            self._stopped(reason.__context__)
        else:
            self._malformed(reason)

    def _stopped(self, reason: BaseException | None) -> None:
        """Handle the exception by which a callback of ours ended the parsing."""
        if isinstance(reason, RequestRefused):
            self._refuse(reason)
        elif not isinstance(reason, StopParsing) and self.state < LAST:
            self.fail(reason)

    def fail(self, reason: BaseException | None) -> None:
        """Log an internal error, answer 500, and end the connection."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an HTTP request raised inside the gateway", "exception": reason}
        )
        self.refuse("server_error", "the gateway failed")

    def _malformed(self, error: Exception) -> None:
        """Refuse input that is no HTTP/1.1."""
        if self.state >= LAST:
            self.state = DEAF  # it follows the connection's last request
        elif "PRI" in str(error) or "HTTP/2" in str(error):
            message = "HTTP/2 can only be spoken from a connection's first byte on"
            self.refuse("version_not_supported", message)
        else:
            self.refuse("bad_request", f"malformed HTTP: {error}")

    def refuse(self, code: str, message: str) -> None:
        """Answer the present request, in its place in the queue, and read nothing more."""
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
        """Return the method and target of the present request, as far as they are known."""
        request = self.body.request
        if request is not None:
            return request.method, request.target
        target = b"".join(self.head.begun) or (self.head.target if self.state == BODY else b"")
        return (self._parser.get_method() if target else b""), target

    # ---- the connection's side

    @property
    def takes_interim(self) -> bool:
        """Whether the client understands interim answers, which HTTP/1.0 does not have."""
        version: str = self._parser.get_http_version()
        return version != "1.0"

    def grow_older(self, step: float) -> float:
        """Add `step` seconds to the age of the present state, and return the age."""
        self._age += step
        return self._age

    def rest(self) -> None:
        """Reset the age of the state: it is not the client's fault that nothing comes."""
        self._age = 0.0

    def retire(self) -> None:
        """Let the present request be the last."""
        self.retiring = True
        if self.body.request is not None:
            self.body.request.connection = CLOSE

    def stop(self, state: int = LAST) -> None:
        """Stop parsing, also what was kept."""
        self.state = max(self.state, DEAF if self.pacing.kept else state)
        self._age = 0.0
        self.pacing.stop()
        self.head.drop()
        self.body.drop()

    def close(self) -> None:
        """Drop the parser, which refers to this object: the connection is gone."""
        self.stop(DEAF)
        self.pacing.close()
        self._parser = None
