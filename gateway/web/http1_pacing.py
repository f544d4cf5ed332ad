"""How fast an HTTP/1.1 connection is read: a client that is owed much waits, and all have turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.web.http1_responses import ResponseQueue


class ReadPacing:
    """Pauses and resumes reading, and keeps what came and may not be parsed yet.

    Args:
        responses: what is owed to the client.
        read: parses what was kept; it may keep some of it again.

    Attributes:
        kept: what is not parsed yet; reading is paused while there is any.
    """

    __slots__ = ("_called", "_paused", "_read", "_responses", "_stopped", "kept")

    def __init__(self, responses: ResponseQueue, read: Callable[[bytes], None]) -> None:
        self._responses = responses
        self._read = read
        self.kept = b""
        self._paused = False
        self._stopped = False
        self._called = False  # `_go_on` is going to be called

    def keep(self, rest: bytes) -> None:
        """Leave this for later, when less is pending or others have had their turn."""
        self.kept = rest
        self.pause()
        if not self._responses.is_full:
            self._call_on()

    def pause(self) -> None:
        """Read no more from the client until `resume`, unless all that comes is thrown away."""
        transport = self._responses.transport
        if not (self._paused or self._stopped or transport.is_closing()):
            self._paused = True
            self._responses.watch()
            transport.pause_reading()

    def resume(self) -> bool:
        """Read on if the client takes its answers and little is pending; says if it is paused."""
        if self._paused and self._responses.has_room:
            if self.kept:
                self._call_on()
            else:
                self.unpause()
        return self._paused

    def unpause(self) -> None:
        """Read on, whatever is pending."""
        if self._paused:
            self._paused = False
            transport = self._responses.transport
            if not transport.is_closing():
                transport.resume_reading()

    def stop(self) -> None:
        """Nothing that comes is parsed any more."""
        self._stopped = True
        self.kept = b""

    def close(self) -> None:
        """The connection is no more; it is not referred to any more."""
        self.stop()
        self._read = _ignore

    def _call_on(self) -> None:
        """Have `_go_on` called, after whatever else the loop has to do."""
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
    """The connection is no more."""
