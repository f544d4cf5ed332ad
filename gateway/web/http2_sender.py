"""Sends the answers of an HTTP/2 connection, in turns, as fast as its client reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from h2.connection import H2Connection

from gateway.web.http2_flood_guard import FloodGuard
from gateway.web.http2_stream import Stream
from gateway.web.unread import Charged, UnreadLedger

_GATHERED_BYTES: Final = 256 * 1024  # bytes that are gathered before they are written


class FrameSender:
    """Sends what the streams of one connection have ready, in the order in which they got ready.

    Args:
        wire: h2's half of the connection.
        guard: grants window updates for what was sent.
        streams: the unanswered streams; the connection changes them.
        ledger: accounts for what the client has not read.
        answered: called with each stream whose answer was sent to its end.

    Attributes:
        choked: True while the client does not read what was written.
    """

    __slots__ = (
        "_answered",
        "_called",
        "_due",
        "_guard",
        "_ledger",
        "_stopped",
        "_streams",
        "_stuck",
        "_transport",
        "_wire",
        "choked",
    )

    def __init__(
        self,
        wire: H2Connection,
        guard: FloodGuard,
        streams: Mapping[int, Stream],
        ledger: UnreadLedger,
        answered: Callable[[Stream], None],
    ) -> None:
        self._wire, self._guard, self._streams, self._ledger = wire, guard, streams, ledger
        self._answered = answered
        self._transport: asyncio.Transport
        self._due: dict[int, Stream] = {}
        self._called = False  # whether a call of `flush` is scheduled
        self._stuck = 0.0  # seconds in which the client read nothing
        self.choked = False
        self._stopped = False

    def open(self, transport: asyncio.Transport) -> None:
        """Start sending to a client that connected."""
        self._transport = transport

    def due(self, stream: Stream) -> None:
        """Send what the stream has ready, together with other streams at the end of this turn."""
        if stream.number in self._streams:
            self._due[stream.number] = stream
            if not self._called:
                self._called = True
                asyncio.get_running_loop().call_soon(self.flush)

    def forget(self, stream: Stream) -> None:
        """Send nothing more of this stream."""
        self._due.pop(stream.number, None)

    def flush(self) -> None:
        """Send what the streams have ready, in turns, as far as windows and socket allow."""
        self._called = False
        written, moved = 0, 1
        while moved and self._due and not (self.choked or self._stopped):
            moved = self._round()
            written += moved
        self.write()
        if self._due or self._ledger.is_open:
            self._account(written)

    def _round(self) -> int:
        """Let each stream send its share once."""
        moved = gathered = 0
        for stream in list(self._due.values()):
            del self._due[stream.number]
            sent = stream.advance(self._wire)
            moved += sent
            gathered += sent
            if stream.answer.over:
                self._guard.please(0, answers=1)
                self._answered(stream)
            elif stream.answer.waits:
                self._due[stream.number] = stream
            if gathered >= _GATHERED_BYTES:
                gathered = 0
                self.write()
                if self.choked:
                    break
        self.write()
        self._guard.please(moved)
        return moved

    def write(self) -> None:
        """Write the bytes that h2 has ready."""
        piece = self._wire.data_to_send()
        if piece and not self._stopped:
            self._transport.write(piece)

    def choke(self) -> None:
        """Stop writing: the client does not read its answers."""
        self.choked = True
        self._stuck = 0.0

    def unchoke(self) -> None:
        """Write on: the client reads again."""
        self.choked = False
        self.flush()

    def _account(self, written: int) -> None:
        """Account for unread bytes after `written` bytes were written.

        Written bytes that choke nothing are counted only from the next sweep on.
        """
        ledger = self._ledger
        is_watched = self.choked or ledger.is_open
        unsent = self._transport.get_write_buffer_size() if is_watched else 0
        self._keep(unsent, ledger.taken(unsent, written))

    def _keep(self, left: int, taken: int) -> None:
        kept: list[tuple[Charged | None, int]] = [
            (stream.charged, unsent)
            for stream in self._streams.values()
            if (unsent := stream.answer.left)
        ]
        if left:
            kept.append((None, left))
        self._ledger.settle(kept, left, taken)

    def tick(self, step: float, patience: float) -> bool:
        """Account for `step` more seconds.

        Returns:
            Whether the client has read nothing for `patience` seconds although it could.
        """
        is_stuck = False
        if self.choked:
            before = self._ledger.unsent
            self._account(0)
            self._stuck = self._stuck + step if self._ledger.unsent == before else 0.0
            is_stuck = self._stuck >= patience
        else:
            self._look_at_rest()
        self._ledger.tick(step)
        return is_stuck

    def _look_at_rest(self) -> None:
        """Charge unread bytes that are too few to choke the connection."""
        ledger, unsent = self._ledger, self._transport.get_write_buffer_size()
        if unsent or ledger.is_open:
            self._keep(unsent, ledger.moved(unsent))

    def stop(self) -> None:
        """Send nothing more: the connection ends."""
        self._stopped = True
        self._due.clear()

    def close(self) -> None:
        """Drop the references to a connection that is gone."""
        self.stop()
        self._answered = _forget


def _forget(stream: Stream) -> None:
    """Do nothing: the connection is gone."""
