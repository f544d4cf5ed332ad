"""Which addresses a process dials that another process has named, and where it binds ipc.

A peer's word for where it can be dialled may be anything. libzmq would look a host name up on its
only thread, and every link of the process would stand still meanwhile; so names are resolved by us
or not at all. An ipc path is dialled only where only this user, or root, can put a socket;
one that a peer names, only where feeds are: this user has other private sockets (of agents, of a
message bus) that nobody may have us connect to.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator
from typing import Final

from mesh.errors import StartError
from mesh.protocol.permissions import is_numeric_tcp

SHARED: Final = "other users can put sockets of theirs into {}"
# As `mesh/supervision/` names run folders, and the feeds in them.
_RUN_FOLDER: Final = r"meshline-{}-[0-9]+-[0-9a-f]+"
_FEED: Final = re.compile(r"feed-[0-9]+\.sock")
_NUMBER: Final = re.compile(r"-[0-9]+")


def is_dialable(address: str, feeds: Collection[str] = ()) -> bool:
    """Whether a connection may be made to an address that a peer names.

    Args:
        address: its word.
        feeds: ipc addresses that our settings give to stages; a replica adds ``-`` and its number.

    Example:
        >>> is_dialable("tcp://10.0.0.7:7000"), is_dialable("tcp://slow.example:7000")
        (True, False)
        >>> is_dialable("ipc://@abstract"), is_dialable("ipc:///run/docker.sock")
        (False, False)
    """
    if not address.startswith("ipc:///"):
        return is_numeric_tcp(address)
    folder = folder_of(address)
    if any(address.startswith(feed) and _NUMBER.fullmatch(address[len(feed) :]) for feed in feeds):
        return is_private(folder)
    return bool(_FEED.fullmatch(os.path.basename(address))) and _is_run_folder(folder)


def _is_run_folder(folder: str) -> bool:
    """Whether it is the private folder of a run of this very user, and no link to any."""
    if not re.fullmatch(_RUN_FOLDER.format(os.getuid()), os.path.basename(folder)):
        return False
    try:
        facts = os.lstat(folder)
    except (OSError, ValueError):  # it is gone, or no path at all
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not _is_open(facts)


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
    return facts.st_uid in (os.getuid(), 0) and not _is_open(facts)


def _is_open(facts: os.stat_result) -> bool:
    return bool(facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
