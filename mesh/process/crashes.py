"""Has the interpreter write where it was when it crashes, for the supervisor."""

from __future__ import annotations

import contextlib
import faulthandler
import os

from mesh.process.batch_record import SIZE
from mesh.process.fork import in_child


def record_crashes(descriptor: int) -> None:
    """A crash in native code is written to this memory, behind the batch record; it is kept open
    for that.

    Not to the log: that would wait for its reader, and is no record.
    """
    os.set_inheritable(descriptor, False)
    os.lseek(descriptor, SIZE, os.SEEK_SET)
    faulthandler.enable(descriptor, all_threads=False)
    in_child(lambda: _leave_to_child(descriptor))


def _leave_to_child(descriptor: int) -> None:
    """In a forked child: its crash is not its parent's. Under this number its own output is told,
    as a number that is free would soon be another file's."""
    with contextlib.suppress(OSError):
        os.dup2(2, descriptor, inheritable=False)
