"""One HTTP/1.1 connection to a service, kept open between calls."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import threading

from mesh.client.core import ClientRequest, Response, ServiceOrigin, fold_headers, unreachable
from mesh.errors import ClientError

_IN_USE = (
    "another call of this thread is still running; "
    "give a signal handler or a greenlet a client of its own"
)


class Connection:
    """The connection of one thread. The first call opens it; later calls reopen it if the service
    has closed it.

    Any thread may `close` it. It is closed when the last reference goes, and so with its thread.

    Args:
        url: the URL of the service, for error messages.
        origin: where the service listens.

    Attributes:
        pid: the process that made it; a forked child must not write to it.
    """

    def __init__(self, url: str, origin: ServiceOrigin) -> None:
        self.pid = os.getpid()
        self._url, self._origin = url, origin
        self._timeout = 0.0
        self._http: http.client.HTTPConnection | None = None
        self._lock = threading.RLock()  # guards the next two attributes; never held during a call
        self._in_use = False
        self._to_be_closed = False

    def __del__(self) -> None:
        self._drop()

    def close(self) -> None:
        """Close the connection now, or at the end of a running call. The next call reopens it."""
        # In a forked child, the thread that holds the lock may not exist.
        if self.pid != os.getpid():
            self._drop()
            return
        with self._lock:
            self._to_be_closed = self._in_use
            if not self._in_use:
                self._drop()

    def call(self, request: ClientRequest, timeout: float) -> Response:
        """Send a request and return its answer; retry once if the connection was stale.

        A service may close an idle connection at the moment at which we use it. Then the request
        is sent again on a new connection, but only if no byte of an answer has arrived.

        Args:
            request: the request.
            timeout: seconds without a byte after which the call fails; applies to a new connection.
        """
        self._begin()
        self._timeout = timeout
        try:
            return self._tried(request)
        finally:
            self._end()

    def _begin(self) -> None:
        with self._lock:
            if self._in_use:
                raise ClientError(_IN_USE)
            self._in_use = True

    def _end(self) -> None:
        with self._lock:
            self._in_use = False
            if self._to_be_closed:
                self._to_be_closed = False
                self._drop()

    def _tried(self, request: ClientRequest) -> Response:
        try:
            response = self._attempt(request) if self._alive() else None
            return response or self._attempt(request) or self._refuse("it closed the connection")
        except TimeoutError:
            return self._refuse(f"silent for {self._timeout:g} s; is it overloaded?")
        except http.client.HTTPException as error:
            return self._refuse(f"what it sent is not HTTP ({type(error).__name__})")
        except OSError as error:
            return self._refuse(f"{error.strerror or error}; is the service running?")
        except BaseException:
            self._drop()  # the next request must not read an answer that is still on its way
            raise

    def _refuse(self, why: str) -> Response:
        """Give up a call: close the connection, which is in an unknown state, and raise."""
        self._drop()
        raise unreachable(self._url, why) from None

    def _alive(self) -> bool:
        """Return whether the connection is open and no byte, nor its end, has arrived."""
        sock = self._http.sock if self._http else None
        return sock is not None and not _readable(sock)

    def _attempt(self, request: ClientRequest) -> Response | None:
        """Send a request on the open connection, or on a new one; None if it ends unanswered."""
        if not self._alive():
            self._open()
        assert self._http is not None
        # Closed while we were sending: the service may have answered before it read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._http.request(*request[:2], request.body, request.headers)
        if not _answered(self._http.sock):
            self._drop()
            return None
        return self._receive(self._http)

    def _open(self) -> None:
        """Open a new connection."""
        self._drop()
        origin = self._origin
        if origin.socket:
            self._http = _UnixConnection(origin.socket, self._timeout)
        else:
            self._http = http.client.HTTPConnection(origin.host, origin.port, timeout=self._timeout)
        self._http.connect()

    def _receive(self, connection: http.client.HTTPConnection) -> Response:
        """Read a whole answer."""
        answer = connection.getresponse()
        body = answer.read()
        if answer.will_close:
            self._drop()
        return Response(answer.status, fold_headers(answer.getheaders()), body)

    def _drop(self) -> None:
        """Close the descriptor. Nothing is written, so a forked child may do it, too."""
        if self._http is not None:
            self._http.close()
            self._http = None


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _readable(sock: socket.socket) -> bool:
    """Return whether bytes, or the connection's end, have arrived."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _answered(sock: socket.socket) -> bool:
    """Wait for the first byte of an answer and leave it there; False if the connection ends."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except ConnectionResetError:
        return False
