"""How many slow bodies one client address may have. Pure.

A body that does not come costs its client nothing and us a connection, and room that others need.
One is slow when it is not whole a second after its head: the sweep notices, so that a body which
comes at an ordinary pace costs nothing here, however many come at once.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

SLOW_S: Final = 1.0  # seconds after its head in which a body is not slow yet
TOO_MANY: Final = "too many bodies from this address come slowly"
_IPV6_HOST_BITS: Final = 64  # whoever has one IPv6 address nearly always has all of its network


def client_of(address: str) -> str:
    """Whom an address belongs to: itself, or of IPv6 its network of 64 bits.

    Example:
        >>> client_of("192.0.2.7"), client_of("::ffff:192.0.2.7"), client_of("2001:db8::1:2")
        ('192.0.2.7', '192.0.2.7', '2001:db8::')
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS))


class Uploads:
    """Counts the slow bodies of each client.

    Args:
        most: that one may have.

    Example:
        >>> uploads = Uploads(1)
        >>> uploads.begin("192.0.2.7"), uploads.begin("192.0.2.7"), uploads.begin("192.0.2.8")
        (True, False, True)
        >>> uploads.end("192.0.2.7")
        >>> uploads.begin("192.0.2.7")
        True
    """

    __slots__ = ("_counts", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}

    def begin(self, client: str) -> bool:
        """One more body of this client is slow; False if it has too many already."""
        count = self._counts.get(client, 0)
        if count >= self._most:
            return False
        self._counts[client] = count + 1
        return True

    def count(self, address: str) -> str:
        """One more body from this address is slow: whom it counts for, "" if he has too many."""
        client = client_of(address)
        return client if self.begin(client) else ""

    def end(self, client: str) -> None:
        """One is whole, or given up."""
        count = self._counts[client] - 1
        if count:
            self._counts[client] = count
        else:
            del self._counts[client]
