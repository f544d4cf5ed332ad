"""Reads the frames of an HTTP/2 connection, a little at a time.

h2 processes all of its input before it returns, and a segment may hold thousands of frames. So a
few of them are read, then other connections have their turn, and nothing more is read from the
client meanwhile. The same holds after a large segment, since the event loop reads one socket many
times in a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Final, Protocol

from h2 import events
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from gateway.web.http2_flood_guard import FloodGuard

# After a segment of so many bytes the next one waits for another turn, by an empty run.
_LARGE_SEGMENT_BYTES: Final = 32 * 1024
_REST: Final = ((b"", 0.0),)


class FrameOwner(Protocol):
    """The connection whose frames are read."""

    def heed(self, event: events.Event) -> None:
        """Handle an event of h2."""

    def paused(self) -> None:
        """Let other connections have their turn: some frames were read, and more are here."""

    def all_read(self) -> None:
        """Continue after all received frames were read."""

    def dismiss(self, code: ErrorCodes) -> None:
        """End the connection with GOAWAY and the reason."""

    def end(self) -> None:
        """End the connection; h2 has written GOAWAY."""


class FrameReader:
    """Passes one client's input to h2, in runs of a few frames.

    Args:
        wire: h2's half of the connection.
        guard: cuts the runs, and counts useless frames.
        owner: the connection.
    """

    __slots__ = (
        "_ahead",
        "_choked",
        "_guard",
        "_owner",
        "_paused",
        "_runs",
        "_stopped",
        "_transport",
        "_wire",
    )

    def __init__(self, wire: H2Connection, guard: FloodGuard, owner: FrameOwner) -> None:
        self._wire, self._guard = wire, guard
        self._owner: FrameOwner | None = owner
        self._transport: asyncio.Transport
        self._runs: Iterator[tuple[bytes, float]] = iter(())  # runs that were not read yet
        self._ahead: tuple[bytes, float] | None = None  # the first of these runs
        self._choked = False
        self._paused = False
        self._stopped = False

    def open(self, transport: asyncio.Transport) -> None:
        """Start reading from a client that connected."""
        self._transport = transport

    @property
    def has_read_all(self) -> bool:
        """Whether all received bytes were read."""
        return self._ahead is None

    def receive(self, segment: bytes) -> None:
        """Read received bytes: some frames at once, the rest in later turns of the loop."""
        rest = _REST if len(segment) >= _LARGE_SEGMENT_BYTES else ()
        self._runs = chain(self._runs, self._guard.runs(segment), rest)
        if self._ahead is None:
            self._ahead = next(self._runs, None)
            self._go_on()

    def _go_on(self) -> None:
        """Read a run of frames, and schedule the next one for a later turn of the loop."""
        ahead, self._ahead = self._ahead, next(self._runs, None)
        owner = self._owner
        if self._stopped or owner is None:
            self._ahead = None
            return
        if ahead is not None:
            self._take(*ahead, owner)
        if self._ahead is not None and not self._stopped:
            owner.paused()
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            owner.all_read()
        self._regulate()

    def _take(self, run: bytes, unwelcome: float, owner: FrameOwner) -> None:
        if not self._guard.pay(unwelcome):
            owner.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)
        elif run and not self._stopped:
            self._parse(run, owner)
            if not self._guard.pay_for_wasted():
                owner.dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def _parse(self, run: bytes, owner: FrameOwner) -> None:
        try:
            found = self._wire.receive_data(run)
        except ProtocolError:
            owner.end()
            return
        for event in found:
            if not self._stopped:
                owner.heed(event)

    def choke(self, choked: bool) -> None:
        """Stop or resume reading requests, as the client does not read its answers or does."""
        self._choked = choked
        self._regulate()

    def _regulate(self) -> None:
        """Read from the client only while it reads, and all received bytes were processed."""
        wanted = not (self._choked or self._ahead is not None)
        if wanted != self._paused or self._transport.is_closing():
            return
        self._paused = not wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def stop(self) -> None:
        """Discard all further input: the connection ends."""
        self._stopped = True

    def close(self) -> None:
        """Drop the references to a connection that is gone."""
        self.stop()
        self._owner = None
