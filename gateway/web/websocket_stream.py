"""An upgraded connection, as the stream of tornado's `WebSocketHandler`.

tornado's own `IOStream` needs the socket itself. This class works on the existing transport, with
what was already read from it.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from gateway.web.server_state import ServerState

_HIGH_WATER_BYTES: Final = 64 * 1024  # bytes that may be buffered while no read waits
# A WebSocket's close frame: 1001, the server goes away.
_GOING_AWAY: Final = b"\x88\x02\x03\xe9"


class WebSocketStream(asyncio.Protocol):
    """The methods of tornado's `IOStream` that `WebSocketHandler` calls.

    Bytes that arrive before `open` are kept, so that a client may send its first frame right after
    the handshake.
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
        """Create the stream of a requested upgrade; HTTP passes received bytes on until `open`."""
        self._server = server
        self._transport: asyncio.Transport | None = transport
        self._buffer = bytearray()
        self._wanted = 0  # bytes that the pending read needs
        self._reader: asyncio.Future[bytes] | None = None
        self._writer: asyncio.Future[None] | None = None  # done when the client reads again
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
        """The loop for tornado's timers."""
        return IOLoop.current()

    def read_bytes(self, count: int) -> asyncio.Future[bytes]:
        """Return the next `count` bytes; StreamClosedError if the connection ended before."""
        assert self._reader is None, "two reads at once"
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._reader, self._wanted = future, count
        self._serve()
        return future

    def write(self, piece: bytes | memoryview) -> asyncio.Future[None]:
        """Send `data`; the future is done when there is room for more."""
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
        """Close after all written bytes were sent."""
        self._end()
        if self._transport is not None:
            self._transport.close()

    def closed(self) -> bool:
        """Whether nothing can be read or written any more."""
        return self._closed

    def set_nodelay(self, _value: bool) -> None:
        """Do nothing: asyncio's sockets do not delay."""

    # ---- the transport's side

    def data_received(self, data: bytes) -> None:
        """Buffer received bytes; stop reading if there are too many."""
        self._buffer += data
        self._serve()

    def _serve(self) -> None:
        """Complete the pending read if enough arrived, and resume reading if there is room."""
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
        """Read while a read is pending, or little is buffered."""
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
        """Note that the client does not read."""
        self._writer = asyncio.get_running_loop().create_future()
        self._stuck = 0.0

    def resume_writing(self) -> None:
        """Complete the pending write: the client reads again."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.set_result(None)

    def eof_received(self) -> bool:
        """Let the transport close: the client sends nothing more."""
        self._end()
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        """Fail the pending read and write: the connection is gone."""
        self._end()
        self._transport = None
        self._server.leave(self)

    def _end(self) -> None:
        """End all reads and writes."""
        self._closed = True
        self._serve()
        writer, self._writer = self._writer, None
        if writer is not None:
            _fail(writer)

    # ---- the server's side

    def tick(self, step: float) -> None:
        """Close a client that has read nothing for too long, after `step` more seconds."""
        transport = self._transport
        if transport is None or self._writer is None:
            return
        unsent = transport.get_write_buffer_size()
        self._stuck = self._stuck + step if unsent == self._unsent else 0.0
        self._unsent = unsent
        if self._stuck >= self._server.limits.write_timeout:
            transport.abort()

    def retire(self) -> None:
        """Send a close frame, 1001, and close: the server stops."""
        if self._transport is not None and not self._closed:
            self._transport.write(_GOING_AWAY)
            self.close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        if self._transport is not None:
            self._transport.abort()


def _fail(future: asyncio.Future[bytes] | asyncio.Future[None]) -> None:
    """Fail a future because the connection is closed; tornado may never await it."""
    if not future.done():
        cast(asyncio.Future[object], future).set_exception(StreamClosedError())
        future.exception()
