"""Packed rows of a bundle: numbers of fixed width, one row for each task, outcome, notice. Pure.

A replica that answers lone requests says as many statistics as results, so that a row must cost
little to write and to read: one C call reads them all.

Rows may grow. A release that adds a field appends it to the row's format, and takes 0 for "not
said". Two releases then understand each other while one replaces the other: a longer row's end is
skipped by who does not know it, and a shorter row is read as if it ended in zeros. So the width of
the rows is never assumed. It is the column's length by the number of rows, or stands beside them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mesh.protocol.fields import text, u64
from mesh.protocol.messages import BatchStats, HandoffNotice, Load


class RowLayout(NamedTuple):
    """How a row is packed.

    Attributes:
        packing: the fields that this release knows.
        least: bytes of a row of the first release; a shorter one is no row.
    """

    packing: struct.Struct
    least: int

    @classmethod
    def first(cls, fields: str) -> RowLayout:
        """A layout to which nothing was added yet."""
        packing = struct.Struct(fields)
        return cls(packing, packing.size)

    def and_later(self, fields: str) -> RowLayout:
        """Return this layout with fields that a later release appended."""
        return RowLayout(struct.Struct(self.packing.format + fields), self.least)


# owner, number, budget in ms, index of hops, hop, attempt, count of timings, flags, priority; group
TASK_ROW = RowLayout.first("!QQIHHHBBB").and_later("I")
# number, index, attempt, hop, status, count of timings, kind
OUTCOME_ROW = RowLayout.first("!QIHHHBB")
# number, attempt, hop, holder
NOTE_ROW = RowLayout.first("!QHHQ")
# size, wait, compute, expired, cancelled, bytes, gather, index of stage, index of reason
FIGURES_ROW = RowLayout.first("!IIIIIQIBB")
LOAD = struct.Struct("!QII")  # settled, others, microseconds of a batch
_MAX_U32 = 2**32 - 1
_pack_load, _unpack_load = LOAD.pack, LOAD.unpack_from
_new_tuple = tuple.__new__


def read_rows(layout: RowLayout, packed: Any, count: int) -> Iterator[tuple[Any, ...]]:
    """Read the numbers of `count` rows.

    Raises:
        TypeError, ValueError, struct.error: these are no such rows.

    Example:
        >>> first = RowLayout.first("!HH")
        >>> later = RowLayout(struct.Struct("!HHI"), first.least)
        >>> list(read_rows(first, later.packing.pack(1, 2, 3), 1))
        [(1, 2)]
        >>> list(read_rows(later, first.packing.pack(1, 2), 1))
        [(1, 2, 0)]
    """
    packing = layout.packing
    if len(packed) == packing.size * count:
        return packing.iter_unpack(packed)
    return _fitted(layout, packed, count)


def _fitted(layout: RowLayout, packed: Any, count: int) -> Iterator[tuple[Any, ...]]:
    """Rows of another release: cut them, or fill them up, to the width that we know."""
    width, odd = divmod(len(packed), count) if count else (0, len(packed))
    if odd or width < layout.least:
        raise ValueError(f"{len(packed)} bytes are no {count} rows of {layout.least} or more each")
    size = layout.packing.size
    rows = (packed[at : at + min(width, size)] for at in range(0, len(packed), width))
    return (layout.packing.unpack(row.ljust(size, b"\0")) for row in rows)


def pack_load(load: Load | None) -> tuple[bytes, ...]:
    """Write a load as the last element of a body, or nothing.

    Example:
        >>> read_load(pack_load(Load(3, 4, 2**40)))
        Load(settled=3, others=4, batch_us=4294967295)
        >>> read_load(pack_load(None))
    """
    if load is None:
        return ()
    settled, others, batch_us = load
    return (_pack_load(settled, others, batch_us if batch_us < _MAX_U32 else _MAX_U32),)


def read_load(rest: Sequence[Any]) -> Load | None:
    """Read the load, which begins the rest of a body. A later release may say more.

    Raises:
        TypeError, struct.error: it is none.
    """
    return _new_tuple(Load, _unpack_load(rest[0])) if rest else None


def pack_notes(notices: Sequence[HandoffNotice]) -> list[Any]:
    """Write handoff notices, and how many they are.

    Raises:
        struct.error: a number is out of range.
    """
    pack_row = NOTE_ROW.packing.pack
    if len(notices) == 1:
        return [1, pack_row(*notices[0])]
    return [len(notices), b"".join([pack_row(*notice) for notice in notices])]


def read_notes(packed: Any) -> list[HandoffNotice]:
    """Read handoff notices.

    Raises:
        TypeError, ValueError, struct.error: these are none.
    """
    count, rows = packed[:2]
    return [HandoffNotice(*row) for row in read_rows(NOTE_ROW, rows, u64(count))]


def pack_stats(stats: Sequence[BatchStats]) -> list[Any]:
    """Write statistics: the words that they use, the rows that refer to them, and how many they
    are.

    Raises:
        TypeError, struct.error: a number is out of range, or there are over 256 words.
    """
    known: dict[str, int] = {}
    rows = []
    pack_row = FIGURES_ROW.packing.pack
    for stage, size, wait, compute, reason, expired, cancelled, nbytes, gather in stats:
        rows.append(
            pack_row(
                size,
                wait if wait <= _MAX_U32 else _MAX_U32,
                compute if compute <= _MAX_U32 else _MAX_U32,
                expired,
                cancelled,
                nbytes,
                gather if gather <= _MAX_U32 else _MAX_U32,
                known.setdefault(stage, len(known)),
                known.setdefault(reason, len(known)),
            )
        )
    return [[text(word) for word in known], b"".join(rows), len(rows)]


def read_stats(packed: Any) -> list[BatchStats]:
    """Read statistics.

    Raises:
        TypeError, ValueError, IndexError, struct.error: these are none.
    """
    words, rows, count = packed[:3]
    known = [text(word) for word in words]
    return [
        BatchStats(known[stage], size, wait, compute, known[reason], *counts)
        for size, wait, compute, *counts, stage, reason in read_rows(FIGURES_ROW, rows, u64(count))
    ]
