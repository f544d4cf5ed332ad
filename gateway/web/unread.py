"""Answers that clients have not read yet: charged to their routes, and bounded. Pure.

An answer that its client does not read stays in the gateway's memory. So its route is charged for
it, as for the request, until it is sent. A client that reads its answers too slowly is cut off:

- if it is `patience` seconds behind the least rate;
- if its connection holds more than a quarter of `limit`, and its measured speed shows that it will
  not read that soon (until then its further requests are refused);
- if all connections together hold more than `limit`: at once the one that will take longest.

The connections of both protocols report what they hold whenever they have written what they could
(`Account.settle`), and twice a second (`Account.tick`). A connection that holds nothing has no
account, so clients that read cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

LEAST_RATE: Final = 16 * 1024  # bytes of its answers that a client must read per second
_SHARE: Final = 4  # one connection may hold `limit` / _SHARE
_TRIAL_S: Final = 2.0  # seconds after which a connection's speed is known
_SOON_S: Final = 10.0  # seconds in which a connection above its share must be able to read it
_WEIGHT: Final = 0.25  # weight of the newest measurement in a connection's speed


class Charged(Protocol):
    """A route that is charged for answers."""

    def hold(self, nbytes: int) -> None:
        """Charge `nbytes` more bytes; fewer if negative."""


Kept = Sequence[tuple[Charged | None, int]]  # answers: their route, if there is one, and bytes


class Unread:
    """The unread answers of all connections of a process.

    Args:
        limit: bytes that they may hold together.
        patience: seconds by which a client may be behind the least rate.

    Attributes:
        nbytes: bytes that they hold.

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
        """The bytes that one connection may hold for long."""
        return self.limit // _SHARE

    def change(self, account: Account, more: int) -> None:
        """Add the change of an account's bytes; drop the account if it holds nothing."""
        self.nbytes += more
        if account.nbytes:
            self._accounts[account] = None
        else:
            self._accounts.pop(account, None)

    def relieve(self) -> None:
        """Cut off the connections that will take longest, until the limit is met.

        The only connection with answers is not cut off: otherwise an answer larger than the limit
        could never be sent.
        """
        while self.nbytes > self.limit and len(self._accounts) > 1:
            max(self._accounts, key=Account.burden).end("unread")


class Account:
    """The unread answers of one connection.

    Args:
        unread: the total of all connections.
        cut_off: called with a word for the metrics when the connection must end.

    Attributes:
        nbytes: bytes that it holds.
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
        self._fresh = 0  # bytes that the client read since the last tick
        self._lag = 0.0  # seconds by which it is behind the least rate
        self._pace = 0.0  # bytes that it reads per second
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
        """Judge the client after `step` seconds in which it had something to read."""
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
        """Whether it holds more than its share: then it may send no further request."""
        return self.nbytes > self._unread.share

    def burden(self) -> tuple[float, int]:
        """The sort key of `relieve`: seconds until all is read, as far as known, and bytes."""
        return (self.nbytes / max(1.0, self._pace) if self._seen else 0.0), self.nbytes

    def end(self, cause: str) -> None:
        """Release everything, and cut the connection off."""
        self.close()
        self._cut_off(cause)

    def close(self) -> None:
        """Release everything: the connection is closed."""
        self.settle((), 0)
        self._is_over = True


class UnreadLedger:
    """Accounts for one connection; it has an `Account` only while the connection holds something.

    Args:
        unread: the total of all connections.
        cut_off: called with a word for the metrics when the connection must end.

    Attributes:
        is_open: whether the connection holds something.
        unsent: bytes in the transport at the last look.

    Example:
        >>> ledger = UnreadLedger(Unread(1000, 30.0), print)
        >>> ledger.settle([(None, 300)], 300, 0)
        >>> ledger.is_open, ledger.is_full
        (True, True)
        >>> ledger.settle([], 0, 300)
        >>> ledger.is_open
        False
    """

    __slots__ = ("_account", "_cut_off", "_unread", "is_open", "unsent")

    def __init__(self, unread: Unread, cut_off: Callable[[str], None]) -> None:
        self._unread, self._cut_off = unread, cut_off
        self._account: Account | None = None
        self.is_open = False
        self.unsent = 0

    @property
    def is_full(self) -> bool:
        """See `Account.is_full`."""
        return self._account is not None and self._account.is_full

    def taken(self, unsent: int, written: int = 0) -> int:
        """Return the bytes that the client read since the last call.

        Args:
            unsent: bytes that the transport has not sent.
            written: bytes that were written to it since then, as far as that is counted.
        """
        return max(0, written + self.unsent - unsent)

    def moved(self, unsent: int) -> int:
        """Return the bytes that left the transport, for a connection that is not choked.

        More may have been written meanwhile, so the client's speed is unknown. It is late if
        nothing moves.
        """
        return LEAST_RATE if unsent != self.unsent else 0

    def settle(self, kept: Kept, unsent: int, taken: int) -> None:
        """These answers are held now.

        Args:
            kept: all of them.
            unsent: bytes that the transport has not sent.
            taken: bytes that the client took since the last time.
        """
        self.unsent = unsent
        if self._account is None:
            if not kept:
                return
            self._account = Account(self._unread, self._cut_off)
            self.is_open = True
        self._account.settle(kept, taken)
        if not kept:
            self._account = None
            self.is_open = False

    def tick(self, step: float) -> None:
        """`step` seconds have passed."""
        if self._account is not None:
            self._account.tick(step)

    def close(self) -> None:
        """Drop the references to a connection that is closed."""
        account, self._account = self._account, None
        self.is_open = False
        if account is not None:
            account.close()
        self._cut_off = _nobody


def _nobody(cause: str) -> None:
    """Do nothing: the connection is closed."""
