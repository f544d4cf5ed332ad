"""The address for operators: health, metrics and status, but no inference."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from gateway.admin.pages import View, make_app
from gateway.web.browser_policy import BrowserPolicy
from gateway.web.exchange import AnyExchange
from gateway.web.http_request import Route
from gateway.web.http_server import HttpServer
from gateway.web.limits import Limits
from gateway.web.server_state import LogAccess
from mesh.config.addresses import bracketed
from mesh.config.settings import ADMIN_PAGES, HEALTH_PAGES, GatewaySettings
from mesh.process.admin_door import UNIX, AdminDoor
from mesh.process.listen_socket import inherited

_MOST_CONNECTIONS = 256  # open connections: of a few operators and of metric scrapers
_BODY_BYTES = 64 * 1024  # bytes of a request's body; no page reads one


class NoInference:
    """An `Inference` without any route."""

    routes: Mapping[bytes, Route] = {}

    def admit(self, exchange: AnyExchange, nbytes: int) -> bytes | None:
        """Raise: without a route no exchange is made."""
        raise NotImplementedError

    def submit(self, exchange: AnyExchange) -> None:
        """Do nothing: without a route no exchange is made."""
        raise NotImplementedError

    def gone(self, exchange: AnyExchange) -> None:
        """Do nothing, for the same reason."""


class AdminListener:
    """Serves ``[gateway] admin``.

    Args:
        settings: the address and the browsers that it serves.
        view: the source of the pages' content.
        access: writes the access log, if there is one.
        refused: called with code, message and id of each request that a connection itself refused.

    Example:
        ```python
        admin = AdminListener(settings, gateway)
        where = admin.open(process.admin_doors)
        ...
        await admin.close()
        ```
    """

    def __init__(
        self,
        settings: GatewaySettings,
        view: View,
        access: LogAccess | None = None,
        refused: Callable[[str, str, bytes], None] | None = None,
    ) -> None:
        """Only assigns; `open` acts."""
        self._address = settings.admin
        self._door: AdminDoor | None = None
        self._http = HttpServer(
            NoInference(),
            make_app(view, pages=(*HEALTH_PAGES, *ADMIN_PAGES), for_admin=True),
            Limits(max_body=_BODY_BYTES, page_bytes=_BODY_BYTES, connections=_MOST_CONNECTIONS),
            access=access,
            refused=refused,
            browsers=BrowserPolicy(settings.hosts, settings.cors, by_address=True),
        )

    def open(self, doors: Iterable[int] = ()) -> str:
        """Listen on the supervisor's sockets, or on own ones; return the address.

        Raises:
            StartError: the address cannot be bound.
        """
        sockets: list[socket.socket] = inherited(doors)
        if not sockets:
            self._door = AdminDoor(self._address)
            sockets = self._door.take()
        host, port = self._http.take(sockets)
        return f"{bracketed(host)}:{port}" if port else f"{UNIX}{host}"

    async def close(self) -> None:
        """Close the address after a short drain; calling it twice does no harm."""
        if self._http.is_open:
            await self._http.drain(0.0)
        if self._door is not None:
            with suppress(OSError):
                self._door.close()
