"""How much the client of an HTTP/2 connection may send.

It may always send on the connection as a whole. A single stream gets its window again as long as
the bodies that this connection holds are not too many bytes; beyond that only the oldest that is
still being read does, so that it can become whole and be answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from h2.connection import H2Connection
from h2.exceptions import NoSuchStreamError, StreamClosedError

from gateway.web.http2_stream import Stream

# Bytes that a client may send on one stream, and on all together, before it hears of us.
STREAM_WINDOW_BYTES: Final = 128 * 1024
_CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
_INITIAL_WINDOW_BYTES: Final = 65_535  # of every connection, by the standard


class ReceiveWindows:
    """Gives the client its windows back.

    Args:
        wire: h2's half of the connection.
        streams: those that are not answered, the oldest first; the connection changes them.
        max_body: bytes of bodies that the connection may hold.
    """

    __slots__ = ("_consumed", "_max_body", "_owed", "_streams", "_wire")

    def __init__(self, wire: H2Connection, streams: Mapping[int, Stream], max_body: int) -> None:
        self._wire, self._streams, self._max_body = wire, streams, max_body
        self._consumed = 0  # bytes of the connection's window that were not given back
        self._owed: dict[int, int] = {}  # the same of each stream's

    def open(self) -> None:
        """Say at the beginning how much may be sent on all streams together."""
        self._wire.increment_flow_control_window(_CONNECTION_WINDOW_BYTES - _INITIAL_WINDOW_BYTES)

    def consume(self, nbytes: int) -> None:
        """So much came, on whatever stream."""
        self._consumed += nbytes
        if self._consumed >= _CONNECTION_WINDOW_BYTES // 2:
            self._wire.increment_flow_control_window(self._consumed)
            self._consumed = 0

    def owe(self, stream: Stream, nbytes: int) -> None:
        """So much came on this stream."""
        self._owed[stream.number] = self._owed.get(stream.number, 0) + nbytes

    def is_held_up(self, stream: Stream) -> bool:
        """Whether the stream has used up so much that its client may have to wait for more."""
        return self._owed.get(stream.number, 0) >= STREAM_WINDOW_BYTES // 2

    def grant(self, stream: Stream) -> None:
        """Give a stream its window again, if it may go on."""
        if stream.whole or not self.is_held_up(stream):
            return
        if stream.reading and self._is_full() and stream is not self._oldest():
            return
        with suppress(NoSuchStreamError, StreamClosedError, KeyError):
            self._wire.increment_flow_control_window(self._owed[stream.number], stream.number)
            self._owed[stream.number] = 0

    def forget(self, stream: Stream) -> None:
        """The stream is over: the others may have more."""
        self._owed.pop(stream.number, None)
        for other in self._streams.values():
            self.grant(other)

    def _is_full(self) -> bool:
        """Whether this connection holds as much as it may."""
        return sum([stream.held for stream in self._streams.values()]) > self._max_body

    def _oldest(self) -> Stream | None:
        """The first that is still being read."""
        return next((stream for stream in self._streams.values() if stream.reading), None)
