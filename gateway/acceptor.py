"""Takes client connections off the listening sockets, many in one turn of the loop.

The loop's own server takes one connection per turn. That is enough while turns are short; under
load, when hundreds connect at once and a turn lasts milliseconds, the last would wait for seconds
before anybody read their first request.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from mesh.log import get_logger

_log = get_logger()
BACKLOG: Final = 1024  # connections that the kernel holds for us
MOST: Final = 64  # taken in one turn; requests of those that are here already come next
# Seconds for which nothing is taken when there are no descriptors or no memory for more.
RESPITE: Final = 0.1
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Listens at an address and makes a protocol of each connection.

    Args:
        make: called for each connection that comes.

    Example:
        ```python
        acceptor = Acceptor(lambda: Doorway(shared))
        host, port = await acceptor.listen("127.0.0.1", 0)
        ...
        acceptor.close()
        ```
    """

    def __init__(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Only assigns; `listen` acts."""
        self._make = make
        self._loop: asyncio.AbstractEventLoop
        self._listening: list[socket.socket] = []
        self._opening: set[asyncio.Task[object]] = set()

    @property
    def is_open(self) -> bool:
        """Whether anybody can connect."""
        return bool(self._listening)

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen at every address that `host` stands for, and return the first.

        Args:
            host: a name or an address; empty for all interfaces.
            port: 0 takes a free one.

        Raises:
            OSError: the address is in use, not ours, or the name unknown.
        """
        self._loop = asyncio.get_running_loop()
        found = await self._loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._listening.append(_bound(family, address))
        except OSError:
            self.close()
            raise
        for listening in self._listening:
            self._watch(listening)
        name = self._listening[0].getsockname()
        return name[0], name[1]

    def close(self) -> None:
        """Take no more connections; those that are here go on."""
        for listening in self._listening:
            self._unwatch(listening)
            listening.close()
        self._listening = []

    def _watch(self, listening: socket.socket) -> None:
        if listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _unwatch(self, listening: socket.socket) -> None:
        self._loop.remove_reader(listening.fileno())

    def _accept(self, listening: socket.socket) -> None:
        """Take what waits, but leave the loop to the others in between."""
        for _ in range(MOST):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # that one is gone, or there is no room for it
                if error.errno in _SHORTAGES:
                    self._pause(listening, error)
                    return
                continue
            self._open(connection)

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._make, connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[object]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and opening.exception() is not None:
            _log.debug("a connection was gone before it was open: %s", opening.exception())

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        _log.warning("no more connections are taken for a moment: %s", error.strerror)
        self._unwatch(listening)
        self._loop.call_later(RESPITE, self._watch, listening)


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # the other family has a socket of its own
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
