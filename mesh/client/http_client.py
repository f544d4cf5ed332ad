"""`Client`: calls a service over HTTP/1.1, on one persistent connection per thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from mesh.client.connection import Connection
from mesh.client.core import ClientRequest, Response, build, error_of, parse_url
from mesh.errors import MeshError

READY_POLL_S = 0.05  # seconds between two requests of `wait_ready`


class Client:
    """Calls a Meshline service over HTTP.

    Any number of threads may share a client. Each thread has its own connection, which stays open
    between calls and is closed when the thread ends. A forked process opens new connections.

    Args:
        url: the URL of the service, such as ``http://127.0.0.1:8000``.
        timeout: seconds without a byte from the service after which a call fails.

    Raises:
        SettingsError: the URL is not one of a service.

    Example:
        >>> with Client("http://127.0.0.1:8000") as client:
        ...     client.infer(["what", "is", "this"])
        ['WHAT', 'IS', 'THIS']
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", timeout: float = 60.0) -> None:
        self.url = url
        self.timeout = timeout
        self._origin = parse_url(url)
        self._threads = threading.local()
        self._connections: WeakValueDictionary[int, Connection] = WeakValueDictionary()

    def infer(
        self,
        value: object,
        route: str = "/inference",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a value as JSON and return the result of the service.

        Raises:
            ClientError: the request was at fault (`DecodingError` and `ValidationError` are
            subclasses).
            ServerError: the service was at fault, overloaded, or could not be reached.
                Each error has `code`, `status`, `stage`, `request_id`, `retryable` and
                `retry_after`.
        """
        response = self.post(route, value, headers=headers)
        response.raise_for_status()
        return response.json()

    def post(
        self,
        path: str,
        body: object,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send bytes as they are, or any other value as JSON, and return the answer.

        An answer that reports an error is returned too; `Response.raise_for_status` raises it.

        Raises:
            ClientError: the body cannot be written as JSON.
            ServerError: the service could not be reached or fell silent.
        """
        return self._call(build(self._origin, path, body, content_type, headers))

    def get(self, path: str) -> Response:
        """Fetch a page of the service, such as ``/metrics``."""
        return self._call(ClientRequest("GET", self._origin.prefix + path, None, {}))

    def health(self) -> bool:
        """Return whether the service answers that it is alive."""
        try:
            return self.get("/health").ok
        except MeshError:
            return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once every stage of every route has a replica.

        Raises:
            ServerError: this took longer than `timeout` seconds; the text says what is missing.
        """
        until = time.monotonic() + timeout
        while (missing := self._not_ready()) is not None:
            if time.monotonic() >= until:
                raise missing
            threading.Event().wait(READY_POLL_S)

    def close(self) -> None:
        """Close the connections of all threads, each at the end of a running call.

        The next call opens a new connection.
        """
        for reference in self._connections.valuerefs():  # a copy: other threads may add some
            connection = reference()
            if connection is not None:
                connection.close()

    def __enter__(self) -> Self:
        """Return the client; the end of the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections; exceptions of the block propagate."""
        self.close()

    def _not_ready(self) -> MeshError | None:
        """Check once whether the service is ready; return the reason if it is not."""
        try:
            response = self.get("/readyz")
        except MeshError as error:
            return error
        return None if response.ok else error_of(response)

    def _call(self, request: ClientRequest) -> Response:
        return self._own().call(request, self.timeout)

    def _own(self) -> Connection:
        """Return this thread's connection. A forked child drops the inherited connections."""
        own: Connection | None = getattr(self._threads, "connection", None)
        if own is None or own.pid != os.getpid():
            own = self._threads.connection = Connection(self.url, self._origin)
            self._connections[id(own)] = own
        return own
