"""Makes the interpreter report where it crashed, for the supervisor."""

from __future__ import annotations

import contextlib
import faulthandler
import os

from mesh.process.batch_record import SIZE
from mesh.process.fork import in_child


def record_crashes(descriptor: int) -> None:
    """Write the traceback of a crash in native code to this memory, behind the batch record.

    The descriptor stays open for that. The log is no place for it: writing could block, and the
    traceback is no log record.
    """
    os.set_inheritable(descriptor, False)
    os.lseek(descriptor, SIZE, os.SEEK_SET)
    faulthandler.enable(descriptor, all_threads=False)
    in_child(lambda: _leave_to_child(descriptor))


def _leave_to_child(descriptor: int) -> None:
    """Redirect the report of a forked child, whose crash is not its parent's, to its own stderr.

    The descriptor is replaced, not closed: otherwise its number would soon be another file's.
    """
    with contextlib.suppress(OSError):
        os.dup2(2, descriptor, inheritable=False)
