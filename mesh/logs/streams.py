"""`sys.stdout` and `sys.stderr` of our processes: write printed text line by line, at once.

Python buffers up to 8 KiB of text printed to a pipe, and loses it in a crash. These streams pass
each
complete line to a writer that never waits: unchanged, or as a record if the log is JSON. Both have
what other code expects of such streams: a descriptor, an encoding, a buffer.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

from mesh.logs.lines import last_state
from mesh.logs.loggers import Output, wall
from mesh.logs.writer import Target

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_MAX_LINE_BYTES: Final = 64 * 1024  # bytes of an incomplete line that are kept
_PROGRESS_INTERVAL_S: Final = 10.0  # seconds between two records of a line that is overwritten


class LineStream(io.BufferedIOBase):
    """Splits the bytes of each thread into lines, and delivers them.

    Args:
        fd: the descriptor that `fileno` returns.
        name: the name of the stream, such as ``<stdout>``.
        deliver: called with a line and its newline, or with a part of a line that was flushed.
        rewrites: whether lines may be overwritten (``\\r``: a progress bar). These are not flushed,
            or each state of the bar would become a record; one state in ten seconds is delivered.
    """

    def __init__(
        self, fd: int, name: str, deliver: Callable[[bytes], None], *, rewrites: bool
    ) -> None:
        self.name = name
        self._fd, self._deliver, self._rewrites = fd, deliver, rewrites
        self.forget()

    def forget(self) -> None:
        """Drop incomplete lines. A forked child does so, too: its parent has their beginning."""
        self._begun: dict[int, bytes] = {}  # by thread
        self._shown = 0.0  # when a state of an overwritten line was last delivered

    def write(self, piece: ReadableBuffer, /) -> int:
        """Add bytes, and deliver the complete lines."""
        text = bytes(piece)
        me = threading.get_ident()
        lines, newline, rest = (self._begun.pop(me, b"") + text).rpartition(b"\n")
        if newline:
            for line in lines.split(b"\n"):
                self._deliver(line + b"\n")
        if len(rest) > _MAX_LINE_BYTES:
            self._deliver(rest)
        elif rest:
            self._begun[me] = rest
        return len(text)

    def flush(self) -> None:
        """Deliver the incomplete line of this thread."""
        me = threading.get_ident()
        begun = self._begun.get(me)
        if begun and not (self._rewrites and b"\r" in begun and self._is_early()):
            self._deliver(self._begun.pop(me))

    def _is_early(self) -> bool:
        now = monotonic()
        if now - self._shown < _PROGRESS_INTERVAL_S:
            return True
        self._shown = now
        return False

    def end(self) -> None:
        """Deliver the incomplete lines of all threads: no more bytes will come."""
        while self._begun:
            self._deliver(self._begun.popitem()[1])

    def close(self) -> None:
        """Only flush: closing would affect all code that prints, not only the caller."""
        self.flush()

    def fileno(self) -> int:
        """Return the descriptor, to which C code and child processes write directly."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Yes."""
        return True


class Printed(io.TextIOWrapper):
    """The text stream over `LineStream`, in UTF-8; no character raises an error.

    Example:
        >>> Printed(LineStream(1, "<stdout>", lines.append, rewrites=False)).write("hello\\n")
    """

    def __init__(self, lines: LineStream) -> None:
        super().__init__(
            lines, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True
        )
        self.lines = lines
        self.mode = "w"  # type: ignore[misc]  # like Python's own streams


def printed(fd: int, name: str, output: Output, target: Target) -> Printed:
    """Make a stream that replaces ``sys.<name>``.

    Lines become records if the log is JSON, unless this stream is a terminal.
    """
    records = output.as_json and not os.isatty(fd)
    deliver = as_records(output, target, name) if records else target.write
    return Printed(LineStream(fd, f"<{name}>", deliver, rewrites=records))


def as_records(output: Output, target: Target, stream: str) -> Callable[[bytes], None]:
    """Return a function that writes lines as records with a field ``stream``, except empty ones."""

    def deliver(line: bytes) -> None:
        text = last_state(line.rstrip(b"\r\n").decode("utf-8", "backslashreplace"))
        if text:
            fields = {"stream": stream, **output.in_hand()}
            target.write(output.line(wall(), "info", text, fields))

    return deliver
