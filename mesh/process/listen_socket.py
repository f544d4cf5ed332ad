"""The HTTP port of a host: the supervisor binds it, its gateway processes listen on it.

All of them accept connections from the one queue that the kernel keeps for the socket. The
supervisor holds the socket, too, so no waiting connection is lost when a gateway dies or restarts:
a sibling or the successor accepts it. The port refuses connections until the first gateway listens,
and again once the supervisor has closed it.
"""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, Self

from mesh.config.addresses import bracketed
from mesh.errors import StartError
from mesh.process.accept_balance import AcceptBalance
from mesh.process.fork import in_child
from mesh.process.shared_memory import shared_memory

LISTEN_BACKLOG: Final = 1024  # connections that the kernel queues for us

Found = tuple[Any, ...]  # one answer of getaddrinfo


class ListenSocket:
    """The sockets of one port, and the shared memory with the connection counts of its processes.

    Args:
        host: a name or an address; empty for all interfaces.
        port: the port; 0 takes a free one.
        processes: how many gateways share it.

    Attributes:
        doors: descriptors of the bound sockets, which do not listen yet.
        accept_balance: the connection counts of the processes.
        crowd_fd: the descriptor of the memory of these counts.

    Raises:
        StartError: the address is in use or not ours, the name is unknown, or there is no shared
            memory.

    Example:
        >>> with ListenSocket("127.0.0.1", 0, processes=2) as front:
        ...     command = Command(argv, environment, settings, front.descriptors)
    """

    def __init__(self, host: str, port: int, processes: int) -> None:
        try:
            self._sockets = bound(look_up(host, port))
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        self.doors = tuple(one.fileno() for one in self._sockets)
        try:
            self.crowd_fd = shared_memory("mesh-crowd", AcceptBalance.size(processes))
        except OSError as error:
            self.close()
            raise StartError(error.strerror) from error
        self.accept_balance = shared_crowd(self.crowd_fd)
        self._undo = in_child(self._let_go)

    def __enter__(self) -> Self:
        """Return this object; the end of the block closes the port."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the port."""
        self._undo()
        self._let_go()

    def _let_go(self) -> None:
        self.close()
        if self.crowd_fd >= 0:
            os.close(self.crowd_fd)
            self.crowd_fd = -1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that each gateway process inherits."""
        return (*self.doors, self.crowd_fd)

    def close(self) -> None:
        """Close the sockets, so that new connections are refused. Repeated calls do nothing."""
        for one in self._sockets:
            one.close()


def shared_crowd(descriptor: int) -> AcceptBalance:
    """Open the connection counts in the memory of a descriptor."""
    return AcceptBalance(memoryview(mmap.mmap(descriptor, 0)))


def inherited(doors: Iterable[int]) -> list[socket.socket]:
    """Take over inherited sockets; children of this process do not inherit them."""
    sockets = [socket.socket(fileno=descriptor) for descriptor in doors]
    for one in sockets:
        one.set_inheritable(False)
        one.setblocking(False)
    return sockets


def look_up(host: str, port: int) -> list[Found]:
    """Return every address to bind for a host, each once; OSError if the name is unknown."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def bound(found: Iterable[Found]) -> list[socket.socket]:
    """Bind a socket to each address, or raise OSError and bind none."""
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in found:
            sockets.append(_bound(family, address))
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def cannot_listen(host: str, port: int, error: OSError) -> StartError:
    """Make the error for an HTTP address that cannot be bound."""
    return StartError(
        f"HTTP cannot listen at {bracketed(host)}:{port}: {error.strerror or error}; "
        "choose another port, or end the process that has this one"
    )
