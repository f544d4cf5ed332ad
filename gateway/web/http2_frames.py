"""HTTP/2 frames from outside: what h2 must not get, and how much of it at once. Pure.

h2 reads and writes the frames. What it does not do is done here, on nothing but the nine bytes
that begin each frame:

- It processes whatever it is given before it returns, and a segment from the socket may hold
  tens of thousands of frames. It is therefore given few at a time, and of headers and settings,
  where each byte may be a line, few bytes.
- Frames that ask for no request (pings, settings, resets, empty pieces of a body, updates of
  windows that nothing was sent through) cost as much as those that do. They are counted, so that
  somebody can lose patience.
- A frame that is longer than allowed would be gathered whole, up to 16 MiB, before it is refused.
- After a client's GOAWAY it can send nothing more, although the client may still wait for answers.
  That frame is kept from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from gateway.web.patience import TINY_BYTES, TINY_COST

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_BODY: Final = 0
_GOAWAY: Final = 7
_HEADERS: Final = 1
_HEADER_KINDS: Final = frozenset({1, 9})
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_HEADER: Final = 9
_LONGEST: Final = 16_384  # what a frame may have after its header; HTTP/2's default
_RUN: Final = 32  # frames that are passed on at once
# The same in bytes of frames whose every byte may be a header line, or every sixth a setting.
_RUN_BYTES: Final = 256
_DENSE: Final = frozenset({1, 4, 5, 9})
# HEADERS, PUSH_PROMISE (an error) and CONTINUATION; DATA and WINDOW_UPDATE are looked at.
_WELCOME: Final = frozenset({1, 5, 9})
_WINDOW: Final = 8
_GOAWAY_FRAME: Final = struct.Struct(">3sBBIII")


def goaway(last: int, code: int = 0) -> bytes:
    """A GOAWAY frame: streams after `last` were not looked at, those before will be answered.

    h2 could write it as well, but would then refuse to send those answers.
    """
    return _GOAWAY_FRAME.pack(b"\0\0\x08", _GOAWAY, 0, 0, last, code)


class Sieve:
    """Cuts what a client sends into runs of frames, and keeps its GOAWAY back.

    Attributes:
        updates: window updates that are still welcome; whoever sends bodies adds to them.
        bodies: pieces of bodies that have come, or begun to.
        departed: the client has sent GOAWAY: it will ask for nothing more.
        overlong: it has sent a frame that is too long, of which nothing is passed on.
        excessive: the same of headers, in whatever frames.

    Args:
        most: bytes that the frames of one request's headers may have.

    Example:
        >>> sieve = Sieve()
        >>> ping = b"\\0\\0\\x08\\x06\\0\\0\\0\\0\\0" + bytes(8)
        >>> list(sieve.runs(PREFACE + ping)) == [(PREFACE + ping, 1.0)]
        True
    """

    __slots__ = (
        "_block_bytes",
        "_blocks",
        "_header",
        "_in_headers",
        "_kept_back",
        "_left",
        "_most",
        "_open",
        "bodies",
        "departed",
        "excessive",
        "overlong",
        "updates",
    )

    def __init__(self, most: int = 128 * 1024) -> None:
        """A connection begins with the preface, which is passed on as it is."""
        self._most = most
        self._block_bytes = 0  # of the headers that began last
        self.updates = 0
        self.bodies = 0
        self._blocks = 0  # of headers that have begun
        self._in_headers = False  # the present frame belongs to one
        self._open = False  # the present one goes on in another frame
        self.departed = False
        self.overlong = self.excessive = False
        self._left = len(PREFACE)  # bytes of the present frame that are still to come
        self._kept_back = False  # the present frame is not passed on
        self._header = b""  # the first bytes of a frame whose header is not complete

    def runs(self, segment: bytes) -> Iterator[tuple[bytes, float]]:
        """What the segment contains for h2, in order; with each run how unwelcome its frames are.

        Incomplete frames are passed on as far as they are there, incomplete headers kept. A run is
        empty where all of it was kept back.
        """
        parts: list[bytes] = []
        frames = dense = at = 0
        unwelcome = 0.0
        while at < len(segment):
            if self._left:
                piece = segment[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                if not self._kept_back:
                    parts.append(piece)
                continue
            if frames == _RUN or dense >= _RUN_BYTES:
                yield b"".join(parts), unwelcome
                parts.clear()
                frames, dense, unwelcome = 0, 0, 0.0
            piece = segment[at : at + _HEADER - len(self._header)]
            self._header += piece
            at += len(piece)
            if len(self._header) == _HEADER:
                frames += 1
                kind = self._header[3]
                unwelcome += self._begin(parts)
                dense += self._left if kind in _DENSE else 0
        if parts or unwelcome:
            yield b"".join(parts), unwelcome

    def _begin(self, parts: list[bytes]) -> float:
        """A frame's header is complete; says how unwelcome the frame is, 0.0 to 1.0."""
        header, self._header = self._header, b""
        kind, flags = header[3], header[4]
        self._left = int.from_bytes(header[:3], "big")
        if kind == _GOAWAY:
            self.departed = True
        if kind in _HEADER_KINDS:
            self._block_bytes = self._left + (self._block_bytes if self._open else 0)
            self.excessive = self.excessive or self._block_bytes > self._most
        if self._left > _LONGEST:
            self.overlong = True
        self._kept_back = kind == _GOAWAY or self.overlong or self.excessive
        if not self._kept_back:
            parts.append(header)
        if kind == _HEADERS:
            self._blocks += 1
        if kind in _HEADER_KINDS:
            self._open = not flags & _END_HEADERS
        self._in_headers = kind in _HEADER_KINDS
        if kind == _BODY:
            return self._unwelcome_body(bool(flags & _END_STREAM))
        if kind == _WINDOW and self.updates > 0:
            self.updates -= 1
            return 0.0
        return float(kind not in _WELCOME)

    @property
    def block(self) -> int:
        """The number of the headers that have begun and are not complete, 0 if there are none."""
        return self._blocks if self._open or (self._in_headers and self._left) else 0

    @property
    def pending(self) -> int:
        """Bytes of the headers that have begun and are not complete."""
        return self._block_bytes if self.block else 0

    def _unwelcome_body(self, is_last: bool) -> float:
        self.bodies += 1
        if is_last or self._left >= TINY_BYTES:
            return 0.0
        return TINY_COST if self._left else 1.0
