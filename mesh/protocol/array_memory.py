"""Memory for large arrays that come in slices: set aside at once, taken as it is filled. Pure."""

from __future__ import annotations

import numpy as np

from mesh.protocol.messages import Buffer


class SetAside:
    """A buffer of which only an address range is taken; the kernel gives its pages as they fill.

    Nothing is moved while it grows, and nothing cleared first.

    Args:
        total: bytes that it will have.

    Raises:
        MemoryError: there is no such range.

    Example:
        >>> buffer = SetAside(4)
        >>> buffer.put(0, b"ab")
        >>> buffer.put(2, b"cd")
        >>> bytes(buffer.whole)
        b'abcd'
    """

    __slots__ = ("whole",)

    def __init__(self, total: int) -> None:
        self.whole = np.empty(total, np.uint8).data

    def put(self, offset: int, piece: Buffer) -> None:
        """Take the next slice, which begins at `offset`."""
        self.whole[offset : offset + len(piece)] = piece
