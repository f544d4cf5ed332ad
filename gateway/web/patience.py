"""Patience with a client that keeps us busy for little. Pure.

A piece of a body costs the parser about the same whether it holds one byte or thousands. Whoever
sends tiny ones pays with patience, which comes back with time; when it has run out, the connection
ends. The numbers are the same for HTTP/1.1 and HTTP/2.
"""

from __future__ import annotations

from typing import Final

# What may be asked for nothing: so much at once, and so much more each second.
FULL_PATIENCE: Final = 200.0
PATIENCE_PER_S: Final = 50.0
# A piece of a body that has fewer bytes, and what it costs.
TINY_BYTES: Final = 64
TINY_COST: Final = 0.05


class Patience:
    """What is left of it for one connection.

    Args:
        now: local monotonic time in seconds.

    Example:
        >>> patience = Patience(0.0)
        >>> patience.bears(4_000, 0.0), patience.bears(1, 0.0), patience.bears(1_000, 1.0)
        (True, False, False)
    """

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left, self._at = FULL_PATIENCE, now

    def bears(self, pieces: int, now: float) -> bool:
        """Pay for so many tiny pieces that have come by now; False if that is too many."""
        self._left = min(FULL_PATIENCE, self._left + (now - self._at) * PATIENCE_PER_S)
        self._at = now
        self._left -= pieces * TINY_COST
        return self._left >= 0
