"""Limits how much the client of an HTTP/2 connection may send.

The window of the connection as a whole is always reopened. The window of a stream is reopened while
the bodies that this connection holds are below a limit. Above it, only the oldest incomplete stream
gets more, so that it can be completed and answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from h2.connection import H2Connection
from h2.exceptions import NoSuchStreamError, StreamClosedError

from gateway.web.http2_stream import Stream

# Bytes that a client may send on one stream, and on all together, before we reopen a window.
STREAM_WINDOW_BYTES: Final = 128 * 1024
_CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
_INITIAL_WINDOW_BYTES: Final = 65_535  # of every connection, by the standard: RFC 9113, 6.9.2


class ReceiveWindows:
    """Reopens the client's windows.

    Args:
        wire: h2's half of the connection.
        streams: the unanswered streams, the oldest first; the connection changes them.
        max_body: bytes of bodies that the connection may hold.
    """

    __slots__ = ("_consumed", "_max_body", "_owed", "_streams", "_wire")

    def __init__(self, wire: H2Connection, streams: Mapping[int, Stream], max_body: int) -> None:
        self._wire, self._streams, self._max_body = wire, streams, max_body
        self._consumed = 0  # used bytes of the connection's window
        self._owed: dict[int, int] = {}  # used bytes of each stream's window

    def open(self) -> None:
        """Announce how much may be sent on all streams together."""
        self._wire.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - _INITIAL_WINDOW_BYTES)

    def consume(self, nbytes: int) -> None:
        """Count `nbytes` received bytes of the connection."""
        self._consumed += nbytes
        if self._consumed >= _CONNECTION_WINDOW_BYTES // 2:
            self._wire.increment_flow_control_window(self._consumed)
            self._consumed = 0

    def owe(self, stream: Stream, nbytes: int) -> None:
        """Count `nbytes` received bytes of this stream."""
        self._owed[stream.number] = self._owed.get(stream.number, 0) + nbytes

    def is_held_up(self, stream: Stream) -> bool:
        """Whether the stream's window is so used up that its client may have to wait."""
        return self._owed.get(stream.number, 0) >= STREAM_WINDOW_BYTES // 2

    def grant(self, stream: Stream) -> None:
        """Reopen a stream's window, if it may continue."""
        if stream.whole or not self.is_held_up(stream):
            return
        if stream.reading and self._is_full() and stream is not self._oldest():
            return
        with suppress(NoSuchStreamError, StreamClosedError, KeyError):
            self._wire.increment_flow_control_window(self._owed[stream.number], stream.number)
            self._owed[stream.number] = 0

    def forget(self, stream: Stream) -> None:
        """Forget a stream that ended, and let the others continue."""
        self._owed.pop(stream.number, None)
        for other in self._streams.values():
            self.grant(other)

    def _is_full(self) -> bool:
        """Whether this connection holds as many bytes of bodies as it may."""
        return sum([stream.held for stream in self._streams.values()]) > self._max_body

    def _oldest(self) -> Stream | None:
        """Return the oldest incomplete stream."""
        return next((stream for stream in self._streams.values() if stream.reading), None)
