"""The mesh addresses of the gateway processes of one host. Pure.

The configured address is that of the first process. Each further process has the next port or
socket, so that one file gives every host the addresses of all processes.
"""

from __future__ import annotations

from mesh.config.schema import split_tcp


def addresses(first: str, processes: int) -> tuple[str, ...]:
    """Return the addresses of all gateway processes of a host, the first of which is at `first`.

    For a DNS name, these ports count for each of its records. A file of addresses is returned
    unchanged, as it lists all of them.

    Example:
        >>> addresses("tcp://gateway:7000", 2)
        ('tcp://gateway:7000', 'tcp://gateway:7001')
        >>> addresses("ipc:///run/gateway", 2)
        ('ipc:///run/gateway', 'ipc:///run/gateway-2')
    """
    if first.startswith("file://"):
        return (first,)
    return tuple(address(first, number) for number in range(1, processes + 1))


def address(first: str, number: int) -> str:
    """Return the address of the n-th process, from 1; port 0 is any free port for each of them."""
    if first.startswith("tcp://"):
        return following(first, number)
    return first if number == 1 else f"{first}-{number}"


def following(first: str, number: int) -> str:
    """Return the n-th ``tcp://`` address, from 1, counting the ports on from `first`.

    Example:
        >>> following("tcp://[::1]:7000", 3), following("tcp://*:0", 3)
        ('tcp://[::1]:7002', 'tcp://*:0')
    """
    host, port = split_tcp(first)
    return f"tcp://{bracketed(host)}:{port + number - 1 if port else 0}"


def last_port(first: str, processes: int) -> int:
    """Return the highest port of `processes` processes; 0 if they use no port, or any free one."""
    if not first.startswith("tcp://"):
        return 0
    port = split_tcp(first)[1]
    return port + processes - 1 if port else 0


def bracketed(host: str) -> str:
    """Return a host as it is written before a port: an IPv6 address in brackets.

    Example:
        >>> bracketed("::1"), bracketed("10.0.0.7")
        ('[::1]', '10.0.0.7')
    """
    return f"[{host}]" if ":" in host else host
