"""Unguessable numbers that identify requests on the wire. Pure.

The gateway trusts a replica that knows a request's number, even before a handoff notice says that
this replica holds the request. So the numbers are random: 64 bits each, drawn many at a time, which
costs less per request than counting.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

_MANY: Final = struct.Struct("!512Q")


def drawn_numbers(draw: Callable[[int], bytes]) -> Iterator[int]:
    """Yield random numbers without end; 64 bits make a repetition practically impossible.

    Args:
        draw: returns that many random bytes, as `os.urandom` does.

    Example:
        >>> numbers = drawn_numbers(lambda size: bytes(range(8)) * (size // 8))
        >>> hex(next(numbers))
        '0x1020304050607'
    """
    while True:
        yield from _MANY.unpack(draw(_MANY.size))
