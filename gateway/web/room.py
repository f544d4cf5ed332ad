"""Room for bytes that clients have the gateway hold, for all connections together. Pure."""

from __future__ import annotations


class Room:
    """Room for so many bytes, taken and given back.

    Example:
        >>> room = Room(100)
        >>> room.take(60), room.take(60)
        (True, False)
    """

    __slots__ = ("_free",)

    def __init__(self, size: int) -> None:
        self._free = size

    def take(self, nbytes: int) -> bool:
        """Take that much if it is there."""
        if nbytes > self._free:
            return False
        self._free -= nbytes
        return True

    def give_back(self, nbytes: int) -> None:
        """What was taken is free again."""
        self._free += nbytes
