"""Where a user's class is found: what its replicas are told of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class WorkerSource:
    """Where a user's class is found, also by a process that starts from nothing.

    Attributes:
        qualname: the class within its module, ``Embed`` or ``Outer.Embed``.
        module: the module's full name, ``""`` where it is known by its file only.
        file: absolute path of the script, ``""`` where it is known by its module.
        as_main: the module was run by ``python -m`` and must be loaded like a script.
        sys_path: folders to search before a replica's own.
        argv: the script's arguments, which its own top level may read.
    """

    qualname: str
    module: str = ""
    file: str = ""
    as_main: bool = False
    sys_path: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As people write it: ``module:Class``."""
        return f"{self.module or self.file}:{self.qualname}"

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote."""
        tuples = {key: tuple(plain[key]) for key in ("sys_path", "argv")}
        return cls(**{**plain, **tuples})
