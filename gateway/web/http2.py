"""HTTP/2 by h2: frames in, streams, frames out.

One `Http2Connection` per client socket. What a request is and how it is answered is the business
of `gateway/web/http2_stream.py`; here is what the streams of a connection share: the parser, the
socket, the windows, and the patience with a client that only keeps us busy.

**Windows.** The client may always send on the connection as a whole. A single stream gets its
window again as long as the bodies that this connection holds are not too many bytes; beyond that
only the oldest that is still being read does, so that it can become whole and be answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, Final, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import NoSuchStreamError, StreamClosedError
from h2.settings import SettingCodes, Settings

from gateway.web import headers as heads
from gateway.web.half_close import HalfClosed
from gateway.web.hpack import LINE_BYTES, MOST_LINES, SmallDecoder, SmallEncoder
from gateway.web.http2_flood_guard import Intake
from gateway.web.http2_frames import goaway
from gateway.web.http2_stream import Stream
from gateway.web.patience import PATIENCE, PER_SECOND
from gateway.web.server_state import Shared
from gateway.web.tornado_adapter import Origin
from gateway.web.unread import LEAST_RATE, Account, Charged
from gateway.web.uploads import client_of

# Bytes that a client may send on one stream, and on all together, before it hears of us.
_STREAM_WINDOW: Final = 128 * 1024
_WINDOW: Final = 16 * 1024 * 1024
_FIRST_WINDOW: Final = 65_535  # of every connection, by the standard
_GATHER: Final = 256 * 1024  # bytes that are gathered before they are written
_PING: Final = b"\0\0\x08\x06\0\0\0\0\0half-end"


class Http2Connection(Intake):
    """One client's connection: the answering half, on top of the reading one.

    Attributes:
        shared: what all connections of the server have in common.
        streams: requests that are not yet answered, by number; the oldest first.
    """

    __slots__ = (
        "_account",
        "_age",
        "_block",
        "_called",
        "_client",
        "_consumed",
        "_due",
        "_half_closed",
        "_heading",
        "_heading_bytes",
        "_pages",
        "_retiring",
        "_unsent",
        "shared",
        "streams",
    )

    def __init__(self, shared: Shared) -> None:
        """Nothing is connected yet; asyncio calls `connection_made` next."""
        super().__init__(_wire(shared.limits.max_header), shared.limits)
        self.shared = shared
        self.streams: dict[int, Stream] = {}
        self._pages: deque[Stream] = deque()  # that tornado is to answer, one in a turn
        self._due: dict[int, Stream] = {}  # that have something to send, first come first served
        self._client = ""
        self._called = False  # `_flush` is going to be called
        self._consumed = 0  # bytes of the connection's window that were not given back
        self._retiring = False
        self._half_closed: HalfClosed | None = None  # the client sends nothing more
        self._block = 0  # of headers, that was not complete when the sweep last looked
        self._heading_bytes = 0  # of them that have taken room
        self._heading = 0.0  # seconds for which it has not been
        self._age = 0.0  # seconds without any stream, as the sweep counts them
        self._unsent = 0
        self._account: Account | None = None  # of answers that the client has not taken

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self.transport = cast(asyncio.Transport, transport)
        self.shared.guests.add(self)
        self._wire.initiate_connection()
        # As an update, h2 enforces it only once the client knows of it.
        limit: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: self.shared.limits.streams
        }
        self._wire.update_settings(limit)
        self._wire.increment_flow_control_window(_WINDOW - _FIRST_WINDOW)
        if self.shared.excess > 0:
            self._dismiss(ErrorCodes.ENHANCE_YOUR_CALM)  # nothing was looked at: it may ask again
        self._write()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is no more; whoever works for it is told."""
        self._closing = True
        self._forsake()
        self._count_head(0)
        if self._half_closed is not None:
            self._half_closed.stop()
            self._half_closed = None
        if self._account is not None:
            self._account.close()
            self._account = None
        self.shared.leave(self)

    def eof_received(self) -> bool:
        """The client sends nothing more: answer what it asked for; says whether it stays open."""
        for stream in list(self.streams.values()):
            if stream.reading or stream.over:
                self._drop(stream)
            stream.whole = True
        if self._closing or not self.streams or self.transport.is_closing():
            self._closing = True
            self._forsake()
            return False
        self._half_closed = HalfClosed(self.transport, self._probe, self._vanished)
        return True

    def _probe(self) -> None:
        """Send what makes the kernel of a client that has closed its connection say so."""
        if not (self.choked or self._closing):
            self.transport.write(_PING)

    def _vanished(self) -> None:
        """The client has closed its connection: nobody wants the answers."""
        self._closing = True
        self._forsake()
        self.transport.abort()

    # ---- h2's side

    def _heed(self, event: events.Event) -> None:
        action = _ACTIONS.get(type(event))
        if action is not None:
            action(self, event)

    def _count_head(self, pending: int) -> None:
        """Take room for headers that are not complete; without any left, the connection ends."""
        if pending == self._heading_bytes:
            return
        heads_of_all = self.shared.heads
        heads_of_all.give_back(self._heading_bytes)
        self._heading_bytes = 0
        if heads_of_all.take(pending):
            self._heading_bytes = pending
        else:
            self.shared.drop("heads")
            self._dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def _is_idle(self) -> bool:
        return not self.streams

    def _requested(self, event: events.RequestReceived) -> None:
        number = event.stream_id
        if self._retiring or len(self.streams) >= self.shared.limits.streams:
            self._reset(number, ErrorCodes.REFUSED_STREAM)
            self._pay(1.0)
            return
        if self.is_behind:
            self._pay(1.0)
        stream = self.streams[number] = Stream(self, number)
        self._age = 0.0
        stream.begin(heads.from_http2(event.headers), event.stream_ended is not None)

    def _received(self, event: events.DataReceived) -> None:
        length = event.flow_controlled_length
        self._bodies += 1
        self._consumed += length
        if self._consumed >= _WINDOW // 2:
            self._wire.increment_flow_control_window(self._consumed)
            self._consumed = 0
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            stream.owed += length
            stream.read(event.data)
            self._grant(stream)

    def _ended(self, event: events.StreamEnded) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None and not stream.whole:
            stream.end()
            if stream.over:
                self._drop(stream)

    def _cancelled(self, event: events.StreamReset) -> None:
        if not event.remote_reset:
            self._pay(1.0)  # h2 has reset it, for what the client did; the client's own are counted
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            self._drop(stream)

    # ---- streams

    def _grant(self, stream: Stream) -> None:
        """Give a stream its window again, if it may go on."""
        if stream.owed < _STREAM_WINDOW // 2 or stream.whole:
            return
        if stream.reading and self._is_full() and stream is not self._oldest():
            return
        with suppress(NoSuchStreamError, StreamClosedError, KeyError):
            self._wire.increment_flow_control_window(stream.owed, stream.number)
            stream.owed = 0

    def _is_full(self) -> bool:
        """Whether this connection holds as much as it may."""
        held = sum([stream.held for stream in self.streams.values()])
        return held > self.shared.limits.max_body

    def _oldest(self) -> Stream | None:
        """The first that is still being read."""
        return next((stream for stream in self.streams.values() if stream.reading), None)

    def due(self, stream: Stream) -> None:
        """The stream has something to send: send it together with others of this turn."""
        if stream.number in self.streams:
            self._due[stream.number] = stream
            if not self._called:
                self._called = True
                asyncio.get_running_loop().call_soon(self._flush)

    def later(self, stream: Stream) -> None:
        """Set the stream off when others have had their turn."""
        self._pages.append(stream)
        if len(self._pages) == 1:
            asyncio.get_running_loop().call_soon(self._next_page)

    def _next_page(self) -> None:
        self._pages.popleft().set_off()
        if self._pages:
            asyncio.get_running_loop().call_soon(self._next_page)

    def cancel(self, stream: Stream) -> None:
        """The stream cannot be answered, or is, and its client still sends: say so."""
        code = ErrorCodes.NO_ERROR if stream.over else ErrorCodes.INTERNAL_ERROR
        self._reset(stream.number, code)
        self._drop(stream)
        self._write()

    def _reset(self, number: int, code: ErrorCodes) -> None:
        with suppress(NoSuchStreamError, StreamClosedError):
            self._wire.reset_stream(number, code)

    def _drop(self, stream: Stream) -> None:
        """A stream is over, answered or not."""
        self.streams.pop(stream.number, None)
        self._due.pop(stream.number, None)
        stream.lost()
        for other in self.streams.values():
            self._grant(other)
        if not self.streams and (self._retiring or self._departed or self._half_closed):
            self._end()

    def _forsake(self) -> None:
        """Nothing that is still pending will be answered."""
        streams, self.streams = self.streams, {}
        self._due.clear()
        for stream in streams.values():
            stream.lost()

    # ---- what is sent

    def _flush(self) -> None:
        """Send what the streams have, in turns, as far as windows and socket take it."""
        self._called = False
        written, moved = 0, 1
        while moved and self._due and not (self.choked or self._closing):
            moved = self._round()
            written += moved
        self._write()
        if self._due or self._account is not None:
            self._reckon(written)

    def _reckon(self, written: int) -> None:
        """Account for what the client has not taken, after so many bytes were written.

        What is written and chokes nobody is looked at by the sweep, and from then on.
        """
        is_watched = self.choked or self._account is not None
        unsent = self.transport.get_write_buffer_size() if is_watched else 0
        self._settle(unsent, max(0, written + self._unsent - unsent))

    def _settle(self, left: int, taken: int) -> None:
        kept: list[tuple[Charged | None, int]] = [
            (stream.charged, unsent)
            for stream in self.streams.values()
            if (unsent := stream.unsent)
        ]
        self._unsent = left
        if left:
            kept.append((None, left))
        account = self._account
        if account is None:
            if not kept:
                return
            account = self._account = Account(self.shared.unread, self._cut_off)
        account.settle(kept, taken)
        if not kept:
            self._account = None

    def _cut_off(self, cause: str) -> None:
        """The client costs too much: no answer would reach it."""
        self.shared.drop(cause)
        self._closing = True
        self.transport.abort()

    @property
    def is_behind(self) -> bool:
        """Whether so much is unread that nothing more should be asked for."""
        return self._account is not None and self._account.is_full

    def _round(self) -> int:
        """Let each stream send its share once."""
        moved = gathered = 0
        for stream in list(self._due.values()):
            del self._due[stream.number]
            sent = stream.advance(self._wire)
            moved += sent
            gathered += sent
            if stream.over:
                self._answered(stream)
            elif stream.waits:
                self._due[stream.number] = stream
            if gathered >= _GATHER:
                gathered = 0
                self._write()
                if self.choked:
                    break
        self._write()
        self._please(moved)
        return moved

    def _answered(self, stream: Stream) -> None:
        self._please(0, answers=1)
        if stream.whole:
            self._drop(stream)

    def _write(self) -> None:
        piece = self._wire.data_to_send()
        if piece and not self._closing:
            self.transport.write(piece)

    def _dismiss(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """End the connection, and say why."""
        if not self._closing:
            self._wire.close_connection(code)
            self._end()

    def _end(self) -> None:
        """Say good-bye, and close so that the client can still read it."""
        if self._closing:
            return
        self._write()
        self._closing = True
        self._age = 0.0
        self._forsake()
        if self._half_closed is None and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # ---- the server's side

    @property
    def origin(self) -> Origin:
        """Who asks."""
        peer = self.transport.get_extra_info("peername")
        return Origin(peer[0] if isinstance(peer, tuple) else "0.0.0.0", "http")

    @property
    def client(self) -> str:
        """Who asks, as far as slow bodies are counted."""
        self._client = self._client or client_of(self.origin.remote_ip)
        return self._client

    def tick(self, step: float) -> None:
        """`step` seconds have passed: end what takes too long. Called by the server's sweep."""
        limits = self.shared.limits
        self._patience = min(PATIENCE, self._patience + PER_SECOND * step)
        if self.choked:
            self._watch_writing(step)
        else:
            self._watch_rest()
        if self._account is not None:
            self._account.tick(step)
        if self._half_closed is not None and self._half_closed.look():
            return
        self._watch_head(step)
        for stream in list(self.streams.values()):
            if stream.reading and stream.owed >= _STREAM_WINDOW // 2:
                stream.patient()
            stream.tick(step)
        self._age = 0.0 if self.streams else self._age + step
        if self._closing:
            if self._age >= limits.linger:
                self.transport.abort()
        elif self._age >= limits.idle_timeout:
            self._dismiss()

    def _watch_head(self, step: float) -> None:
        """Headers that are not complete have as long as in HTTP/1.1."""
        block = self._sieve.block
        self._heading = self._heading + step if block and block == self._block else 0.0
        self._block = block
        if self._heading >= self.shared.limits.header_timeout:
            self._dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def _watch_rest(self) -> None:
        """Charge what the client has not taken and is too little to choke it.

        How fast it takes that cannot be told while more is written; it is late if nothing moves.
        """
        unsent = self.transport.get_write_buffer_size()
        if unsent or self._account is not None:
            self._settle(unsent, LEAST_RATE if unsent != self._unsent else 0)

    def _watch_writing(self, step: float) -> None:
        """The client does not take its answer: give up once not a byte has gone for long."""
        before = self._unsent
        self._reckon(0)
        self._stuck = self._stuck + step if self._unsent == before else 0.0
        if self._stuck >= self.shared.limits.write_timeout:
            self.transport.abort()

    def retire(self) -> None:
        """Answer what has begun, take nothing after it, then close."""
        if self._retiring or self._closing:
            return
        self._retiring = True
        self.transport.write(goaway(self._wire.highest_inbound_stream_id))
        if not self.streams:
            self._end()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self.transport.abort()

    def __repr__(self) -> str:
        """Show how many requests it has."""
        return f"<Http2Connection {len(self.streams)} streams>"


_ACTIONS: Final[dict[type[events.Event], Any]] = {
    events.RequestReceived: Http2Connection._requested,
    events.DataReceived: Http2Connection._received,
    events.StreamEnded: Http2Connection._ended,
    events.StreamReset: Http2Connection._cancelled,
}


def _wire(max_header: int) -> H2Connection:
    """The parser of one connection.

    Headers a little over the limit are taken in, so that a request whose headers are too long can
    be answered like in HTTP/1.1; h2 ends a connection that brings more.
    """
    wire = H2Connection(
        H2Configuration(
            client_side=False,
            header_encoding=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    most = max_header + MOST_LINES * LINE_BYTES  # as HPACK counts
    own = {
        SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: most,
    }
    wire.local_settings = Settings(client=False, initial_values=own)
    wire.encoder = SmallEncoder()
    wire.decoder = SmallDecoder(most)
    return wire
