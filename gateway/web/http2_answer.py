"""The answer on an HTTP/2 stream, from what exchanges and pages write to the frames of it.

These write HTTP/1.1: the head is taken apart, the rest sent as DATA, as fast as the client opens
its windows.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from h2.connection import H2Connection

from gateway.web import responses
from mesh.protocol.messages import Buffer

# Bytes that may wait to be sent before the writer is told to stop.
_HIGH_WATER_BYTES: Final = 64 * 1024
# Bytes that a stream sends before others have their turn.
_SHARE_BYTES: Final = 64 * 1024
_HEAD_BYTES: Final = 512  # what the head of an answer counts as while it is not sent
_END: Final = b"\r\n\r\n"


class StreamAnswer:
    """What is to be sent on one stream.

    Args:
        number: HTTP/2's, of the stream.

    Attributes:
        told: the head is known.
        over: everything has been sent.
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
        self._head: list[tuple[bytes, bytes]] | None = None  # while not sent
        self._parts: deque[memoryview] = deque()  # of the body
        self._unsent = 0  # bytes of them
        self._finished = False  # nothing will be added to them

    def owe_continue(self, owed: bool) -> None:
        """Whether the client waits for our word before it sends the body."""
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
        """Nothing will be added."""
        self._finished = True

    def drop(self) -> None:
        """The client does not want it, or cannot get it."""
        self._parts.clear()
        self._unsent = 0

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that nothing should be added."""
        return self._unsent >= _HIGH_WATER_BYTES

    @property
    def left(self) -> int:
        """About how many bytes are left to be sent."""
        return self._unsent if self._head is None else self._unsent + _HEAD_BYTES

    @property
    def waits(self) -> bool:
        """Whether something is left to be sent as soon as there is room."""
        return bool(self._parts)

    def advance(self, wire: H2Connection) -> int:
        """Hand some frames to h2; returns about how many bytes, 0 if nothing can be sent now."""
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
