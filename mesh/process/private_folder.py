"""Folders that only this user can enter, made and used by descriptor.

In a folder that others may write to, an entry can be exchanged between a check of its path and its
use. So each folder is opened once, checked by its descriptor, and then used by its descriptor. In
the parent folder of private folders, others must not be able to rename them: it must belong to root
or to us and, if others may write to it, be sticky, as ``/tmp`` is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOCK: Final = "lock"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = 0o077


class Untrusted(PermissionError):
    """Another user controls a folder; `strerror` says how, as a part of a sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a folder in which to make private ones; yield its descriptor, and close it at the end.

    Raises:
        Untrusted: others could exchange the folders that we make there.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(path, _FOLDER)
    try:
        _trust(os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _trust(facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.getuid()):
        raise Untrusted(_owned_by_another(facts.st_uid))
    if facts.st_mode & _OTHERS_WRITE and not facts.st_mode & stat.S_ISVTX:
        raise Untrusted(f"others may rename what is in it (mode {stat.S_IMODE(facts.st_mode):o})")


def _owned_by_another(uid: int) -> str:
    return f"it belongs to the user {uid}, not to {os.getuid()}"


def make(above: int, name: str) -> None:
    """Make a private folder.

    Args:
        above: the descriptor of the parent folder.
        name: the name of the new folder, without any ``/``.

    Raises:
        OSError: the folder cannot be made.
    """
    os.mkdir(name, 0o700, dir_fd=above)


def enter(above: int, name: str) -> int:
    """Open an existing private folder; return its descriptor.

    Raises:
        Untrusted: it belongs to another user, or others can enter it.
        OSError: there is no folder of that name.
    """
    descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
    facts = os.fstat(descriptor)
    if facts.st_uid == os.getuid() and not facts.st_mode & _OTHERS:
        return descriptor
    os.close(descriptor)
    if facts.st_uid != os.getuid():
        raise Untrusted(_owned_by_another(facts.st_uid))
    raise Untrusted(f"others may enter it (mode {stat.S_IMODE(facts.st_mode):o})")


def remove(above: int, name: str) -> None:
    """Remove a folder and, as far as possible, its contents; links are not followed."""
    shutil.rmtree(name, ignore_errors=True, dir_fd=above)


def try_socket(folder: int) -> None:
    """Raise OSError if the file system does not support sockets, like some shared with a host."""
    name = f"try-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{folder}/{name}")
    os.unlink(name, dir_fd=folder)


def take_lock(folder: int) -> int:
    """Lock a folder for as long as the returned descriptor is open.

    Raises:
        BlockingIOError: another process has locked it.
    """
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(_LOCK, flags, 0o600, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def has_lock(folder: int) -> bool:
    """Return whether a folder was ever locked."""
    return _LOCK in os.listdir(folder)


def is_at(folder: int, path: Path) -> bool:
    """Return whether a path still leads to an open folder."""
    try:
        return os.path.samestat(os.fstat(folder), path.lstat())
    except OSError:
        return False
