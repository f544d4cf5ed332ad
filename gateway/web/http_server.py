"""The HTTP server: listens, sweeps over its connections, and ends in order."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace

from tornado.httputil import HTTPServerConnectionDelegate

from gateway.web.acceptor import Acceptor
from gateway.web.browser_policy import ANYBODY, BrowserPolicy, Reach
from gateway.web.exchange import AnyInference
from gateway.web.limits import Limits
from gateway.web.protocol_detection import ProtocolDetection
from gateway.web.server_state import LogAccess, ServerState
from mesh.log import get_logger
from mesh.process.accept_balance import AcceptShare
from mesh.process.limits import raise_descriptor_limit
from mesh.protocol.request_names import namer

_log = get_logger()
NOTICE_S = 0.1  # seconds for which a server that has nothing left to do can still be asked
_LOOK_PAUSE_S = 0.02  # seconds between looks whether those that were here are gone
# Descriptors that are not for clients, at least and at most.
_LEAST_SPARE_DESCRIPTORS = 64
_MOST_SPARE_DESCRIPTORS = 1024
_FEW_CONNECTIONS = 4096  # connections, of which the log tells that they are no more


class HttpServer:
    """Serves one HTTP port until told to drain.

    Args:
        inference: answers the requests to its routes.
        application: answers all others, in tornado's terms.
        limits: what clients may do.
        coded: whether clients may compress, which `inference` must then be able to undo.
        access: writes the access log, if there is one.
        refused: called with code, message and id of each request that the wire itself refused.
        dropped: called with the cause for each connection that is closed because it costs too much.
        browsers: which of their requests are served; it is told where the server listens.

    Example:
        ```python
        server = HttpServer(inference, make_app(view), Limits(max_body=1 << 20))
        host, port = await server.start("127.0.0.1", 0)
        ...
        server.stop_accepting()
        await server.drain(grace=5.0)
        ```
    """

    def __init__(  # noqa: PLR0913 - all that clients are met with
        self,
        inference: AnyInference,
        application: HTTPServerConnectionDelegate,
        limits: Limits | None = None,
        *,
        coded: bool = False,
        access: LogAccess | None = None,
        refused: Callable[[str, str, bytes], None] | None = None,
        dropped: Callable[[str], None] | None = None,
        browsers: BrowserPolicy = ANYBODY,
    ) -> None:
        """Only assigns; `start` acts."""
        self._server = ServerState(
            inference=inference,
            application=application,
            limits=limits or Limits(),
            names=namer(secrets.randbits(64)),
            coded=coded,
            access=access,
            refused=refused,
            dropped=dropped,
            parted=self._parted,
            browsers=browsers,
        )
        self._closed: Callable[[], None] = lambda: None
        self._acceptor = Acceptor(lambda: ProtocolDetection(self._server), lambda: self.connections)
        self._sweep: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None

    @property
    def connections(self) -> int:
        """How many client connections are open."""
        return len(self._server.connections)

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that clients have not taken."""
        return self._server.unread.nbytes

    @property
    def is_near(self) -> bool:
        """Whether only this machine reaches it."""
        return self._server.browsers.reach is not Reach.NETWORK

    @property
    def is_open(self) -> bool:
        """Whether it takes connections."""
        return self._acceptor.is_open

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the address that it became (`port` 0 takes a free one).

        Raises:
            OSError: the address is in use or not ours.
        """
        self._fit()
        address = await self._acceptor.listen(host, port)
        self._begin()
        return address

    def take(
        self,
        sockets: Iterable[socket.socket],
        seat: AcceptShare | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> tuple[str, int]:
        """The same on sockets that are bound already, and perhaps shared with other processes.

        Args:
            sockets: of this process, or inherited with others.
            seat: among those others.
            closed: called when no more connections are taken here.

        Raises:
            OSError: another process listens there.
        """
        self._fit()
        self._closed = closed
        address = self._acceptor.take(sockets, seat)
        self._begin()
        return address

    def _begin(self) -> None:
        """Nobody has been read yet, so that all meet the policy of these addresses."""
        self._server.browsers = self._server.browsers.listening_at(self._acceptor.addresses)
        self._schedule(asyncio.get_running_loop())

    def _fit(self) -> None:
        self._server.limits = fitted(self._server.limits, raise_descriptor_limit())

    def stop_accepting(self) -> None:
        """Close the listening socket; open connections go on."""
        if self._acceptor.is_open:
            self._acceptor.close()
            self._closed()

    async def drain(self, grace: float) -> None:
        """Answer what has begun, close each connection after it, and be done within `grace` s.

        Meanwhile, and for `NOTICE_S` at least, others may still connect, each for one request: that
        is how a load balancer learns that this server is not ready any more. Where other processes
        share the port, these take whoever connects.

        Returns when every connection is closed; those that are not by then are aborted.
        """
        connections, loop = self._server.connections, asyncio.get_running_loop()
        end = loop.time() + grace
        self._server.leaving = True
        old = set(connections)
        for connection in old:
            connection.retire()
        notice = min(loop.time() + NOTICE_S, end) if self._acceptor.is_open else 0.0
        while loop.time() < (end if old & connections else notice):
            self._acceptor.give_way()
            await asyncio.sleep(_LOOK_PAUSE_S)
        self.stop_accepting()
        for connection in list(connections):
            connection.retire()
        await self._until_empty(max(0.0, end - loop.time()))
        for connection in list(connections):
            connection.abort()
        await self._until_empty(1.0)
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    async def _until_empty(self, seconds: float) -> None:
        if self._server.connections:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=seconds)
            self._empty = None

    def _parted(self) -> None:
        """A connection has gone."""
        self._acceptor.count()
        if self._empty is not None and not self._server.connections and not self._empty.done():
            self._empty.set_result(None)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the sweep come soon enough for the shortest of the limits."""
        limits = self._server.limits
        times = (limits.idle_timeout, limits.header_timeout, limits.body_timeout)
        step = min(0.5, min(*times, limits.write_timeout, limits.linger) / 4)
        self._sweep = loop.call_later(step, self._tick, loop, step)

    def _tick(self, loop: asyncio.AbstractEventLoop, step: float) -> None:
        for connection in list(self._server.connections):
            connection.tick(step)
        self._schedule(loop)


def fitted(limits: Limits, descriptors: int) -> Limits:
    """The limits, with no more connections than a process with so many descriptors can hold.

    Some are left for everything else: the mesh, files, and connections that are told that they are
    too many. Without any left, no client could be told.
    """
    room = max(
        1,
        descriptors - min(max(_LEAST_SPARE_DESCRIPTORS, descriptors // 8), _MOST_SPARE_DESCRIPTORS),
    )
    if room >= limits.connections:
        return limits
    if room < _FEW_CONNECTIONS:
        why = "a process may have %d open files (ulimit -n)"
        _log.warning("only %d client connections are taken: " + why, room, descriptors)
    return replace(limits, connections=room)
