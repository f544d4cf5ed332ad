"""Where a client connection begins: HTTP/1.1 or HTTP/2, as its first bytes say."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from gateway.web.http1 import Connection
from gateway.web.http2 import Http2Connection
from gateway.web.http2_frames import PREFACE
from gateway.web.server_state import Shared

# Connections beyond the limit that are told so; more are cut off.
SPARE: Final = 32


class Doorway(asyncio.Protocol):
    """Reads until it is clear what a client speaks, then gives the connection to who speaks it.

    Neither parser exists before that: a connection that says nothing costs little. One that is too
    many is told so in what it speaks; if it says nothing, after a while and in HTTP/1.1.
    """

    __slots__ = ("_age", "_held", "_shared", "_transport")

    def __init__(self, shared: Shared) -> None:
        """Nothing is connected yet; asyncio calls `connection_made` next."""
        self._shared = shared
        self._transport: asyncio.Transport
        self._age = 0.0
        self._held = b""  # too little so far to tell

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._shared.guests.add(self)
        excess = self._shared.excess
        if excess > SPARE:
            self._transport.abort()  # to tell so many would take the last descriptors

    def data_received(self, data: bytes) -> None:
        """Look whether HTTP/2's preface comes, and let the right one read on."""
        if not self._held:
            self._age = 0.0
        self._held += data
        if self._held.startswith(PREFACE):
            self._become(Http2Connection(self._shared), self._held)
        elif not PREFACE.startswith(self._held):
            self._become(Connection(self._shared), self._held)

    def _become(self, guest: Connection | Http2Connection, segment: bytes) -> None:
        self._shared.guests.discard(self)
        self._transport.set_protocol(guest)
        guest.connection_made(self._transport)
        if segment:
            guest.data_received(segment)
        if self._shared.leaving and type(guest) is Http2Connection:
            guest.retire()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client went away without a word, or half of one."""
        self._shared.leave(self)

    def tick(self, step: float) -> None:
        """`step` seconds have passed: close if nothing was said for too long."""
        limits = self._shared.limits
        self._age += step
        if self._shared.excess > 0 and self._age >= limits.linger:
            self._become(Connection(self._shared), b"")  # which tells it so
        elif self._age >= (limits.header_timeout if self._held else limits.idle_timeout):
            self._transport.close()

    def retire(self) -> None:
        """Close: nothing was asked here."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
