"""Finds this process's sockets by their addresses, including sockets hidden in a library."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterable
from typing import Any

Place = tuple[str, int]  # tcp: numeric host and port; ipc: the path and 0
_ANY = ("0.0.0.0", "::")


def close_inherited(listening: Iterable[str], dialled: Iterable[str]) -> None:
    """Close a forked child's copies of its parent's sockets; the parent keeps its own.

    Args:
        listening: addresses such as ``tcp://127.0.0.1:7000`` or ``ipc:///run/x.sock`` that the
            parent listens at. Their accepted connections are closed, too.
        dialled: addresses to which the parent is connected.
    """
    own = set(filter(None, map(_place, listening)))
    own |= {("", port) for host, port in own if host in _ANY}
    others = set(filter(None, map(_place, dialled)))
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            if _is_among(descriptor, own, others):
                os.close(descriptor)


def _sockets() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
    return found


def _is_among(descriptor: int, own: set[Place], others: set[Place]) -> bool:
    one = socket.socket(fileno=descriptor)
    try:
        here = _named(one.getsockname())
        if here in own or ("", here[1]) in own:
            return True
        return bool(others) and _named(one.getpeername()) in others
    finally:
        one.detach()


def _named(address: Any) -> Place:
    """Convert an address from the kernel to a place."""
    if isinstance(address, tuple) and isinstance(address[0], str):
        return _number(address[0]), address[1]
    return os.fsdecode(address) if isinstance(address, str | bytes) else "", 0


def _place(address: str) -> Place | None:
    scheme, _, rest = address.partition("://")
    if scheme == "ipc":
        return f"\0{rest[1:]}" if rest.startswith("@") else rest, 0
    host, _, port = rest.rpartition(":")
    return (_number(host.strip("[]")), int(port)) if port.isdigit() else None


def _number(host: str) -> str:
    """Return the canonical form of a numeric host, which can be compared."""
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host.partition("%")[0]))
    return host
