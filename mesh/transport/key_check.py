"""Which parts of a service find their keys in a folder: for `mesh check`, before anything runs.

A host has the keys of what runs there and no others. So a part that lacks its keys is said, as it
may run elsewhere; a folder that has the keys of no part is refused, and so is a file that is there
but is none that this process may use.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mesh.config.settings import MeshSettings
from mesh.errors import SettingsError
from mesh.transport.curve import MAKE_KEYS, Keys


class _Part(NamedTuple):
    """A part of a service and the names of its keys: of each group one is needed."""

    name: str
    groups: list[list[str]]


def keys_told(settings: MeshSettings) -> list[str]:
    """What the folder of keys has, a line for the parts that find theirs and one for each other.

    Args:
        settings: of the whole service, with a folder of keys.

    Raises:
        SettingsError: the list is missing or wrong, as is a key that is there; or no part has its
            keys. It names the file and what to do.
    """
    folder = settings.gateway.keys
    Keys(folder, ())
    there, lacking = [], []
    for part in _parts(settings):
        missing = _missing(Path(folder), part)
        if missing:
            lacking.append(f"{part.name}: {missing} is missing; {MAKE_KEYS}")
            continue
        for names in part.groups:
            Keys(folder, names)
        there.append(part.name)
    if not there:
        raise SettingsError(f"keys = {folder!r} has no keys. {lacking[0]}")
    return [
        f"{folder} has the keys of {', '.join(there)}",
        *(f"{folder} has not those of {line}" for line in lacking),
    ]


def _parts(settings: MeshSettings) -> Iterator[_Part]:
    yield _Part("the gateway", [["gateway"]])
    for name in settings.stages:
        feed = [["feed"]] if settings.feeds(name) else []
        yield _Part(name, [["supervisor"], [f"stage-{name}", "stage"], *feed])


def _missing(folder: Path, part: _Part) -> str:
    """The first file that a part lacks; "" if it has all."""
    for names in part.groups:
        files = [folder / f"{name}.key" for name in names]
        if not any(file.exists() for file in files):
            return " or ".join(map(str, files))
    return ""
