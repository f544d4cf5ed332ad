"""Reads the frames of an HTTP/2 connection, a little at a time.

h2 works off whatever it is given before it returns, and a segment may hold thousands of frames.
So a few of them are read, then others have their turn, and nothing more is read from the client
meanwhile; nor after a large segment, since the event loop reads one socket many times in a row.
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

# A segment of so many bytes has the next wait for another turn, by an empty run.
_LARGE_SEGMENT_BYTES: Final = 32 * 1024
_REST: Final = ((b"", 0.0),)


class FrameOwner(Protocol):
    """The connection whose frames are read."""

    def heed(self, event: events.Event) -> None:
        """Do what an event of h2 asks for."""

    def paused(self) -> None:
        """Some frames were read, more are here: let others have their turn."""

    def all_read(self) -> None:
        """Everything that came was read."""

    def dismiss(self, code: ErrorCodes) -> None:
        """End the connection, and say why."""

    def end(self) -> None:
        """End the connection; h2 has written why."""


class FrameReader:
    """Gives h2 what one client sends, in runs of a few frames.

    Args:
        wire: h2's half of the connection.
        guard: cuts the runs, and counts what asks for nothing.
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
        self._runs: Iterator[tuple[bytes, float]] = iter(())  # of what came, not looked at yet
        self._ahead: tuple[bytes, float] | None = None  # the first of them
        self._choked = False
        self._paused = False
        self._stopped = False

    def open(self, transport: asyncio.Transport) -> None:
        """The client is there."""
        self._transport = transport

    @property
    def has_read_all(self) -> bool:
        """Whether everything that came was looked at."""
        return self._ahead is None

    def receive(self, segment: bytes) -> None:
        """Read what came: some frames at once, the rest as the loop turns again."""
        rest = _REST if len(segment) >= _LARGE_SEGMENT_BYTES else ()
        self._runs = chain(self._runs, self._guard.runs(segment), rest)
        if self._ahead is None:
            self._ahead = next(self._runs, None)
            self._go_on()

    def _go_on(self) -> None:
        """Read a run of frames; another one only after others have had their turn."""
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
        """Whether the client leaves its answers unread: then no more requests are read from it."""
        self._choked = choked
        self._regulate()

    def _regulate(self) -> None:
        """Read from the client while it reads, and what it sent before has been looked at."""
        wanted = not (self._choked or self._ahead is not None)
        if wanted != self._paused or self._transport.is_closing():
            return
        self._paused = not wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def stop(self) -> None:
        """The connection ends: nothing that still comes is looked at."""
        self._stopped = True

    def close(self) -> None:
        """The connection is no more; it is not referred to any more."""
        self.stop()
        self._owner = None
