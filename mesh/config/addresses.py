"""Which mesh addresses belong together: those of the gateway processes of one host. Pure.

An address that people write is the first process's; a port that is given counts on from there, so
that one file says for every host where all processes are.
"""

from __future__ import annotations

from mesh.config.schema import split_tcp


def addresses(first: str, processes: int) -> tuple[str, ...]:
    """Where each of so many gateway processes is, whose first one is at `first`.

    A DNS name stands for as many ports of each of its records. A file of addresses stays as it is:
    it lists all of them.

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
    """Where the n-th process is, counted from 1; port 0 is any free one for each of them."""
    if first.startswith("tcp://"):
        return following(first, number)
    return first if number == 1 else f"{first}-{number}"


def following(first: str, number: int) -> str:
    """The n-th ``tcp://`` address of those that begin with `first` and differ in their ports.

    Example:
        >>> following("tcp://[::1]:7000", 3), following("tcp://*:0", 3)
        ('tcp://[::1]:7002', 'tcp://*:0')
    """
    host, port = split_tcp(first)
    return f"tcp://{bracketed(host)}:{port + number - 1 if port else 0}"


def last_port(first: str, processes: int) -> int:
    """The highest port that so many processes take; 0 where they take none, or any."""
    if not first.startswith("tcp://"):
        return 0
    port = split_tcp(first)[1]
    return port + processes - 1 if port else 0


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets.

    Example:
        >>> bracketed("::1"), bracketed("10.0.0.7")
        ('[::1]', '10.0.0.7')
    """
    return f"[{host}]" if ":" in host else host
