"""Memory for large arrays: an address range first, pages as they fill."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np

from mesh.protocol.array_memory import SetAside
from mesh.protocol.chunking import GrowingBuffer, Incoming, Unfinished
from mesh.protocol.messages import Part


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_slices_stand_where_they_belong() -> None:
    buffer = SetAside(6)
    buffer.put(0, b"abc")
    buffer.put(3, memoryview(b"def"))
    assert bytes(buffer.whole) == b"abcdef"
    assert np.frombuffer(buffer.whole, np.uint8).tolist() == list(b"abcdef")


def test_what_is_announced_takes_no_memory_before_it_comes() -> None:
    for memory in (SetAside, GrowingBuffer):
        incoming = Incoming(1 << 30, Unfinished(1 << 30, memory))
        before = resident()
        incoming.add(Part(0, 1 << 30, 0, b"x" * 74))
        assert resident() - before < 8 << 20
