"""The answer on an HTTP/2 stream: converts what exchanges and pages write to frames.

They write HTTP/1.1. The head is parsed, the rest is sent as DATA, as fast as the client opens its
windows.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from h2.connection import H2Connection

from gateway.web import responses
from mesh.protocol.messages import Buffer

# Unsent bytes from which on the writer must stop.
_HIGH_WATER_BYTES: Final = 64 * 1024
# Bytes that a stream sends before other streams have their turn.
_SHARE_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 512  # bytes that an unsent head counts as
_END: Final = b"\r\n\r\n"


class StreamAnswer:
    """The unsent part of the answer on one stream.

    Args:
        number: the stream's number in HTTP/2.

    Attributes:
        told: whether the head is known.
        over: whether everything was sent.
    """

    __slots__ = (
        "_finished",
        "_head",
        "_number",
        "_owes_continue",
        "_parts",
        "_unsent",
        "over",
        "told",
    )

    def __init__(self, number: int) -> None:
        self._number = number
        self.told = False
        self.over = False
        self._owes_continue = False
        self._head: list[tuple[bytes, bytes]] | None = None  # the head, while unsent
        self._parts: deque[memoryview] = deque()  # unsent pieces of the body
        self._unsent = 0  # their bytes
        self._finished = False  # whether nothing will be added

    def owe_continue(self, owed: bool) -> None:
        """Note whether the client waits for an interim answer before it sends the body."""
        self._owes_continue = owed

    def add(self, piece: Buffer) -> None:
        """Keep a piece until it can be sent; the first one begins with the head.

        Raises:
            ValueError: that head cannot be sent.
        """
        if not self.told:
            head, _, piece = bytes(piece).partition(_END)
            self.told = True
            self._head = responses.parted(head)
        if len(piece):
            self._parts.append(memoryview(piece))
            self._unsent += len(piece)

    def finish(self) -> None:
        """Mark the answer as complete."""
        self._finished = True

    def drop(self) -> None:
        """Drop the answer: the client cannot receive it, or cancelled the request."""
        self._parts.clear()
        self._unsent = 0

    @property
    def is_behind(self) -> bool:
        """Whether so much is unsent that nothing should be added."""
        return self._unsent >= _HIGH_WATER_BYTES

    @property
    def left(self) -> int:
        """The approximate number of unsent bytes."""
        return self._unsent if self._head is None else self._unsent + _HEAD_BYTES

    @property
    def waits(self) -> bool:
        """Whether something must be sent as soon as a window opens."""
        return bool(self._parts)

    def advance(self, wire: H2Connection) -> int:
        """Pass some frames to h2; return the approximate bytes, 0 if nothing can be sent now."""
        sent = 0
        if self._owes_continue:
            self._owes_continue = False
            wire.send_headers(self._number, [(b":status", b"100")])
            sent += 1
        if self._head is not None:
            sent += self._send_head(wire, self._head)
        while self._parts and sent < _SHARE_BYTES:
            room = wire.local_flow_control_window(self._number)
            if room <= 0:
                break
            sent += self._send_part(wire, min(room, wire.max_outbound_frame_size, _SHARE_BYTES))
        if self._finished and self.told and not (self._parts or self.over):
            wire.end_stream(self._number)
            self.over = True
            sent += 1
        return sent

    def _send_head(self, wire: H2Connection, head: list[tuple[bytes, bytes]]) -> int:
        self.over = self._finished and not self._parts
        wire.send_headers(self._number, head, end_stream=self.over)
        self._head = None
        return 1

    def _send_part(self, wire: H2Connection, room: int) -> int:
        part = self._parts[0]
        if len(part) > room:
            part, self._parts[0] = part[:room], part[room:]
        else:
            self._parts.popleft()
        self._unsent -= len(part)
        self.over = self._finished and not self._parts
        wire.send_data(self._number, part, end_stream=self.over)
        return len(part)
