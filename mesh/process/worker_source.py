"""Where the replicas of a stage find the user's class. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class WorkerSource:
    """Where any process finds a user's class.

    Attributes:
        qualname: the name of the class within its module, ``Embed`` or ``Outer.Embed``.
        module: the full name of the module, ``""`` if only its file is known.
        file: the absolute path of the script, ``""`` if the module is known by its name.
        as_main: whether ``python -m`` ran the module, so that it must be loaded like a script.
        sys_path: the folders to search before those of the replica.
        argv: the arguments of the script, which its top level may read.
    """

    qualname: str
    module: str = ""
    file: str = ""
    as_main: bool = False
    sys_path: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the form that people write: ``module:Class``."""
        return f"{self.module or self.file}:{self.qualname}"

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the values that `asdict` wrote."""
        tuples = {key: tuple(plain[key]) for key in ("sys_path", "argv")}
        return cls(**{**plain, **tuples})
