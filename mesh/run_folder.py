"""The private folder of one run: sockets and settings of its processes, gone when it ends.

Its name tells whose it is; a lock that only the living hold tells whether it is still in use. So a
folder left behind by a run that was killed is found and removed at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.errors import StartError
from mesh.process.fork import in_child

# A unix socket's path ends at 107 bytes; libzmq needs some of them, and names in here have 20.
LONGEST_PATH = 75
_LOCK = "lock"


class RunFolder:
    """A private 0700 folder, removed on leaving the ``with`` block.

    Example:
        >>> with RunFolder() as folder:
        ...     settings = folder.path / "gateway.json"
    """

    def __init__(self, base: str = "") -> None:
        """Make the folder inside `base`, or where such things belong; StartError if impossible."""
        self.path, self._lock = _made_at(base) if base else _made_somewhere(candidates())
        self._undo = in_child(self._abandon)

    def __enter__(self) -> Self:
        """The folder, to be used inside the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove it."""
        self.close()

    def close(self) -> None:
        """Remove the folder with everything in it; more than once does no harm."""
        if self._lock < 0:
            return
        self._undo()
        shutil.rmtree(self.path, ignore_errors=True)
        self._abandon()

    def _abandon(self) -> None:
        """Let go of the lock; in a forked child the folder stays its parent's."""
        os.close(self._lock)
        self._lock = -1

    def write(self, name: str, text: str) -> Path:
        """Write a file that only this user can read; returns where it is."""
        path = self.path / name
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def _made_at(base: str) -> tuple[Path, int]:
    """Make the folder, and this one above it; returns it, and its lock."""
    try:
        path = _name(Path(base))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path, _make_locked(path)
    except OSError as error:
        text = f"cannot make the folder for sockets in {base}: {error.strerror}"
        raise StartError(f"{text}; name another with --path") from None


def _made_somewhere(bases: list[str]) -> tuple[Path, int]:
    """Make the folder where it can be made first; returns it, and its lock."""
    tried = []
    for base in bases:
        try:
            path = _name(Path(base))
            return path, _make_locked(path)
        except OSError as error:
            tried.append(f"{base} ({error.strerror})")
    raise StartError(
        f"nowhere can a folder for sockets be made: tried {', '.join(tried)}; "
        "mount a tmpfs at /tmp, or name a writable folder in TMPDIR"
    )


def _name(parent: Path) -> Path:
    """A new folder's path; OSError where it would be too long for sockets."""
    name = f"meshline-{os.getuid()}-{os.getpid()}-{secrets.token_hex(2)}"
    path = parent.absolute() / name
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, "it is too deep for sockets")
    return path


def _make_locked(path: Path) -> int:
    """Make a folder that is locked as soon as it bears its name; returns the lock.

    Somebody who starts at the same moment must not find it without, and take it for a dead one's.
    """
    remove_stale(path.parent)
    new = path.with_name(f".{path.name}")
    new.mkdir(mode=0o700)
    with contextlib.ExitStack() as undoing:
        undoing.callback(shutil.rmtree, new, ignore_errors=True)
        lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        undoing.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        _try_socket(new / "try")
        new.rename(path)
        undoing.pop_all()
    return lock


def _try_socket(path: Path) -> None:
    """OSError where the file system has no sockets, as some that are shared with a host."""
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.fsencode(path))
    path.unlink()


def candidates() -> list[str]:
    """Where run folders belong, the best place first: what is named, what is temporary, the rest.

    A container that may write to nothing else often has one of the last.
    """
    named = [os.environ.get(name, "") for name in ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP")]
    usual = ["/tmp", "/var/tmp", f"/run/user/{os.getuid()}", "/run", "/dev/shm", os.curdir]
    return list(dict.fromkeys([one for one in named if one] + usual))


def remove_stale(parent: Path) -> list[Path]:
    """Remove this user's run folders in `parent` that nobody lives in; returns those it removed."""
    mine = re.compile(rf"\.?meshline-{os.getuid()}-(\d+)-[0-9a-f]+")
    removed = []
    for path in parent.glob("*meshline-*") if parent.is_dir() else ():
        found = mine.fullmatch(path.name)
        if found and _is_own_folder(path) and not _is_alive(path, int(found[1])):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _is_own_folder(path: Path) -> bool:
    try:
        facts = path.lstat()
    except OSError:
        return False
    return path.is_dir() and not path.is_symlink() and facts.st_uid == os.getuid()


def _is_alive(path: Path, pid: int) -> bool:
    """Whether somebody holds the lock; while it is being made, whether its maker runs."""
    try:
        if path.name.startswith("."):
            return Path(f"/proc/{pid}").exists()
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return Path(f"/proc/{pid}").exists()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(lock)
