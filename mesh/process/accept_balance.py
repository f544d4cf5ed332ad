"""How many connections each of the processes has that share one HTTP port. Pure.

They take connections from one queue. The first process awake would take them all, and keep-alive
makes that last. So each writes its own number into memory that all of them share, and one that has
more than the others leaves a newcomer to them for a moment. The supervisor strikes out who died.
"""

from __future__ import annotations

from typing import Final

_COUNTER_BYTES: Final = 8  # bytes for each process


class AcceptBalance:
    """The counts of all processes of one host.

    Args:
        memory: `size` bytes for so many processes, writable, zero at first.

    Example:
        >>> accept_balance = AcceptBalance(bytearray(AcceptBalance.size(2)))
        >>> accept_balance.count(1, 5), accept_balance.count(2, 0)
        (None, None)
        >>> accept_balance.room(1), accept_balance.room(2)
        (0, 7)
    """

    __slots__ = ("_counts",)

    def __init__(self, memory: memoryview | bytearray) -> None:
        # One more than it has; 0 is a process that takes no connections.
        self._counts = memoryview(memory).cast("Q")

    @staticmethod
    def size(processes: int) -> int:
        """Bytes that so many processes need."""
        return _COUNTER_BYTES * processes

    def count(self, number: int, connections: int) -> None:
        """The n-th process, counted from 1, takes connections and has so many."""
        self._counts[number - 1] = connections + 1

    def away(self, number: int) -> None:
        """It takes none: it is not ready yet, it stops, or it is dead."""
        self._counts[number - 1] = 0

    def is_alone(self, number: int) -> bool:
        """Whether no other process takes connections."""
        return self._least(number) is None

    def room(self, number: int) -> int | None:
        """How many connections it may take now; None for as many as wait.

        One more than the process that has the fewest, or a quarter more than that where there are
        many: so a burst is spread in few steps.
        """
        least = self._least(number)
        if least is None:
            return None
        return max(0, least + 1 + least // 4 - self._having(number))

    def _having(self, number: int) -> int:
        return max(0, self._counts[number - 1] - 1)

    def _least(self, number: int) -> int | None:
        """The fewest connections that any other process has which takes some."""
        here = [count for at, count in enumerate(self._counts, 1) if count and at != number]
        return min(here) - 1 if here else None


class AcceptShare:
    """One process among those that share the port.

    Args:
        accept_balance: the counts of all.
        number: its own, counted from 1.

    Example:
        >>> seat = AcceptShare(AcceptBalance(bytearray(AcceptBalance.size(2))), 1)
        >>> seat.count(3)
        >>> seat.room() is None, seat.is_alone
        (True, True)
    """

    __slots__ = ("_crowd", "_left", "_number")

    def __init__(self, accept_balance: AcceptBalance, number: int) -> None:
        self._crowd, self._number = accept_balance, number
        self._left = False

    def count(self, connections: int) -> None:
        """It has so many connections."""
        if not self._left:
            self._crowd.count(self._number, connections)

    def room(self) -> int | None:
        """How many more it may take now; None for as many as wait."""
        return None if self._left else self._crowd.room(self._number)

    def leave(self) -> None:
        """From now on newcomers are for the others, as long as there are any."""
        self._left = True
        self._crowd.away(self._number)

    @property
    def is_alone(self) -> bool:
        """Whether no other process takes connections."""
        return self._crowd.is_alone(self._number)
