"""Folders that only this user can enter, made and used by descriptor.

What stands in a folder that others may write to can be exchanged between a look and a use of its
path. So each folder is opened once, judged by its descriptor, and from then on used by that. A
folder above, in which private ones are made, must be one where others cannot rename them: root's or
our own, and where others may write to it, sticky, as ``/tmp`` is.
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
    """Another user controls a folder; `strerror` says who, as a part of a sentence."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a folder to make private ones in; gives its descriptor, and closes that in the end.

    Raises:
        Untrusted: others could exchange what we make there.
        OSError: it cannot be opened.
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
        above: descriptor of the folder that it is made in.
        name: without any ``/``.

    Raises:
        OSError: it cannot be made.
    """
    os.mkdir(name, 0o700, dir_fd=above)


def enter(above: int, name: str) -> int:
    """The descriptor of a private folder that is there.

    Raises:
        Untrusted: it is another user's, or others can enter it.
        OSError: it is not there, or no folder.
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
    """Remove a folder with all that is in it, as far as that can be; links are not followed."""
    shutil.rmtree(name, ignore_errors=True, dir_fd=above)


def try_socket(folder: int) -> None:
    """OSError where the file system has no sockets, as some that are shared with a host."""
    name = f"try-{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"/proc/self/fd/{folder}/{name}")
    os.unlink(name, dir_fd=folder)


def take_lock(folder: int) -> int:
    """Lock a folder for as long as the descriptor that is returned is open.

    Raises:
        BlockingIOError: another process has it.
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
    """Whether it was ever locked."""
    return _LOCK in os.listdir(folder)


def is_at(folder: int, path: Path) -> bool:
    """Whether that is still the path of an open folder."""
    try:
        return os.path.samestat(os.fstat(folder), path.lstat())
    except OSError:
        return False
