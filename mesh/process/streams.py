"""Opens missing standard streams of a process.

A shell's ``2>&-``, a daemon or an old cron may start a process with closed descriptors. The next
files that it opens would get their numbers, and receive printed text. Python sets the missing
streams to `None`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Final

_STREAMS: Final = ("stdin", "stdout", "stderr")


def open_missing_streams() -> None:
    """Open each missing stream on ``/dev/null``.

    Each of our processes calls it before it opens any other file.
    """
    for number, name in enumerate(_STREAMS):
        free = not _is_open(number)
        if free:
            with contextlib.suppress(OSError):
                _open_nothing(number)
        if _is_usable(getattr(sys, name)):
            continue
        original = getattr(sys, f"__{name}__")
        setattr(sys, name, original if _is_usable(original) else _nothing(number, free))


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nothing(number: int) -> None:
    """Open ``/dev/null`` under this number; children inherit it."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == number:
        os.set_inheritable(number, True)
        return
    os.dup2(opened, number)
    os.close(opened)


def _is_usable(stream: IO[str] | None) -> bool:
    return stream is not None and not getattr(stream, "closed", False)  # it may be any object


def _nothing(number: int, free: bool) -> IO[str]:
    """Make a stream for this descriptor; not on it if it was opened for something else."""
    mode = "w" if number else "r"
    where = number if free and _is_open(number) else os.open(os.devnull, os.O_RDWR)
    return open(where, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
