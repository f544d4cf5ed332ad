"""What an HTTP/2 client sends, taken in a little at a time, and how long we put up with it.

h2 works off whatever it is given before it returns, and a segment may hold thousands of frames.
So a few of them are read, then others have their turn, and nothing more is read from the client
meanwhile; nor after a large segment, since the event loop reads one socket many times in a row.
What costs us something and asks for nothing is paid for with patience; when that has run out the
connection ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Final

from h2 import events
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from gateway.web.exchange import Limits
from gateway.web.http2_frames import Sieve
from gateway.web.patience import PATIENCE

# Patience that comes back with each answer.
_PER_ANSWER: Final = 2.0
# Window updates that cost no patience: so many at once, so many more with every answer, and one
# with so many bytes that are sent; so many are saved up.
_UPDATES: Final = 200
_UPDATES_PER_ANSWER: Final = 4
_BYTES_PER_UPDATE: Final = 128
_MOST_UPDATES: Final = 65_536
# Bytes of a segment from which on the next waits for another turn, and what makes it wait.
_LARGE_SEGMENT: Final = 32 * 1024
_REST: Final = ((b"", 0.0),)


class Intake(asyncio.Protocol):
    """The reading half of a connection, below the one that answers (`gateway/web/http2.py`).

    Attributes:
        transport: where frames come from and go to.
        choked: True while the client does not take what was written.
    """

    __slots__ = (
        "_ahead",
        "_bodies",
        "_closing",
        "_patience",
        "_paused",
        "_runs",
        "_sent",
        "_sieve",
        "_stuck",
        "_wire",
        "choked",
        "transport",
    )

    def __init__(self, wire: H2Connection, limits: Limits) -> None:
        """Nothing is connected yet."""
        self.transport: asyncio.Transport
        self.choked = False
        self._wire = wire
        self._closing = False
        self._stuck = 0.0  # seconds without the client taking anything
        self._sieve = Sieve(2 * limits.max_header)
        self._sieve.updates = _UPDATES
        self._runs: Iterator[tuple[bytes, float]] = iter(())  # of what came, not looked at yet
        self._ahead: tuple[bytes, float] | None = None  # the first of them
        self._paused = False
        self._patience = PATIENCE
        self._bodies = 0  # pieces of bodies that h2 took for such, or that were paid for
        self._sent = 0  # bytes that were sent since window updates were last granted for them

    def data_received(self, data: bytes) -> None:
        """Read what came: some frames at once, the rest as the loop turns again."""
        rest = _REST if len(data) >= _LARGE_SEGMENT else ()
        self._runs = chain(self._runs, self._sieve.runs(data), rest)
        if self._ahead is None:
            self._ahead = next(self._runs, None)
            self._go_on()

    def _go_on(self) -> None:
        """Read a run of frames; another one only after others have had their turn."""
        ahead, self._ahead = self._ahead, next(self._runs, None)
        if self._closing:
            self._ahead = None
            return
        if ahead is not None:
            self._take(*ahead)
        if self._ahead is not None and not self._closing:
            self._write()
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._all_read()
        self._regulate()

    def _take(self, run: bytes, unwelcome: float) -> None:
        self._pay(unwelcome)
        if run and not self._closing:
            self._parse(run)
            wasted = self._sieve.bodies - self._bodies - 1  # the last may not be there yet
            if wasted > 0:  # to streams that we reset, each of which h2 resets again
                self._bodies += wasted
                self._pay(wasted)

    def _all_read(self) -> None:
        self._count_head(self._sieve.pending)
        if self._sieve.overlong:
            self._dismiss(ErrorCodes.FRAME_SIZE_ERROR)
        elif self._sieve.excessive:
            self._dismiss(ErrorCodes.ENHANCE_YOUR_CALM)
        if self._departed and self._is_idle():
            self._end()
        self._flush()

    @property
    def _departed(self) -> bool:
        """Whether the client has said that it will ask for nothing more, and all was read."""
        return self._sieve.departed and self._ahead is None

    def _parse(self, run: bytes) -> None:
        try:
            found = self._wire.receive_data(run)
        except ProtocolError:
            self._end()  # h2 has written why
            return
        for event in found:
            if not self._closing:
                self._heed(event)

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more requests from it."""
        self.choked = True
        self._stuck = 0.0
        self._regulate()

    def resume_writing(self) -> None:
        """It reads again."""
        self.choked = False
        self._regulate()
        self._flush()

    def _regulate(self) -> None:
        """Read from the client while it reads, and what it sent before has been looked at."""
        wanted = not (self.choked or self._ahead is not None)
        if wanted != self._paused or self.transport.is_closing():
            return
        self._paused = not wanted
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    # ---- patience

    def _pay(self, cost: float) -> None:
        """The client costs us something and asks for nothing: at last lose patience."""
        self._patience -= cost
        if self._patience < 0:
            self._dismiss(ErrorCodes.ENHANCE_YOUR_CALM)

    def _please(self, sent: int, answers: int = 0) -> None:
        """So many bytes and answers were sent: the client may update windows for them."""
        self._sent += sent
        more = self._sent // _BYTES_PER_UPDATE + answers * _UPDATES_PER_ANSWER
        self._sent %= _BYTES_PER_UPDATE
        self._sieve.updates = min(_MOST_UPDATES, self._sieve.updates + more)
        self._patience = min(PATIENCE, self._patience + answers * _PER_ANSWER)

    # ---- the answering half's part

    def _heed(self, event: events.Event) -> None:
        """Do what an event of h2 asks for."""
        raise NotImplementedError

    def _count_head(self, pending: int) -> None:
        """So many bytes of headers have come that are not complete."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Send what there is, as far as the client takes it."""
        raise NotImplementedError

    def _write(self) -> None:
        """Write what h2 has ready."""
        raise NotImplementedError

    def _dismiss(self, code: ErrorCodes) -> None:
        """End the connection, and say why."""
        raise NotImplementedError

    def _end(self) -> None:
        """End the connection."""
        raise NotImplementedError

    def _is_idle(self) -> bool:
        """Whether nothing awaits an answer."""
        raise NotImplementedError
