"""The HTTP port of a host: bound once by the supervisor, listened on by its gateway processes.

All of them take connections from the one queue that the kernel keeps for it. As the supervisor
holds it, too, nobody who waits in that queue is lost when a gateway dies or is restarted: a sibling
or the successor takes him. The port refuses whoever connects until the first gateway listens, and
again when the supervisor has closed it.
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

LISTEN_BACKLOG: Final = 1024  # connections that the kernel holds for us

Found = tuple[Any, ...]  # one answer of getaddrinfo


class ListenSocket:
    """The sockets of one port, and the memory in which those who share it count connections.

    Args:
        host: a name or an address; empty for all interfaces.
        port: 0 takes a free one.
        processes: how many gateways share it.

    Attributes:
        doors: descriptors of the bound sockets, which do not listen yet.
        accept_balance: the counts of the processes.
        crowd_fd: the descriptor of their memory.

    Raises:
        StartError: the address is in use, not ours, or the name unknown; or memory is refused.

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
        """The port, held inside the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of everything."""
        self._undo()
        self._let_go()

    def _let_go(self) -> None:
        self.close()
        if self.crowd_fd >= 0:
            os.close(self.crowd_fd)
            self.crowd_fd = -1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What each gateway process inherits."""
        return (*self.doors, self.crowd_fd)

    def close(self) -> None:
        """Refuse connections from now on; more than once does no harm."""
        for one in self._sockets:
            one.close()


def shared_crowd(descriptor: int) -> AcceptBalance:
    """The counts in the memory that a descriptor stands for."""
    return AcceptBalance(memoryview(mmap.mmap(descriptor, 0)))


def inherited(doors: Iterable[int]) -> list[socket.socket]:
    """Take over the sockets that this process was started with; its own children get none."""
    sockets = [socket.socket(fileno=descriptor) for descriptor in doors]
    for one in sockets:
        one.set_inheritable(False)
        one.setblocking(False)
    return sockets


def look_up(host: str, port: int) -> list[Found]:
    """Every address to bind for a host, each once; OSError where the name is unknown."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def bound(found: Iterable[Found]) -> list[socket.socket]:
    """Bind a socket to each address, all or none; OSError if one cannot be."""
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
        if family == socket.AF_INET6:  # the other family has a socket of its own
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def cannot_listen(host: str, port: int, error: OSError) -> StartError:
    """The error of an HTTP address that cannot be had."""
    return StartError(
        f"HTTP cannot listen at {bracketed(host)}:{port}: {error.strerror or error}; "
        "choose another port, or end the process that has this one"
    )
