"""A limit of the bytes that the gateway buffers for all clients together. Pure."""

from __future__ import annotations


class ByteBudget:
    """A number of bytes that can be reserved and released.

    Example:
        >>> room = ByteBudget(100)
        >>> room.take(60), room.take(60)
        (True, False)
    """

    __slots__ = ("_free",)

    def __init__(self, size: int) -> None:
        self._free = size

    def take(self, nbytes: int) -> bool:
        """Reserve `nbytes`; return False if there are not so many."""
        if nbytes > self._free:
            return False
        self._free -= nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        """Release `nbytes`."""
        self._free += nbytes
