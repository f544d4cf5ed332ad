"""Answers that clients have not taken yet: charged to their routes, and bounded. Pure.

An answer that its client does not read stays in the gateway's memory. So it counts on its route,
as the request did, until it has left; and a client that takes its answers too slowly is cut off:

- One that is behind the least rate by `patience` seconds.
- One whose connection holds more than a quarter of `limit`, once it is seen that it will not take
  that soon. Until then its further requests are refused.
- Where all connections together hold more than `limit`: at once, whoever will take longest.

The connections of both protocols report here what they hold, whenever they have written what they
could (`Account.settle`), and twice a second (`Account.tick`). One that holds nothing has no
account, so clients that read cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

LEAST_RATE: Final = 16 * 1024  # bytes a second that a client must take of its answers
_SHARE: Final = 4  # a connection may hold this part of what all may
_TRIAL_S: Final = 2.0  # seconds after which a connection's pace is known
_SOON_S: Final = 10.0  # seconds in which one that holds more than its share must be able to take it
_WEIGHT: Final = 0.25  # of the newest step in a connection's pace


class Charged(Protocol):
    """A route that is charged for answers."""

    def hold(self, nbytes: int) -> None:
        """Charge so many bytes more, or less."""


Kept = Sequence[tuple[Charged | None, int]]  # answers: their route, if there is one, and bytes


class Unread:
    """What all connections of a process hold for their clients.

    Args:
        limit: bytes that they may hold together.
        patience: seconds by which a client may be behind the least rate.

    Attributes:
        nbytes: what they hold.

    Example:
        >>> unread = Unread(1000, 30.0)
        >>> account = Account(unread, print)
        >>> account.settle([(None, 300)], 0)
        >>> unread.nbytes, account.is_full
        (300, True)
    """

    __slots__ = ("_accounts", "limit", "nbytes", "patience")

    def __init__(self, limit: int, patience: float) -> None:
        self.limit, self.patience = limit, patience
        self.nbytes = 0
        self._accounts: dict[Account, None] = {}

    @property
    def share(self) -> int:
        """Bytes that one connection may hold for longer."""
        return self.limit // _SHARE

    def change(self, account: Account, more: int) -> None:
        """An account has grown or shrunk by so many bytes; one that holds nothing is forgotten."""
        self.nbytes += more
        if account.nbytes:
            self._accounts[account] = None
        else:
            self._accounts.pop(account, None)

    def relieve(self) -> None:
        """Cut off who will take longest, while more is held than may be.

        A connection that is the only one with answers is left to its pace: an answer that is
        larger than the limit could otherwise never be given.
        """
        while self.nbytes > self.limit and len(self._accounts) > 1:
            max(self._accounts, key=Account.burden).end("unread")


class Account:
    """What one connection holds for its client.

    Args:
        unread: of all connections.
        cut_off: called with a word for the metrics when the connection must end.

    Attributes:
        nbytes: what it holds.
    """

    __slots__ = (
        "_cut_off",
        "_fresh",
        "_is_over",
        "_kept",
        "_lag",
        "_pace",
        "_seen",
        "_unread",
        "nbytes",
    )

    def __init__(self, unread: Unread, cut_off: Callable[[str], None]) -> None:
        self._unread, self._cut_off = unread, cut_off
        self.nbytes = 0
        self._kept: Kept = ()
        self._fresh = 0  # bytes that the client has taken since the last tick
        self._lag = 0.0  # seconds by which it is behind the least rate
        self._pace = 0.0  # bytes a second that it takes
        self._seen = 0.0  # seconds for which it has been watched
        self._is_over = False

    def settle(self, kept: Kept, taken: int) -> None:
        """These answers are held now.

        Args:
            kept: all of them.
            taken: bytes that the client took since the last time.
        """
        if self._is_over:
            return
        before = self._kept
        self._kept = kept
        for route, nbytes in before:
            if route is not None:
                route.hold(-nbytes)
        for route, nbytes in kept:
            if route is not None:
                route.hold(nbytes)
        nbytes = sum([nbytes for _, nbytes in kept])
        more, self.nbytes = nbytes - self.nbytes, nbytes
        self._fresh += taken
        self._unread.change(self, more)
        if more > 0:
            self._unread.relieve()

    def tick(self, step: float) -> None:
        """For `step` seconds the client has had something to take."""
        if self._is_over:
            return
        fresh, self._fresh = self._fresh, 0
        pace = fresh / step
        self._pace = pace if not self._seen else self._pace + _WEIGHT * (pace - self._pace)
        self._seen += step
        self._lag = max(0.0, self._lag + step - fresh / LEAST_RATE)
        if self._lag >= self._unread.patience:
            self.end("slow_reader")
        elif self.is_full and self._seen >= _TRIAL_S and self.burden()[0] > _SOON_S:
            self.end("unread")

    @property
    def is_full(self) -> bool:
        """Whether it holds more than one connection should: nothing new is asked for it."""
        return self.nbytes > self._unread.share

    def burden(self) -> tuple[float, int]:
        """How much it weighs: seconds until all is taken, as far as that is known, and bytes."""
        return (self.nbytes / max(1.0, self._pace) if self._seen else 0.0), self.nbytes

    def end(self, cause: str) -> None:
        """Hold nothing any more, and have the connection cut off."""
        self.close()
        self._cut_off(cause)

    def close(self) -> None:
        """The connection is over: what it held is let go of."""
        self.settle((), 0)
        self._is_over = True
