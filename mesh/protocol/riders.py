"""What rides along with outcomes: notes and figures as bytes. One packed row each. Pure.

A replica that answers lone requests says as many figures as results, so that they must cost as
little to write and read as an outcome does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from mesh.protocol.fields import text
from mesh.protocol.messages import Figures, Note

NOTE_ROW = struct.Struct("!QHHQ")
# size, wait, compute, expired, cancelled, bytes, gather, index of stage, index of reason
FIGURES_ROW = struct.Struct("!IIIIIQIBB")
_MOST = 2**32 - 1


def pack_notes(notes: Sequence[Note]) -> bytes:
    """Write notes.

    Raises:
        struct.error: a number is out of range.
    """
    return b"".join([NOTE_ROW.pack(*note) for note in notes]) if notes else b""


def read_notes(packed: Any) -> list[Note]:
    """Read notes.

    Raises:
        TypeError, struct.error: these are none.
    """
    return [Note(*row) for row in NOTE_ROW.iter_unpack(packed)] if packed != b"" else []


def pack_figures(figures: Sequence[Figures]) -> list[Any]:
    """Write figures: the words that they use, and the rows that refer to them.

    Raises:
        TypeError, struct.error: a number is out of range, or there are over 256 words.
    """
    if not figures:
        return []
    known: dict[str, int] = {}
    rows = []
    for stage, size, wait, compute, reason, expired, cancelled, nbytes, gather in figures:
        rows.append(
            FIGURES_ROW.pack(
                size,
                min(wait, _MOST),
                min(compute, _MOST),
                expired,
                cancelled,
                nbytes,
                min(gather, _MOST),
                known.setdefault(stage, len(known)),
                known.setdefault(reason, len(known)),
            )
        )
    return [[text(word) for word in known], b"".join(rows)]


def read_figures(packed: Any) -> list[Figures]:
    """Read figures.

    Raises:
        TypeError, ValueError, IndexError, struct.error: these are none.
    """
    if packed == ():
        return []
    known, rows = packed
    known = [text(word) for word in known]
    return [
        Figures(known[stage], size, wait, compute, known[reason], *counts)
        for size, wait, compute, *counts, stage, reason in FIGURES_ROW.iter_unpack(rows)
    ]
