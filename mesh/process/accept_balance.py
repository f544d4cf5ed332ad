"""Balances client connections between the processes that share one HTTP port. Pure.

They accept connections from one queue. Without a balance, the first process to wake up would accept
all of them, and keep-alive would make that last. So each process writes its number of connections
to shared memory. A process that has more than the others leaves new connections to them for a
moment. The supervisor clears the number of a process that died.
"""

from __future__ import annotations

from typing import Final

_COUNTER_BYTES: Final = 8  # bytes for each process


class AcceptBalance:
    """The connection counts of all processes of one host.

    Args:
        memory: `size` bytes for the number of processes, writable, zero at first.

    Example:
        >>> accept_balance = AcceptBalance(bytearray(AcceptBalance.size(2)))
        >>> accept_balance.count(1, 5), accept_balance.count(2, 0)
        (None, None)
        >>> accept_balance.room(1), accept_balance.room(2)
        (0, 7)
    """

    __slots__ = ("_counts",)

    def __init__(self, memory: memoryview | bytearray) -> None:
        # Each holds the connections plus one; 0 means that the process accepts none.
        self._counts = memoryview(memory).cast("Q")

    @staticmethod
    def size(processes: int) -> int:
        """Return the bytes that the counts of this many processes need."""
        return _COUNTER_BYTES * processes

    def count(self, number: int, connections: int) -> None:
        """Set the connections of a process, numbered from 1; it accepts new ones."""
        self._counts[number - 1] = connections + 1

    def away(self, number: int) -> None:
        """Record that a process accepts none: it is not ready yet, it stops, or it died."""
        self._counts[number - 1] = 0

    def is_alone(self, number: int) -> bool:
        """Whether no other process accepts connections."""
        return self._least(number) is None

    def room(self, number: int) -> int | None:
        """Return how many connections a process may accept now; None means no limit.

        The bound is one more than the fewest that another process has, or a quarter more if there
        are many, so that a burst is spread in few steps.
        """
        least = self._least(number)
        if least is None:
            return None
        return max(0, least + 1 + least // 4 - self._having(number))

    def _having(self, number: int) -> int:
        return max(0, self._counts[number - 1] - 1)

    def _least(self, number: int) -> int | None:
        """Return the fewest connections of any other process that accepts some."""
        here = [count for at, count in enumerate(self._counts, 1) if count and at != number]
        return min(here) - 1 if here else None


class AcceptShare:
    """The part of one process in the balance.

    Args:
        accept_balance: the counts of all processes.
        number: the number of this process, from 1.

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
        """Set how many connections this process has."""
        if not self._left:
            self._crowd.count(self._number, connections)

    def room(self) -> int | None:
        """Return how many more this process may accept now; None means no limit."""
        return None if self._left else self._crowd.room(self._number)

    def leave(self) -> None:
        """Leave new connections to the other processes, as long as there are any."""
        self._left = True
        self._crowd.away(self._number)

    @property
    def is_alone(self) -> bool:
        """Whether no other process accepts connections."""
        return self._crowd.is_alone(self._number)
