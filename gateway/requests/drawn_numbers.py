"""The numbers that identify requests on the wire: nobody can guess one that he was not told. Pure.

A replica is believed about a request whose number it knows, before the in-flight table has heard
that it holds it. So numbers are drawn, and not counted: 64 bits each, many at a time, which costs
less for each request than to count.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

_MANY: Final = struct.Struct("!512Q")


def drawn_numbers(draw: Callable[[int], bytes]) -> Iterator[int]:
    """Numbers without end, no two of them alike for all that anybody will see.

    Args:
        draw: makes so many random bytes, as `os.urandom` does.

    Example:
        >>> numbers = drawn_numbers(lambda size: bytes(range(8)) * (size // 8))
        >>> hex(next(numbers))
        '0x1020304050607'
    """
    while True:
        yield from _MANY.unpack(draw(_MANY.size))
