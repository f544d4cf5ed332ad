"""Filters the HTTP/2 frames that h2 receives, and limits useless ones. Pure.

h2 reads and writes the frames. It lacks some protections, which this module adds by looking only at
the nine bytes that begin each frame:

- h2 processes all of its input before it returns, and a segment from the socket may hold tens of
  thousands of frames. So it gets few frames at a time, and few bytes of headers and settings,
  where each byte may be a line.
- Frames that carry no request (pings, settings, resets, empty pieces of a body, updates of unused
  windows) cost as much as others. Each uses up some of the client's *patience*, and the connection
  ends when none is left (`FloodGuard.pay`). Window updates that answers justify are free.
- h2 would buffer a frame that is longer than allowed, up to 16 MiB, before it refuses it.
- After a client's GOAWAY, h2 sends nothing more, although the client may still wait for answers. So
  this frame is not passed to h2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from gateway.web.patience import FULL_PATIENCE, PATIENCE_PER_S, TINY_BYTES, TINY_COST

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_BODY: Final = 0
_GOAWAY: Final = 7
_HEADERS: Final = 1
_HEADER_KINDS: Final = frozenset({1, 9})
_END_STREAM: Final = 1
_END_HEADERS: Final = 4
_HEADER_BYTES: Final = 9
_FRAME_BYTES: Final = 16_384  # the limit of a frame's payload; HTTP/2's default
_RUN_FRAMES: Final = 32  # frames that are passed on at once
# The limit in bytes for frames where each byte may be a header line, or each sixth a setting.
_RUN_DENSE_BYTES: Final = 256
_DENSE: Final = frozenset({1, 4, 5, 9})
# HEADERS, PUSH_PROMISE (an error) and CONTINUATION; DATA and WINDOW_UPDATE are looked at.
_WELCOME: Final = frozenset({1, 5, 9})
_WINDOW: Final = 8
_GOAWAY_FRAME: Final = struct.Struct(">3sBBIII")

# The patience that each answer restores.
_PER_ANSWER: Final = 2.0
# Window updates that cost no patience: how many from the start, how many more per answer, per how
# many sent bytes one more, and how many can be saved up.
_FREE_UPDATES: Final = 200
_UPDATES_PER_ANSWER: Final = 4
_BYTES_PER_UPDATE: Final = 128
_MOST_UPDATES: Final = 65_536


def goaway(last: int, code: int = 0) -> bytes:
    """Return a GOAWAY frame: streams after `last` were not read, those before will be answered.

    h2 could write it, too, but would then refuse to send those answers.
    """
    return _GOAWAY_FRAME.pack(b"\0\0\x08", _GOAWAY, 0, 0, last, code)


class FloodGuard:
    """Cuts a client's input into runs of frames, and detects floods of useless ones.

    Attributes:
        updates: window updates that are free now.
        bodies: pieces of bodies that arrived, or began to.
        departed: whether the client sent GOAWAY: it will send no further request.
        overlong: whether it sent a frame that is too long, of which nothing is passed on.
        excessive: whether it sent headers that are too long, in any number of frames.

    Args:
        most_header_bytes: limit of the frames of one request's headers.
        updates: window updates that are free from the start.

    Example:
        >>> guard = FloodGuard()
        >>> ping = b"\\0\\0\\x08\\x06\\0\\0\\0\\0\\0" + bytes(8)
        >>> list(guard.runs(PREFACE + ping)) == [(PREFACE + ping, 1.0)]
        True
    """

    __slots__ = (
        "_block_bytes",
        "_blocks",
        "_header",
        "_in_headers",
        "_kept_back",
        "_left",
        "_most_header_bytes",
        "_open",
        "_paid_bodies",
        "_patience",
        "_sent_bytes",
        "bodies",
        "departed",
        "excessive",
        "overlong",
        "updates",
    )

    def __init__(self, most_header_bytes: int = 128 * 1024, updates: int = _FREE_UPDATES) -> None:
        """Expect the preface, which is passed on as it is."""
        self._most_header_bytes = most_header_bytes
        self._patience = FULL_PATIENCE
        self._paid_bodies = 0  # pieces that h2 assigned to a request, or that were paid for
        self._sent_bytes = 0  # bytes sent since window updates were last granted for them
        self._block_bytes = 0  # the stream of the last headers
        self.updates = updates
        self.bodies = 0
        self._blocks = 0  # bytes of headers that have begun
        self._in_headers = False  # whether the present frame belongs to headers
        self._open = False  # whether these headers continue in another frame
        self.departed = False
        self.overlong = self.excessive = False
        self._left = len(PREFACE)  # missing bytes of the present frame
        self._kept_back = False  # whether the present frame is not passed on
        self._header = b""  # the first bytes of a frame whose header is incomplete

    def runs(self, segment: bytes) -> Iterator[tuple[bytes, float]]:
        """Yield the parts of a segment for h2, in order, each with the patience that it costs.

        Incomplete frames are passed on as far as they arrived; incomplete frame headers are kept. A
        run is empty if all of it is held back.
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
            if frames == _RUN_FRAMES or dense >= _RUN_DENSE_BYTES:
                yield b"".join(parts), unwelcome
                parts.clear()
                frames, dense, unwelcome = 0, 0, 0.0
            piece = segment[at : at + _HEADER_BYTES - len(self._header)]
            self._header += piece
            at += len(piece)
            if len(self._header) == _HEADER_BYTES:
                frames += 1
                kind = self._header[3]
                unwelcome += self._begin(parts)
                dense += self._left if kind in _DENSE else 0
        if parts or unwelcome:
            yield b"".join(parts), unwelcome

    def _begin(self, parts: list[bytes]) -> float:
        """Start a frame whose header is complete; return the patience that it costs, 0.0 to 1.0."""
        header, self._header = self._header, b""
        kind, flags = header[3], header[4]
        self._left = int.from_bytes(header[:3], "big")
        if kind == _GOAWAY:
            self.departed = True
        if kind in _HEADER_KINDS:
            self._block_bytes = self._left + (self._block_bytes if self._open else 0)
            self.excessive = self.excessive or self._block_bytes > self._most_header_bytes
        if self._left > _FRAME_BYTES:
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
        """The stream whose headers are incomplete, 0 if there is none."""
        return self._blocks if self._open or (self._in_headers and self._left) else 0

    @property
    def pending(self) -> int:
        """The bytes of incomplete headers."""
        return self._block_bytes if self.block else 0

    def _unwelcome_body(self, is_last: bool) -> float:
        self.bodies += 1
        if is_last or self._left >= TINY_BYTES:
            return 0.0
        return TINY_COST if self._left else 1.0

    # ---- patience

    def pay(self, cost: float) -> bool:
        """Use up patience with the client; return False if none is left."""
        self._patience -= cost
        return self._patience >= 0

    def pay_for_body(self) -> None:
        """Count a piece of a body that h2 assigned to a request."""
        self._paid_bodies += 1

    def pay_for_wasted(self) -> bool:
        """Pay, after a run, for pieces on streams that were reset; h2 resets them for each piece.

        Returns:
            Whether any patience is left.
        """
        wasted = self.bodies - self._paid_bodies - 1  # the last one may be incomplete
        if wasted <= 0:
            return True
        self._paid_bodies += wasted
        return self.pay(wasted)

    def please(self, nbytes: int, answers: int = 0) -> None:
        """Grant the client window updates for sent bytes and answers."""
        self._sent_bytes += nbytes
        more = self._sent_bytes // _BYTES_PER_UPDATE + answers * _UPDATES_PER_ANSWER
        self._sent_bytes %= _BYTES_PER_UPDATE
        self.updates = min(_MOST_UPDATES, self.updates + more)
        self._patience = min(FULL_PATIENCE, self._patience + answers * _PER_ANSWER)

    def recover(self, step: float) -> None:
        """Restore patience after `step` more seconds."""
        self._patience = min(FULL_PATIENCE, self._patience + PATIENCE_PER_S * step)
