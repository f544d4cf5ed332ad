"""The private folder of one run, with the sockets and settings of its processes.

The run removes it when it ends. Its name contains the user and the process. A lock, which the
kernel releases when the process dies, shows whether the folder is in use; so the next start finds
and removes the folder of a run that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.errors import StartError
from mesh.log import get_logger
from mesh.process import private_folder
from mesh.process.fork import in_child

# A unix socket's path ends at 107 bytes; libzmq needs some of them, and names in here have 20.
MAX_PATH_BYTES = 75
_VARIABLES = ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP")


class RuntimeDir:
    """A private 0700 folder, removed on leaving the ``with`` block.

    Example:
        >>> with RuntimeDir() as folder:
        ...     settings = folder.path / "gateway.json"
    """

    def __init__(self, base: str = "") -> None:
        """Make the folder inside `base` or, if that is empty, at the first of `candidates`.

        Raises:
            StartError: the folder cannot be made.
        """
        made = _made_at(base) if base else _made_somewhere(candidates())
        self.path, self._folder, self._lock = made
        self._undo = in_child(self._abandon)

    def __enter__(self) -> Self:
        """Return the folder; the end of the block removes it."""
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
        """Remove the folder and its contents. Repeated calls do nothing."""
        if self._lock < 0:
            return
        self._undo()
        with contextlib.suppress(OSError), private_folder.opened(str(self.path.parent)) as above:
            private_folder.remove(above, self.path.name)
        self._abandon()

    def _abandon(self) -> None:
        """Release the lock in a forked child: the folder belongs to the parent."""
        os.close(self._lock)
        os.close(self._folder)
        self._lock = self._folder = -1

    def write(self, name: str, text: str) -> Path:
        """Write a file that only this user can read; return its path."""
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self._folder)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return self.path / name


def _made_at(base: str) -> tuple[Path, int, int]:
    """Make the folder, and `base` if it is missing; return path, descriptor and lock."""
    try:
        path = _name(Path(base))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path, *_make_locked(path)
    except OSError as error:
        text = f"cannot make the folder for sockets in {base}: {error.strerror}"
        raise StartError(f"{text}; name another with --path") from None


def _made_somewhere(bases: list[str]) -> tuple[Path, int, int]:
    """Make the folder at the first place that allows it; return path, descriptor and lock."""
    tried = []
    for base in bases:
        try:
            path = _name(Path(base))
            return path, *_make_locked(path)
        except OSError as error:
            log_distrust(base, error)
            tried.append(f"{base} ({error.strerror})")
    raise nowhere(tried)


def log_distrust(base: str, error: OSError) -> None:
    """Log that a folder is not used because another user controls it."""
    if isinstance(error, private_folder.Untrusted):
        named = [name for name in _VARIABLES if os.environ.get(name) == base]
        shown = f"{named[0]}={base}" if named else base
        get_logger().warning("%s is not used for sockets: %s", shown, error.strerror)


def nowhere(tried: list[str]) -> StartError:
    """Make the error for the case that no place allows a folder; `tried` lists places and
    reasons."""
    return StartError(
        f"nowhere can a folder for sockets be made: tried {', '.join(tried)}; "
        "mount a tmpfs at /tmp, or name a writable folder in TMPDIR"
    )


def too_deep() -> OSError:
    """Make the error for a path that is too long for a socket."""
    return OSError(errno.ENAMETOOLONG, "it is too deep for sockets")


def _name(parent: Path) -> Path:
    """Return the path of a new folder; OSError if it would be too long for sockets."""
    name = f"meshline-{os.getuid()}-{os.getpid()}-{secrets.token_hex(2)}"
    path = parent.absolute() / name
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise too_deep()
    return path


def _make_locked(path: Path) -> tuple[int, int]:
    """Make a folder that is locked before it gets its final name; return descriptor and lock.

    Otherwise a service that starts at the same moment could find it unlocked and remove it.
    """
    new = f".{path.name}"
    with private_folder.opened(str(path.parent)) as above, contextlib.ExitStack() as undoing:
        _remove_stale(above, path.parent)
        private_folder.make(above, new)
        undoing.callback(private_folder.remove, above, new)
        folder = private_folder.enter(above, new)
        undoing.callback(os.close, folder)
        lock = private_folder.take_lock(folder)
        undoing.callback(os.close, lock)
        private_folder.try_socket(folder)
        os.rename(new, path.name, src_dir_fd=above, dst_dir_fd=above)
        undoing.pop_all()
    return folder, lock


def candidates() -> list[str]:
    """Return where run folders may be, the best place first.

    The last ones are often the only writable places in a container.
    """
    named = [os.environ.get(name, "") for name in _VARIABLES]
    usual = ["/tmp", "/var/tmp", f"/run/user/{os.getuid()}", "/run", "/dev/shm", os.curdir]
    return list(dict.fromkeys([one for one in named if one] + usual))


def remove_stale(parent: Path) -> list[Path]:
    """Remove this user's unused run folders in `parent`; return the removed ones."""
    try:
        with private_folder.opened(str(parent)) as above:
            return _remove_stale(above, parent)
    except OSError:
        return []


def _remove_stale(above: int, parent: Path) -> list[Path]:
    mine = re.compile(rf"\.?meshline-{os.getuid()}-(\d+)-[0-9a-f]+")
    removed = []
    for name in os.listdir(above):
        found = mine.fullmatch(name)
        if found and _is_left(above, name, int(found[1])):
            private_folder.remove(above, name)
            removed.append(parent / name)
    return removed


def _is_left(above: int, name: str, pid: int) -> bool:
    """Return whether a folder is ours and unused: its lock is free or, if it is incomplete, the
    process that was making it is gone."""
    try:
        folder = private_folder.enter(above, name)
    except OSError:
        return False
    try:
        if name.startswith(".") or not private_folder.has_lock(folder):
            return not Path(f"/proc/{pid}").exists()
        os.close(private_folder.take_lock(folder))
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(folder)
