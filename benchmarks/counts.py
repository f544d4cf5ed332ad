"""What workers count, each process in a file of its own, so that others can read it meanwhile.

`BENCHMARK_COUNTS` names the folder; without it everything is counted and nobody told. Workers of
every server import this, so it knows only the standard library.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import tracemalloc
from dataclasses import astuple, dataclass, fields
from pathlib import Path

FOLDER = "BENCHMARK_COUNTS"


@dataclass
class Record:
    """What one process counted.

    Attributes:
        made: when its worker was constructed, in the host's monotonic seconds.
        first: when its first batch began.
        batches: how many there were.
        items: in all of them together.
        busy: seconds spent in them.
        taken: most bytes that Python took since `Counts.trace`, of what it did not have then.
    """

    made: float = 0.0
    first: float = 0.0
    batches: float = 0.0
    items: float = 0.0
    busy: float = 0.0
    taken: float = 0.0


_FORM = struct.Struct(f"={len(fields(Record))}d")


class Counts:
    """The counts of this process."""

    def __init__(self) -> None:
        self._record = Record()
        self._had = 0
        folder = os.environ.get(FOLDER)
        self._shown = _shared(Path(folder) / str(os.getpid())) if folder else None

    def constructed(self) -> None:
        """The worker is ready."""
        self._record.made = time.monotonic()
        self._show()

    def batch(self, items: int, begin: float, end: float) -> None:
        """A batch ran from `begin` to `end`."""
        record = self._record
        record.first = record.first or begin
        record.batches += 1
        record.items += items
        record.busy += end - begin
        self._show()

    def trace(self) -> None:
        """From now on, see how much memory is taken."""
        if not tracemalloc.is_tracing():
            tracemalloc.start()
        tracemalloc.reset_peak()
        self._had = tracemalloc.get_traced_memory()[0]

    def peak(self) -> None:
        """See how much was taken at once since `trace`."""
        self._record.taken = max(0.0, tracemalloc.get_traced_memory()[1] - self._had)
        self._show()

    def _show(self) -> None:
        if self._shown is not None:
            _FORM.pack_into(self._shown, 0, *astuple(self._record))


def _shared(path: Path) -> mmap.mmap:
    with path.open("w+b") as file:
        file.truncate(_FORM.size)
        return mmap.mmap(file.fileno(), _FORM.size)


def read(folder: Path) -> dict[int, Record]:
    """What each process has counted so far."""
    return {
        int(path.name): Record(*_FORM.unpack(content))
        for path in sorted(folder.iterdir())
        if len(content := path.read_bytes()) == _FORM.size
    }


def total(records: dict[int, Record]) -> Record:
    """What all processes together counted; times are those of the last."""
    whole = Record()
    for one in records.values():
        whole.made, whole.first = max(whole.made, one.made), max(whole.first, one.first)
        whole.batches += one.batches
        whole.items += one.items
        whole.busy += one.busy
        whole.taken = max(whole.taken, one.taken)
    return whole
