"""Pauses and resumes reading from an HTTP/1.1 connection.

A client with many pending answers waits, and connections take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.web.http1_responses import ResponseQueue


class ReadPacing:
    """Pauses and resumes reading, and keeps received bytes that must be parsed later.

    Args:
        responses: the client's queue of answers.
        read: parses the kept bytes; it may keep some of them again.

    Attributes:
        kept: the bytes that are not parsed yet; reading is paused while there are any.
    """

    __slots__ = ("_called", "_paused", "_read", "_responses", "_stopped", "kept")

    def __init__(self, responses: ResponseQueue, read: Callable[[bytes], None]) -> None:
        self._responses = responses
        self._read = read
        self.kept = b""
        self._paused = False
        self._stopped = False
        self._called = False  # whether a call of `_go_on` is scheduled

    def keep(self, rest: bytes) -> None:
        """Keep these bytes until fewer requests are pending, or others have had their turn."""
        self.kept = rest
        self.pause()
        if not self._responses.is_full:
            self._call_on()

    def pause(self) -> None:
        """Stop reading from the client until `resume`, unless its input is discarded."""
        transport = self._responses.transport
        if not (self._paused or self._stopped or transport.is_closing()):
            self._paused = True
            self._responses.watch()
            transport.pause_reading()

    def resume(self) -> bool:
        """Read on if the client reads its answers and few are pending; return if it is paused."""
        if self._paused and self._responses.has_room:
            if self.kept:
                self._call_on()
            else:
                self.unpause()
        return self._paused

    def unpause(self) -> None:
        """Read on, however many answers are pending."""
        if self._paused:
            self._paused = False
            transport = self._responses.transport
            if not transport.is_closing():
                transport.resume_reading()

    def stop(self) -> None:
        """Parse nothing more."""
        self._stopped = True
        self.kept = b""

    def close(self) -> None:
        """Drop the references to a connection that is gone."""
        self.stop()
        self._read = _ignore

    def _call_on(self) -> None:
        """Schedule `_go_on`, after the other events of this loop iteration."""
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._called = False
        if self.kept and not self._responses.is_full:
            kept, self.kept = self.kept, b""
            self._read(kept)
        if not self.kept:
            self._responses.settle()


def _ignore(segment: bytes) -> None:
    """Do nothing: the connection is gone."""
