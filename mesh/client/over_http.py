"""`Client`: calls a service over HTTP/1.1 on one connection that is kept open."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mesh.client.core import (
    Request,
    Response,
    build,
    error_of,
    fold_headers,
    parse_url,
    unreachable,
)
from mesh.errors import MeshError

READY_POLL = 0.05  # seconds between two questions of `wait_ready`


class Client:
    """Calls a Meshline service over HTTP.

    One connection, kept open between calls; so one thread at a time may use a client. It is opened
    by the first call, and again whenever the service has closed it meanwhile.

    Args:
        url: where the service listens, such as ``http://127.0.0.1:8000``.
        timeout: seconds that the service may be silent before a call fails.

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
        self._connection: http.client.HTTPConnection | None = None

    def infer(
        self,
        value: object,
        route: str = "/inference",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a value as JSON and return what the service made of it.

        Raises:
            ClientError: the request was at fault (`DecodingError`, `ValidationError` say more).
            ServerError: the service was at fault, too busy, or could not be reached.
                Each error bears `code`, `status`, `stage`, `request_id`, `retryable` and
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
        return self._call(Request("GET", self._origin.prefix + path, None, {}))

    def health(self) -> bool:
        """Tell whether the service answers and says that it is alive."""
        try:
            return self.get("/health").ok
        except MeshError:
            return False

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once every stage of every route has a replica.

        Raises:
            ServerError: that took longer than `timeout` seconds; the text says what is missing.
        """
        until = time.monotonic() + timeout
        while (missing := self._not_ready()) is not None:
            if time.monotonic() >= until:
                raise missing
            threading.Event().wait(READY_POLL)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        """Itself: ``with Client(url) as client`` closes it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection; what was raised goes on."""
        self.close()

    def _not_ready(self) -> MeshError | None:
        """Ask once whether the service is ready; if not, the error says why."""
        try:
            response = self.get("/readyz")
        except MeshError as error:
            return error
        return None if response.ok else error_of(response)

    def _call(self, request: Request) -> Response:
        """Send a request and return its answer, with one more try on a stale connection.

        A service may close an idle connection at the very moment at which we use it. Then, and
        only if not one byte of an answer has come, the request is sent again on a new connection.
        """
        try:
            response = self._attempt(request) if self._alive() else None
            return response or self._attempt(request) or self._refuse("it closed the connection")
        except TimeoutError:
            return self._refuse(f"silent for {self.timeout:g} s; is it overloaded?")
        except http.client.HTTPException as error:
            return self._refuse(f"what it sent is not HTTP ({type(error).__name__})")
        except OSError as error:
            return self._refuse(f"{error.strerror or error}; is the service running?")
        except BaseException:
            self.close()  # an answer that is still on its way must not meet the next request
            raise

    def _refuse(self, why: str) -> Response:
        """Give up a call: close the connection, which is in an unknown state, and raise."""
        self.close()
        raise unreachable(self.url, why) from None

    def _alive(self) -> bool:
        """Tell whether a connection is open and nothing, such as its end, has arrived on it."""
        sock = self._connection.sock if self._connection else None
        return sock is not None and not _readable(sock)

    def _attempt(self, request: Request) -> Response | None:
        """Send a request on the open connection, or on a new one; None if it ends unanswered."""
        if not self._alive():
            self._open()
        assert self._connection is not None
        # Closed while we were sending: it may have answered before it had read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(*request[:2], request.body, request.headers)
        if not _answered(self._connection.sock):
            self.close()
            return None
        return self._receive(self._connection)

    def _open(self) -> None:
        """Open a new connection."""
        self.close()
        self._connection = http.client.HTTPConnection(
            self._origin.host, self._origin.port, timeout=self.timeout
        )
        self._connection.connect()

    def _receive(self, connection: http.client.HTTPConnection) -> Response:
        """Read a whole answer."""
        answer = connection.getresponse()
        body = answer.read()
        if answer.will_close:
            self.close()
        return Response(answer.status, fold_headers(answer.getheaders()), body)


def _readable(sock: socket.socket) -> bool:
    """Tell whether bytes, or the connection's end, have arrived."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _answered(sock: socket.socket) -> bool:
    """Wait for the first byte of an answer and leave it there; False if the connection ends."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except ConnectionResetError:
        return False
