"""An HTTP/2 connection by h2: it owns a reader of frames, the streams, and a sender of frames.

```
transport ─► FrameReader ─► h2 ─► Stream ─► FrameSender ─► h2 ─► transport
             (http2_reader)       (http2_stream, http2_answer)
```

The connection handles the events of h2. `gateway/web/http2_windows.py` limits how much the client
may send, and `gateway/web/http2_flood_guard.py` how many frames that ask for nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import NoSuchStreamError, StreamClosedError
from h2.settings import SettingCodes

from gateway.web import headers
from gateway.web.half_close import HalfClosed
from gateway.web.http2_flood_guard import FloodGuard, goaway
from gateway.web.http2_reader import FrameReader
from gateway.web.http2_sender import FrameSender
from gateway.web.http2_stream import Stream
from gateway.web.http2_windows import ReceiveWindows
from gateway.web.http2_wire import make_wire
from gateway.web.server_state import ServerState
from gateway.web.tornado_adapter import ClientAddress
from gateway.web.unread import UnreadLedger

_PING_FRAME: Final = b"\0\0\x08\x06\0\0\0\0\0half-end"


class Http2Connection(asyncio.BaseProtocol):
    """One client's connection.

    Attributes:
        server: the state that all connections share.
        streams: the unanswered requests by number, the oldest first.
        data_received: the reader's `receive`, which the transport calls.
    """

    __slots__ = (
        "_age",
        "_block",
        "_closing",
        "_guard",
        "_half_closed",
        "_head_bytes",
        "_head_seconds",
        "_ledger",
        "_pages",
        "_reader",
        "_retiring",
        "_sender",
        "_transport",
        "_windows",
        "_wire",
        "data_received",
        "server",
        "streams",
    )

    data_received: Callable[[bytes], None]

    def __init__(self, server: ServerState) -> None:
        """Prepare for `connection_made`, which asyncio calls next."""
        limits = server.limits
        self.server = server
        self.streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport
        self._wire = wire = make_wire(limits.max_header)
        self._guard = FloodGuard(2 * limits.max_header)
        self._ledger = UnreadLedger(server.unread, self._cut_off)
        self._windows = ReceiveWindows(wire, self.streams, limits.max_body)
        self._reader = FrameReader(wire, self._guard, self)
        self._sender = FrameSender(wire, self._guard, self.streams, self._ledger, self._answered)
        self.data_received = self._reader.receive
        self._pages: deque[Stream] = deque()  # streams that tornado must answer, one per turn
        self._closing = False
        self._retiring = False
        self._half_closed: HalfClosed | None = None  # the client sends nothing more
        self._block = 0  # the stream whose headers were incomplete at the last sweep
        self._head_bytes = 0  # reserved bytes of incomplete headers
        self._head_seconds = 0.0  # seconds for which they have been incomplete
        self._age = 0.0  # seconds without any stream, counted by the sweep

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings to a client that connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._reader.open(self._transport)
        self._sender.open(self._transport)
        self.server.connections.add(self)
        self._wire.initiate_connection()
        # As an update, h2 enforces it only once the client knows of it.
        limit: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: self.server.limits.streams
        }
        self._wire.update_settings(limit)
        self._windows.open()
        if self.server.excess > 0:
            self.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)  # no request was read: the client may retry
        self._sender.write()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Notify the reader, the sender and all streams that the connection is gone."""
        self._forsake()
        self._count_head(0)
        if self._half_closed is not None:
            self._half_closed.stop()
            self._half_closed = None
        # They refer to us: no cycle may stay.
        self._ledger.close()
        self._reader.close()
        self._sender.close()
        self.server.leave(self)

    def pause_writing(self) -> None:
        """Stop reading requests: the client does not read its answers."""
        self._sender.choke()
        self._reader.choke(True)

    def resume_writing(self) -> None:
        """Write on: the client reads again."""
        self._reader.choke(False)
        self._sender.unchoke()

    def eof_received(self) -> bool:
        """Answer what is pending: the client sends no more. Return whether anything is."""
        for stream in list(self.streams.values()):
            if stream.reading or stream.answer.over:
                self._drop(stream)
            stream.end_input()
        if self._closing or not self.streams or self._transport.is_closing():
            self._forsake()
            return False
        self._half_closed = HalfClosed(self._transport, self._probe, self._vanished)
        return True

    def _probe(self) -> None:
        """Send a PING, which the kernel of a client that is gone answers by a reset."""
        if not (self._sender.choked or self._closing):
            self._transport.write(_PING_FRAME)

    def _vanished(self) -> None:
        """End at once: the client has closed the connection in both directions."""
        self._forsake()
        self._transport.abort()

    # ---- the reader's side

    def heed(self, event: events.Event) -> None:
        """Handle an event of h2."""
        action = _ACTIONS.get(type(event))
        if action is not None:
            action(self, event)

    def paused(self) -> None:
        """Let other connections have their turn: some frames were read, and more are here."""
        self._sender.write()

    def all_read(self) -> None:
        """Continue after all received frames were read."""
        self._count_head(self._guard.pending)
        if self._guard.overlong:
            self.dismiss(ErrorCodes.FRAME_SIZE_ERROR)
        elif self._guard.excessive:
            self.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)
        if self._departed and not self.streams:
            self.end()
        self._sender.flush()

    @property
    def _departed(self) -> bool:
        """Whether the client sent GOAWAY, and all its frames were read."""
        return self._guard.departed and self._reader.has_read_all

    def _pay(self) -> None:
        """Count a frame that asks for nothing; end the connection after too many."""
        if not self._guard.pay(1.0):
            self.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def _count_head(self, pending: int) -> None:
        """Reserve room for incomplete headers; if there is none, end the connection."""
        if pending == self._head_bytes:
            return
        heads = self.server.heads
        heads.give_back(self._head_bytes)
        self._head_bytes = 0
        if heads.take(pending):
            self._head_bytes = pending
        else:
            self.server.drop("heads")
            self.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def _requested(self, event: events.RequestReceived) -> None:
        number = event.stream_id
        if self._retiring or len(self.streams) >= self.server.limits.streams:
            self._reset(number, ErrorCodes.REFUSED_STREAM)
            self._pay()
            return
        if self.is_behind:
            self._pay()
        stream = self.streams[number] = Stream(self, number)
        self._age = 0.0
        stream.begin(headers.from_http2(event.headers), event.stream_ended is not None)

    def _received(self, event: events.DataReceived) -> None:
        length = event.flow_controlled_length
        self._guard.pay_for_body()
        self._windows.consume(length)
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            self._windows.owe(stream, length)
            stream.read(event.data)
            self._windows.grant(stream)

    def _ended(self, event: events.StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None and not stream.whole:
            stream.end()
            if stream.answer.over:
                self._drop(stream)

    def _cancelled(self, event: events.StreamReset) -> None:
        if not event.remote_reset:
            self._pay()  # h2 reset it for an error of the client
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            self._drop(stream)

    # ---- the streams' side

    def due(self, stream: Stream) -> None:
        """Send what the stream has ready, together with other streams at the end of this turn."""
        self._sender.due(stream)

    def later(self, stream: Stream) -> None:
        """Call the stream's `set_off` after other connections have had their turn."""
        self._pages.append(stream)
        if len(self._pages) == 1:
            asyncio.get_running_loop().call_soon(self._next_page)

    def _next_page(self) -> None:
        self._pages.popleft().set_off()
        if self._pages:
            asyncio.get_running_loop().call_soon(self._next_page)

    def cancel(self, stream: Stream) -> None:
        """Reset a stream that cannot be answered, or whose client still sends after the answer."""
        over = stream.answer.over
        self._reset(stream.number, ErrorCodes.NO_ERROR if over else ErrorCodes.INTERNAL_ERROR)
        self._drop(stream)
        self._sender.write()

    def _reset(self, number: int, code: ErrorCodes) -> None:
        with suppress(NoSuchStreamError, StreamClosedError):
            self._wire.reset_stream(number, code)

    def _answered(self, stream: Stream) -> None:
        """End a stream whose answer was sent completely."""
        if stream.whole:
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        """Remove a stream that ended, with an answer or without."""
        self.streams.pop(stream.number, None)
        self._sender.forget(stream)
        stream.lost()
        self._windows.forget(stream)
        if not self.streams and (self._retiring or self._departed or self._half_closed):
            self.end()

    @property
    def is_behind(self) -> bool:
        """Whether the client has left so much unread that it may send no further request."""
        return self._ledger.is_full

    @property
    def client_address(self) -> ClientAddress:
        """The client's address."""
        peer = self._transport.get_extra_info("peername")
        return ClientAddress(peer[0] if isinstance(peer, tuple) else "0.0.0.0", "http")

    # ---- the end

    def _forsake(self) -> None:
        """Drop all pending requests, and stop reading and sending."""
        self._closing = True
        self._reader.stop()
        self._sender.stop()
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.lost()

    def _cut_off(self, cause: str) -> None:
        """Close at once: the client reads its answers too slowly."""
        self.server.drop(cause)
        self._closing = True
        self._reader.stop()
        self._sender.stop()
        self._transport.abort()

    def dismiss(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """End the connection with GOAWAY and the reason."""
        if not self._closing:
            self._wire.close_connection(code)
            self.end()

    def end(self) -> None:
        """Send GOAWAY, and close so that the client can still read it."""
        if self._closing:
            return
        self._sender.write()
        self._age = 0.0
        self._forsake()
        if self._half_closed is None and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    # ---- the server's side

    def tick(self, step: float) -> None:
        """Enforce the time limits after `step` more seconds. Called by the server's sweep."""
        limits = self.server.limits
        self._guard.recover(step)
        if self._sender.tick(step, limits.write_timeout):
            self._transport.abort()
        if self._half_closed is not None and self._half_closed.look():
            return
        self._watch_head(step)
        for stream in list(self.streams.values()):
            if stream.reading and self._windows.is_held_up(stream):
                stream.patient()
            stream.tick(step)
        self._age = 0.0 if self.streams else self._age + step
        if self._closing:
            if self._age >= limits.linger:
                self._transport.abort()
        elif self._age >= limits.idle_timeout:
            self.dismiss()

    def _watch_head(self, step: float) -> None:
        """End the connection if headers stay incomplete for longer than HTTP/1.1 allows."""
        block = self._guard.block
        self._head_seconds = self._head_seconds + step if block and block == self._block else 0.0
        self._block = block
        if self._head_seconds >= self.server.limits.header_timeout:
            self.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def retire(self) -> None:
        """Answer all requests that have begun, accept no further one, then close."""
        if self._retiring or self._closing:
            return
        self._retiring = True
        self._transport.write(goaway(self._wire.highest_inbound_stream_id))
        if not self.streams:
            self.end()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self._transport.abort()

    def __repr__(self) -> str:
        """Show the number of streams."""
        return f"<Http2Connection {len(self.streams)} streams>"


_ACTIONS: Final[dict[type[events.Event], Any]] = {
    events.RequestReceived: Http2Connection._requested,
    events.DataReceived: Http2Connection._received,
    events.StreamEnded: Http2Connection._ended,
    events.StreamReset: Http2Connection._cancelled,
}
