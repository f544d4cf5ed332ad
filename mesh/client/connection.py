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
    """A connection that one thread calls over. It is opened by the first call, and again whenever
    the service has closed it meanwhile.

    Any thread may `close` it. It closes itself when it is no longer referred to, so that it goes
    with the thread that it belongs to.

    Args:
        url: of the service, for error messages.
        origin: where that is.

    Attributes:
        pid: the process that made it; a forked child must not write on it.
    """

    def __init__(self, url: str, origin: ServiceOrigin) -> None:
        self.pid = os.getpid()
        self._url, self._origin = url, origin
        self._timeout = 0.0
        self._http: http.client.HTTPConnection | None = None
        self._lock = threading.RLock()  # of the two below; never held during a call
        self._in_use = False
        self._to_be_closed = False

    def __del__(self) -> None:
        """Close it."""
        self._drop()

    def close(self) -> None:
        """Close it now, or at the end of the call that is running; the next call opens another."""
        if self.pid != os.getpid():  # the lock may be held by a thread that is not here
            self._drop()
            return
        with self._lock:
            self._to_be_closed = self._in_use
            if not self._in_use:
                self._drop()

    def call(self, request: ClientRequest, timeout: float) -> Response:
        """Send a request and return its answer, with one more try on a stale connection.

        A service may close an idle connection at the very moment at which we use it. Then, and
        only if not one byte of an answer has come, the request is retransmitted on a new
        connection.

        Args:
            request: what to ask.
            timeout: seconds of silence after which a connection that is opened now is given up.
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
            self._drop()  # an answer that is still on its way must not meet the next request
            raise

    def _refuse(self, why: str) -> Response:
        """Give up a call: close the connection, which is in an unknown state, and raise."""
        self._drop()
        raise unreachable(self._url, why) from None

    def _alive(self) -> bool:
        """Tell whether a connection is open and nothing, such as its end, has arrived on it."""
        sock = self._http.sock if self._http else None
        return sock is not None and not _readable(sock)

    def _attempt(self, request: ClientRequest) -> Response | None:
        """Send a request on the open connection, or on a new one; None if it ends unanswered."""
        if not self._alive():
            self._open()
        assert self._http is not None
        # Closed while we were sending: it may have answered before it had read everything.
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
        """Close the descriptor; nothing is written, so a forked child may do it, too."""
        if self._http is not None:
            self._http.close()
            self._http = None


class _UnixConnection(http.client.HTTPConnection):
    """The same over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


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
