"""A connection after HTTP: what tornado's `WebSocketHandler` takes for its stream.

tornado would use its own `IOStream`, which needs the socket itself; this one works on the transport
that is there, with what was already read from it.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from gateway.web.server_state import ServerState

_HIGH_WATER_BYTES: Final = 64 * 1024  # bytes that may lie unread while no read waits for more
# A WebSocket's close frame: 1001, the server goes away.
_GOING_AWAY: Final = b"\x88\x02\x03\xe9"


class WebSocketStream(asyncio.Protocol):
    """The stream of an upgraded connection: the methods of tornado's `IOStream` that it needs.

    Everything that comes before `open` is kept, so that a client may send its first frame right
    behind the handshake.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_paused",
        "_reader",
        "_server",
        "_stuck",
        "_transport",
        "_unsent",
        "_wanted",
        "_writer",
    )

    def __init__(self, server: ServerState, transport: asyncio.Transport) -> None:
        """Made when a client asks for an upgrade; HTTP passes on what comes until `open`."""
        self._server = server
        self._transport: asyncio.Transport | None = transport
        self._buffer = bytearray()
        self._wanted = 0  # bytes that the reader waits for
        self._reader: asyncio.Future[bytes] | None = None
        self._writer: asyncio.Future[None] | None = None  # done when the client has room
        self._paused = False
        self._closed = False
        self._stuck = 0.0
        self._unsent = 0

    def open(self) -> None:
        """Take the connection over from HTTP."""
        assert self._transport is not None
        self._server.connections.add(self)
        self._transport.set_protocol(self)

    # ---- tornado's side

    @property
    def io_loop(self) -> IOLoop:
        """Where tornado sets its timers."""
        return IOLoop.current()

    def read_bytes(self, count: int) -> asyncio.Future[bytes]:
        """The next `count` bytes; StreamClosedError if they do not come any more."""
        assert self._reader is None, "two reads at once"
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._reader, self._wanted = future, count
        self._serve()
        return future

    def write(self, piece: bytes | memoryview) -> asyncio.Future[None]:
        """Send; the future is done when there is room for more."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed or self._transport is None:
            _fail(future)
            return future
        self._transport.write(piece)
        if self._writer is None:
            future.set_result(None)
            return future
        return asyncio.shield(self._writer)

    def close(self) -> None:
        """Close, after what was written has been sent."""
        self._end()
        if self._transport is not None:
            self._transport.close()

    def closed(self) -> bool:
        """Whether nothing can be read or written any more."""
        return self._closed

    def set_nodelay(self, _value: bool) -> None:
        """Nothing to do: asyncio's sockets do not delay."""

    # ---- the transport's side

    def data_received(self, data: bytes) -> None:
        """Bytes came; stop reading if so many are not wanted."""
        self._buffer += data
        self._serve()

    def _serve(self) -> None:
        """Give the reader what it waits for, and read on if more may come."""
        reader = self._reader
        if reader is not None and len(self._buffer) >= self._wanted:
            self._reader = None
            if not reader.done():
                reader.set_result(bytes(self._buffer[: self._wanted]))
                del self._buffer[: self._wanted]
            self._wanted = 0
        elif reader is not None and self._closed:
            self._reader = None
            _fail(reader)
        self._regulate()

    def _regulate(self) -> None:
        """Read as long as a read waits, or little lies here."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        full = len(self._buffer) >= max(_HIGH_WATER_BYTES, self._wanted)
        if full and not self._paused:
            self._paused = True
            transport.pause_reading()
        elif self._paused and not full:
            self._paused = False
            transport.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read."""
        self._writer = asyncio.get_running_loop().create_future()
        self._stuck = 0.0

    def resume_writing(self) -> None:
        """It reads again."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.set_result(None)

    def eof_received(self) -> bool:
        """The client will send nothing more; the transport then closes."""
        self._end()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone: notify what waits."""
        self._end()
        self._transport = None
        self._server.leave(self)

    def _end(self) -> None:
        """Nothing will come, and nothing can be sent."""
        self._closed = True
        self._serve()
        writer, self._writer = self._writer, None
        if writer is not None:
            _fail(writer)

    # ---- the server's side

    def tick(self, step: float) -> None:
        """`step` seconds have passed: give up a client that takes nothing of what is written."""
        transport = self._transport
        if transport is None or self._writer is None:
            return
        unsent = transport.get_write_buffer_size()
        self._stuck = self._stuck + step if unsent == self._unsent else 0.0
        self._unsent = unsent
        if self._stuck >= self._server.limits.write_timeout:
            transport.abort()

    def retire(self) -> None:
        """The server stops: say so in WebSocket's words, and close."""
        if self._transport is not None and not self._closed:
            self._transport.write(_GOING_AWAY)
            self.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _fail(future: asyncio.Future[bytes] | asyncio.Future[None]) -> None:
    """The connection is closed; tornado may or may not look at the future."""
    if not future.done():
        cast(asyncio.Future[object], future).set_exception(StreamClosedError())
        future.exception()
