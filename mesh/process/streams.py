"""Standard input, output and error, for a process that was started without some of them.

A shell's ``2>&-``, a daemon, a cron of old leave descriptors closed. Whatever is opened next then
gets their numbers, and receives what is printed; and Python has `None` where it has a stream
otherwise.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Final

_STREAMS: Final = ("stdin", "stdout", "stderr")


def open_missing_streams() -> None:
    """See to it that all three are there; what was missing reads and writes nothing.

    Called by each process of ours before it opens anything else.
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
    """Have the descriptor read and write nothing, also in the processes that inherit it."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened == number:
        os.set_inheritable(number, True)
        return
    os.dup2(opened, number)
    os.close(opened)


def _is_usable(stream: IO[str] | None) -> bool:
    return stream is not None and not getattr(stream, "closed", False)  # it may be anybody's


def _nothing(number: int, free: bool) -> IO[str]:
    """A stream for this descriptor; if something else was opened there meanwhile, not on it."""
    mode = "w" if number else "r"
    where = number if free and _is_open(number) else os.open(os.devnull, os.O_RDWR)
    return open(where, mode, encoding="utf-8", errors="backslashreplace", closefd=False)
