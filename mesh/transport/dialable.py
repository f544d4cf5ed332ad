"""Which addresses a process dials that another process has named.

A peer's word for where it can be dialled may be anything. libzmq would look a host name up on its
only thread, and every link of the process would stand still meanwhile; so names are resolved by us
or not at all. An ipc path is dialled only where nobody but this user, or root, can put a socket.
"""

from __future__ import annotations

import os
import stat

from mesh.protocol.permissions import is_numeric_tcp


def is_dialable(address: str) -> bool:
    """Whether a peer's address may be given to libzmq.

    Example:
        >>> is_dialable("tcp://10.0.0.7:7000"), is_dialable("tcp://slow.example:7000")
        (True, False)
        >>> is_dialable("ipc://@abstract"), is_dialable("inproc://here")
        (False, False)
    """
    if address.startswith("ipc:///"):
        return _is_private(os.path.dirname(address.removeprefix("ipc://")))
    return is_numeric_tcp(address)


def _is_private(folder: str) -> bool:
    """Whether only this user and root can write there."""
    try:
        facts = os.stat(folder)
    except (OSError, ValueError):  # it is gone, or no path at all
        return False
    writable = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return facts.st_uid in (os.getuid(), 0) and not writable
