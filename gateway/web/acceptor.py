"""Accepts client connections, many in one turn of the loop.

The loop's own server takes one connection per turn. That is enough while turns are short; under
load, when hundreds connect at once and a turn lasts milliseconds, the last would wait for seconds
before their first request was read.

Where several processes share the port, each takes its share only
(`mesh/process/accept_balance.py`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from typing import Final

from mesh.log import get_logger
from mesh.process.accept_balance import AcceptShare
from mesh.process.listen_socket import LISTEN_BACKLOG, bound

_log = get_logger()
# Connections accepted in one turn; then open connections have their turn.
ACCEPTED_PER_TURN: Final = 64
# Seconds without accepting when descriptors or memory are exhausted.
SHORTAGE_PAUSE_S: Final = 0.1
# Seconds for which a new connection is left to processes with fewer connections.
YIELD_PAUSE_S: Final = 0.001
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Listens at an address and makes a protocol of each connection.

    Args:
        make: called for each connection that comes.
        having: says how many connections are open.

    Example:
        ```python
        acceptor = Acceptor(lambda: ProtocolDetection(server))
        host, port = await acceptor.listen("127.0.0.1", 0)
        ...
        acceptor.close()
        ```
    """

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        having: Callable[[], int] = lambda: 0,
    ) -> None:
        """Only assigns; `listen` and `take` act."""
        self._make, self._having = make, having
        self._seat: AcceptShare | None = None
        self._resting = self._passed = False
        self._loop: asyncio.AbstractEventLoop
        self._listening: list[socket.socket] = []
        self._opening: set[asyncio.Task[object]] = set()

    @property
    def is_open(self) -> bool:
        """Whether connections are accepted."""
        return bool(self._listening)

    @property
    def addresses(self) -> list[object]:
        """The addresses, as `socket.getsockname` returns them."""
        return [listening.getsockname() for listening in self._listening]

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Listen at every address that `host` stands for, and return the first.

        Args:
            host: a name or an address; empty for all interfaces.
            port: 0 takes a free one.

        Raises:
            OSError: the address is in use, not ours, or the name unknown.
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return self.take(bound(dict.fromkeys(found)))

    def take(
        self, sockets: Iterable[socket.socket], seat: AcceptShare | None = None
    ) -> tuple[str, int]:
        """Listen on sockets that are bound, and return the address of the first.

        Args:
            sockets: of this process, or inherited with others.
            seat: among those others.

        Raises:
            OSError: another process listens there.
        """
        self._loop, self._seat = asyncio.get_running_loop(), seat
        self._listening = list(sockets)
        try:
            for listening in self._listening:
                listening.listen(LISTEN_BACKLOG)
        except OSError:
            self.close()
            raise
        self.count()
        for listening in self._listening:
            self._watch(listening)
        name = self._listening[0].getsockname()
        return (name, 0) if isinstance(name, str) else (name[0], name[1])

    def count(self) -> None:
        """Publish the number of our connections to the processes that share the port."""
        if self._seat is not None and self._listening:
            self._seat.count(self._having() + len(self._opening))

    def give_way(self) -> None:
        """Leave new connections to the processes that share the port, if there are any.

        To be called again and again, as the others may leave, too.
        """
        if self._seat is None:
            return
        self._seat.leave()
        self._resting = not self._seat.is_alone
        for listening in self._listening:
            (self._unwatch if self._resting else self._watch)(listening)

    def close(self) -> None:
        """Accept no more connections; open ones go on."""
        if self._seat is not None:
            self._seat.leave()
        for listening in self._listening:
            self._unwatch(listening)
            listening.close()
        self._listening = []

    def _watch(self, listening: socket.socket) -> None:
        if listening in self._listening and not self._resting:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _unwatch(self, listening: socket.socket) -> None:
        self._loop.remove_reader(listening.fileno())

    def _accept(self, listening: socket.socket) -> None:
        """Accept waiting connections, some per turn of the loop."""
        for _ in range(self._room(listening)):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # the client is gone, or there is no room for it
                if error.errno in _SHORTAGES:
                    self._pause(listening, error)
                    break
                continue
            self._open(connection)
        self.count()

    def _room(self, listening: socket.socket) -> int:
        """Return how many to accept now. A process with more than the others waits once."""
        self.count()
        room = None if self._seat is None else self._seat.room()
        if room is None or room > ACCEPTED_PER_TURN:
            return ACCEPTED_PER_TURN
        self._passed = not room and not self._passed
        if self._passed:
            self._rest(listening, YIELD_PAUSE_S)
            return 0
        return max(room, 1)

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
        self._rest(listening, SHORTAGE_PAUSE_S)

    def _rest(self, listening: socket.socket, seconds: float) -> None:
        """Stop accepting on this socket for `seconds`."""
        self._unwatch(listening)
        self._loop.call_later(seconds, self._watch, listening)
