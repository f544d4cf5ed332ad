"""What a request is called outside the mesh: a name from which nothing can be read. Pure.

On the wire a request is its owner's incarnation and a number. Clients, logs and workers know it by
16 hexadecimal digits that a permutation makes of the number. Its key comes from the incarnation, a
random number that every process of the mesh knows and no client is told: so all of them make the
same name without its being sent, and a client cannot tell whose name comes before or after its own.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

_MASK: Final = 2**64 - 1
_OWNERS: Final = 256  # of which the key is kept


@lru_cache(_OWNERS)
def namer(owner: int) -> Callable[[int], bytes]:
    """What makes the names of an owner's requests: of each 64-bit number another name.

    Example:
        >>> name = namer(255)
        >>> name(7), name(8)
        (b'd215dff25418d92a', b'69aa9aafa8ca6480')
    """
    key = blake2b(owner.to_bytes(8, "big"), digest_size=24, person=b"request name").digest()
    mask = int.from_bytes(key[:8], "big")
    first = int.from_bytes(key[8:16], "big") | 1  # odd: no two numbers have the same product
    second = int.from_bytes(key[16:], "big") | 1

    def name(number: int) -> bytes:
        mixed = (number ^ mask) * first & _MASK
        return hexlify(((mixed ^ mixed >> 32) * second & _MASK).to_bytes(8, "big"))

    return name
