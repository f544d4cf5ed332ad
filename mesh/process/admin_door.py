"""The listening sockets of the operators' address: ``[gateway] admin``, TCP or a Unix socket.

Like the HTTP port, they are bound once, by the supervisor if there is one. So every gateway process
of the host accepts connections from the same queue.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from mesh.config.schema import split_http
from mesh.errors import StartError
from mesh.process.fork import in_child
from mesh.process.listen_socket import bound, look_up

UNIX: Final = "unix:"
_OWNER_ONLY: Final = 0o600


class AdminDoor:
    """Binds the address, and releases it at the end.

    Args:
        address: ``host:port``, or ``unix:`` and the absolute path of a socket, which only this
            user may open.

    Attributes:
        doors: descriptors of the bound sockets, which do not listen yet.

    Raises:
        StartError: the address cannot be bound.

    Example:
        >>> with AdminDoor("127.0.0.1:0") as admin:
        ...     command = Command(argv, environment, settings, admin.doors)
    """

    def __init__(self, address: str) -> None:
        self._path = address.removeprefix(UNIX) if address.startswith(UNIX) else ""
        try:
            own = [_bound_path(self._path)] if self._path else bound(look_up(*split_http(address)))
        except OSError as error:
            raise StartError(
                f"[gateway] admin: cannot listen at {address}: {error.strerror or error}; "
                "choose another address, or end the process that has this one"
            ) from error
        self._sockets = own
        self._pid = os.getpid()
        self.doors = tuple(one.fileno() for one in own)
        self._undo = in_child(self._close)

    def __enter__(self) -> Self:
        """Return this object; the end of the block releases the address."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Release the address."""
        self.close()

    def take(self) -> list[socket.socket]:
        """Hand the sockets over to a process without a supervisor, which must close them."""
        sockets, self._sockets = self._sockets, []
        return sockets

    def close(self) -> None:
        """Close the sockets and remove the path. Repeated calls do nothing."""
        self._undo()
        self._close()
        if self._path and os.getpid() == self._pid:
            with suppress(OSError):
                os.unlink(self._path)
            self._path = ""

    def _close(self) -> None:
        for one in self._sockets:
            one.close()


def _bound_path(path: str) -> socket.socket:
    """Return a socket bound to a path; replace one that a dead process left behind."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        try:
            made.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left(path):
                raise
            os.unlink(path)
            made.bind(path)
        os.chmod(path, _OWNER_ONLY)  # before the socket listens
    except OSError:
        made.close()
        raise
    return made


def _is_left(path: str) -> bool:
    """Return whether a path is a socket at which no process listens."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1.0)
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
