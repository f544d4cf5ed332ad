"""`sys.stdout` and `sys.stderr` of our processes: what a worker prints, line by line, at once.

Python keeps what is printed into a pipe until 8 KiB have gathered, and loses it in a crash. Here
each line leaves when it is whole, by a writer that never waits: as it is, or as a record where
the log is JSON. Both streams keep what others expect of them: a descriptor, an encoding, a buffer.
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

_MAX_LINE_BYTES: Final = 64 * 1024  # bytes of a line that are kept until its end comes
_PROGRESS_INTERVAL_S: Final = 10.0  # seconds between two records of a line that is written over


class LineStream(io.BufferedIOBase):
    """Gathers bytes to lines, those of each thread for themselves, and passes them on.

    Args:
        fd: the descriptor that this stands for, for those who ask.
        name: such as ``<stdout>``.
        deliver: takes one line with its newline, or a part of one that was flushed.
        rewrites: lines that are written over (``\\r``: a progress bar) are not flushed, or each
            state of the bar would become a record; one in ten seconds is.
    """

    def __init__(
        self, fd: int, name: str, deliver: Callable[[bytes], None], *, rewrites: bool
    ) -> None:
        self.name = name
        self._fd, self._deliver, self._rewrites = fd, deliver, rewrites
        self.forget()

    def forget(self) -> None:
        """No line is begun. So in a forked child, too: its parent has the beginning."""
        self._begun: dict[int, bytes] = {}  # by thread
        self._shown = 0.0  # when a state of a line that is written over was shown last

    def write(self, piece: ReadableBuffer, /) -> int:
        """Pass on what are whole lines by now."""
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
        """Pass on what this thread has begun."""
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
        """Pass on what any thread has begun: there will be no more."""
        while self._begun:
            self._deliver(self._begun.popitem()[1])

    def close(self) -> None:
        """Only flush: code that wraps this and drops the wrapper would end what others print."""
        self.flush()

    def fileno(self) -> int:
        """The descriptor: C code and child processes write there themselves."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._fd)

    def writable(self) -> bool:
        """Yes."""
        return True


class Printed(io.TextIOWrapper):
    """The text stream over `LineStream`; whatever can be printed is printed, in UTF-8.

    Example:
        >>> Printed(LineStream(1, "<stdout>", lines.append, rewrites=False)).write("hello\\n")
    """

    def __init__(self, lines: LineStream) -> None:
        super().__init__(
            lines, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True
        )
        self.lines = lines
        self.mode = "w"  # type: ignore[misc]  # as that of Python's own streams


def printed(fd: int, name: str, output: Output, target: Target) -> Printed:
    """A stream to stand in for ``sys.<name>``.

    Lines become records where the log is JSON, unless this stream is read by people.
    """
    records = output.as_json and not os.isatty(fd)
    deliver = as_records(output, target, name) if records else target.write
    return Printed(LineStream(fd, f"<{name}>", deliver, rewrites=records))


def as_records(output: Output, target: Target, stream: str) -> Callable[[bytes], None]:
    """Delivers lines as records with a field ``stream``; empty ones are left out."""

    def deliver(line: bytes) -> None:
        text = last_state(line.rstrip(b"\r\n").decode("utf-8", "backslashreplace"))
        if text:
            fields = {"stream": stream, **output.in_hand()}
            target.write(output.line(wall(), "info", text, fields))

    return deliver
