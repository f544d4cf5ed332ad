"""The start of a client connection: its first bytes decide between HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from gateway.web.http1 import Http1Connection
from gateway.web.http2 import Http2Connection
from gateway.web.http2_flood_guard import PREFACE
from gateway.web.server_state import ServerState

# Connections above the limit that get an answer; further ones are closed.
ANSWERED_EXCESS: Final = 32


class ProtocolDetection(asyncio.Protocol):
    """Reads until the protocol is clear, then passes the connection to its implementation.

    Neither parser exists before that, so a silent connection costs little. A connection above the
    limit is refused in its own protocol; a silent one after a while, in HTTP/1.1.
    """

    __slots__ = ("_age", "_held", "_server", "_transport")

    def __init__(self, server: ServerState) -> None:
        """Prepare for `connection_made`, which asyncio calls next."""
        self._server = server
        self._transport: asyncio.Transport
        self._age = 0.0
        self._held = b""  # the bytes so far, too few to decide

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register a client that connected, or close the connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        excess = self._server.excess
        if excess > ANSWERED_EXCESS:
            self._transport.abort()  # answering so many would use up the descriptors

    def data_received(self, data: bytes) -> None:
        """Compare the bytes with HTTP/2's preface, and pass them to the right protocol."""
        if not self._held:
            self._age = 0.0
        self._held += data
        if self._held.startswith(PREFACE):
            self._become(Http2Connection(self._server), self._held)
        elif not PREFACE.startswith(self._held):
            self._become(Http1Connection(self._server), self._held)

    def _become(self, connection: Http1Connection | Http2Connection, segment: bytes) -> None:
        self._server.connections.discard(self)
        self._transport.set_protocol(connection)
        connection.connection_made(self._transport)
        if segment:
            connection.data_received(segment)
        if self._server.leaving and type(connection) is Http2Connection:
            connection.retire()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Unregister a client that disconnected before the protocol was clear."""
        self._server.leave(self)

    def tick(self, step: float) -> None:
        """Close a client that has sent nothing for too long, after `step` more seconds."""
        limits = self._server.limits
        self._age += step
        if self._server.excess > 0 and self._age >= limits.linger:
            self._become(Http1Connection(self._server), b"")  # which refuses it
        elif self._age >= (limits.header_timeout if self._held else limits.idle_timeout):
            self._transport.close()

    def retire(self) -> None:
        """Close: no request was sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once, without an answer."""
        self._transport.abort()
