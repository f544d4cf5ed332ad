"""Which addresses a process dials that another process has named, and where it binds ipc.

A peer's word for where it can be dialled may be anything. libzmq would look a host name up on its
only thread, and every link of the process would stand still meanwhile; so names are resolved by us
or not at all. An ipc path is dialled only where nobody but this user, or root, can put a socket.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from mesh.errors import StartError
from mesh.protocol.permissions import is_numeric_tcp

SHARED: Final = "other users can put sockets of theirs into {}"


def is_dialable(address: str) -> bool:
    """Whether a peer's address may be given to libzmq.

    Example:
        >>> is_dialable("tcp://10.0.0.7:7000"), is_dialable("tcp://slow.example:7000")
        (True, False)
        >>> is_dialable("ipc://@abstract"), is_dialable("inproc://here")
        (False, False)
    """
    if address.startswith("ipc:///"):
        return is_private(folder_of(address))
    return is_numeric_tcp(address)


def folder_of(address: str) -> str:
    """The folder of an ipc address.

    Example:
        >>> folder_of("ipc:///run/mine/gateway.sock")
        '/run/mine'
    """
    return os.path.dirname(address.removeprefix("ipc://"))


@contextlib.contextmanager
def bindable(address: str) -> Iterator[None]:
    """For the time of a bind: sockets in the file system are for this user alone.

    Raises:
        StartError: others could put a socket of theirs in its place.
    """
    if not address.startswith("ipc://"):
        yield
        return
    folder = folder_of(address)
    if os.path.isdir(folder) and not is_private(folder):
        text = f"cannot listen at {address}: {SHARED.format(folder)}"
        raise StartError(f"{text}; name a path in a folder of this user alone (mode 700)")
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def is_private(folder: str) -> bool:
    """Whether only this user and root can write there."""
    try:
        facts = os.stat(folder)
    except (OSError, ValueError):  # it is gone, or no path at all
        return False
    writable = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return facts.st_uid in (os.getuid(), 0) and not writable
