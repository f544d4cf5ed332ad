"""Limits the slow bodies of each client address. Pure.

A body that does not arrive costs its client nothing, but us a connection and room that others need.
A body is slow if it is incomplete a second after its head. The sweep notices that, so bodies of
ordinary speed cost nothing here, however many arrive at once.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Final

SLOW_S: Final = 1.0  # seconds after its head until a body counts as slow
TOO_MANY: Final = "too many bodies from this address come slowly"
_IPV6_HOST_BITS: Final = 64  # the owner of one IPv6 address nearly always has its whole network


def client_of(address: str) -> str:
    """Return the client of an address: the address itself, or the /64 network of IPv6.

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
        most: limit for each client.

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
        """Count a slow body of this client; return False if it has too many already."""
        count = self._counts.get(client, 0)
        if count >= self._most:
            return False
        self._counts[client] = count + 1
        return True

    def count(self, address: str) -> str:
        """Count a slow body from this address; return its client, "" if that one has too many."""
        client = client_of(address)
        return client if self.begin(client) else ""

    def end(self, client: str) -> None:
        """Uncount a body that is complete or dropped."""
        count = self._counts[client] - 1
        if count:
            self._counts[client] = count
        else:
            del self._counts[client]
