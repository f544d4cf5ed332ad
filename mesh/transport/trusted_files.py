"""Files that decide who may take part: read only where no other user could have written them.

The owner must be this user or root, and no other user may write to the file or its folder; a
secret no other user may read either. A folder may be sticky, as those that Kubernetes mounts are:
others can add files there, which are theirs and refused, and exchange none.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from mesh.errors import SettingsError

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read(path: Path, secret: bool = False) -> tuple[str, os.stat_result]:
    """The text of a file, and what the file was when it was read.

    Args:
        path: links are followed.
        secret: no other user may even read it.

    Raises:
        SettingsError: others can change it, or read it though it is a secret; with the command that
            mends it.
        OSError: it cannot be read.
    """
    with path.open(encoding="utf-8") as file:
        facts = os.fstat(file.fileno())
        _check_owner(path, facts)
        if secret and facts.st_mode & _OTHERS:
            raise SettingsError(f"others can read {path} {_mode(facts)}: run `chmod 600 {path}`")
        _check_writers(path, facts)
        return file.read(), facts


def check_folder(path: Path) -> None:
    """Check that no other user can exchange what is in a folder.

    Raises:
        SettingsError: one can; with the command that mends it.
        OSError: it cannot be looked at.
    """
    facts = path.stat()
    _check_owner(path, facts)
    if not facts.st_mode & stat.S_ISVTX:
        _check_writers(path, facts)


def _check_owner(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.getuid()):
        text = f"{path} belongs to the user {facts.st_uid}, who can change it"
        raise SettingsError(f"{text}: run `chown {os.getuid()} {path}`")


def _check_writers(path: Path, facts: os.stat_result) -> None:
    if facts.st_mode & _OTHERS_WRITE:
        raise SettingsError(f"others can change {path} {_mode(facts)}: run `chmod go-w {path}`")


def _mode(facts: os.stat_result) -> str:
    return f"(mode {stat.S_IMODE(facts.st_mode):o})"
