"""Where a client connection begins: HTTP/1.1 or HTTP/2, as its first bytes say."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from gateway.web.http1 import Http1Connection
from gateway.web.http2 import Http2Connection
from gateway.web.http2_flood_guard import PREFACE
from gateway.web.server_state import ServerState

# Connections beyond the limit that are told so; more are cut off.
ANSWERED_EXCESS: Final = 32


class ProtocolDetection(asyncio.Protocol):
    """Reads until it is clear what a client speaks, then gives the connection to who speaks it.

    Neither parser exists before that: a connection that says nothing costs little. One that is too
    many is told so in what it speaks; if it says nothing, after a while and in HTTP/1.1.
    """

    __slots__ = ("_age", "_held", "_server", "_transport")

    def __init__(self, server: ServerState) -> None:
        """Nothing is connected yet; asyncio calls `connection_made` next."""
        self._server = server
        self._transport: asyncio.Transport
        self._age = 0.0
        self._held = b""  # too little so far to tell

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        excess = self._server.excess
        if excess > ANSWERED_EXCESS:
            self._transport.abort()  # to tell so many would take the last descriptors

    def data_received(self, data: bytes) -> None:
        """Look whether HTTP/2's preface comes, and let the right one read on."""
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
        """The client went away without a word, or half of one."""
        self._server.leave(self)

    def tick(self, step: float) -> None:
        """`step` seconds have passed: close if nothing was said for too long."""
        limits = self._server.limits
        self._age += step
        if self._server.excess > 0 and self._age >= limits.linger:
            self._become(Http1Connection(self._server), b"")  # which tells it so
        elif self._age >= (limits.header_timeout if self._held else limits.idle_timeout):
            self._transport.close()

    def retire(self) -> None:
        """Close: nothing was asked here."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
