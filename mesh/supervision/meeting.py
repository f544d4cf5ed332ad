"""The private socket where a user's gateway and stages meet if no address is set.

A port of the loopback address is open to every user of the machine; a socket in a folder that only
one user can enter is not. So both sides use the same folder: the first of `places` where it can be
made. Its name contains the user, the mesh and the HTTP port, which distinguish the services of one
host. Places from environment variables come last: two shells may differ in them, and their
processes would not meet. The gateway locks the folder, because ZeroMQ would silently let a second
gateway take the socket over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, time  # noqa: TID251 - files know no other clock
from typing import Final

from mesh.errors import StartError
from mesh.process import private_folder
from mesh.supervision.runtime_dir import log_distrust, nowhere, too_deep

_SOCKET: Final = "gateway.sock"
_MAX_PATH_BYTES: Final = 104  # bytes; a unix socket's may have 107, and the 64th process adds 3
# How long to wait for a process that found the folder unused and is removing it.
_REMOVAL_S: Final = 0.5
_RETRY_S: Final = 0.01
_TRIES: Final = 20
_UNUSED_S: Final = 60.0  # a younger folder belongs to a service that is starting


def places() -> list[str]:
    """Return where the folder may be, the best place first."""
    return ["/tmp", "/var/tmp", "/run", "/dev/shm", *filter(None, [os.environ.get("TMPDIR")])]


def where(mesh: str, port: int) -> str:
    """Return the address at which processes of this host dial a service's gateway.

    Args:
        mesh: the name of the mesh.
        port: the HTTP port as configured.

    Raises:
        StartError: there is no place for a private folder.

    Example:
        >>> where("doctest", 8000).endswith("-doctest-8000/gateway.sock")
        True
    """
    path, folder = _entered(mesh, port)
    os.close(folder)
    return f"ipc://{path / _SOCKET}"


@contextlib.contextmanager
def held(mesh: str, port: int) -> Iterator[tuple[str, int]]:
    """Reserve the folder of a service's gateway for the ``with`` block.

    Args:
        mesh: the name of the mesh.
        port: the HTTP port as configured.

    Returns:
        The address to listen at, and the descriptor of the lock.

    Raises:
        StartError: another gateway has it, or there is no place for a private folder.
    """
    path, lock = _locked(mesh, port)
    try:
        yield f"ipc://{path / _SOCKET}", lock
    finally:
        with contextlib.suppress(OSError), private_folder.opened(str(path.parent)) as above:
            private_folder.remove(above, path.name)
        os.close(lock)


def _locked(mesh: str, port: int) -> tuple[Path, int]:
    end = monotonic() + _REMOVAL_S
    while True:
        path, folder = _entered(mesh, port)
        try:
            lock = private_folder.take_lock(folder)
            if private_folder.is_at(folder, path):
                return path, lock
            os.close(lock)  # another process has just removed the folder as unused
        except FileNotFoundError:
            pass  # the same happened while we entered it
        except BlockingIOError:
            if monotonic() > end:
                raise _taken(mesh, port) from None
        finally:
            os.close(folder)
        threading.Event().wait(_RETRY_S)


def _taken(mesh: str, port: int) -> StartError:
    return StartError(
        f"a gateway of the mesh {mesh!r} with the HTTP port {port} is running here; stop it, or "
        "give this one another name (`name`), HTTP port, or address (`bind`)"
    )


def _entered(mesh: str, port: int) -> tuple[Path, int]:
    """Make or enter the folder at the first place that allows it; return path and descriptor."""
    name, tried = f"meshline-{os.getuid()}-{mesh}-{port}", []
    for place in places():
        path, shown = Path(place).absolute() / name, place
        try:
            if len(os.fsencode(path / _SOCKET)) > _MAX_PATH_BYTES:
                raise too_deep()
            with private_folder.opened(place) as above:
                shown = str(path)
                _sweep(above, name)
                return path, _made(above, name)
        except OSError as error:
            log_distrust(shown, error)
            tried.append(f"{place} ({error.strerror})")
    raise nowhere(tried)


def _made(above: int, name: str) -> int:
    """Make the folder and enter it. A process that found it unused may remove it at any moment."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            private_folder.make(above, name)
        with contextlib.suppress(FileNotFoundError):
            return _sound(private_folder.enter(above, name))
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _sound(folder: int) -> int:
    """Return the descriptor if the file system of the folder supports sockets."""
    try:
        private_folder.try_socket(folder)
    except OSError:
        os.close(folder)
        raise
    return folder


def _sweep(above: int, name: str) -> None:
    """Remove the unused folders of this user's other services."""
    mine = re.compile(rf"meshline-{os.getuid()}-[A-Za-z][\w-]*-\d+", re.ASCII)
    for other in os.listdir(above):
        if other != name and mine.fullmatch(other):
            with contextlib.suppress(OSError):
                _remove_unused(above, other)


def _remove_unused(above: int, name: str) -> None:
    """Remove the folder if no process has its lock. A process that enters it now tries again."""
    folder = private_folder.enter(above, name)
    try:
        if time() - os.fstat(folder).st_mtime > _UNUSED_S:
            lock = private_folder.take_lock(folder)
            private_folder.remove(above, name)
            os.close(lock)
    finally:
        os.close(folder)
