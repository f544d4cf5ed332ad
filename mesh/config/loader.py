"""Reads the settings of a service from mesh.toml and the environment of this process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mesh.config.schema import nearest
from mesh.config.settings import MeshSettings
from mesh.config.sources import Draft
from mesh.errors import SettingsError
from mesh.log import get_logger

DEFAULT_FILE = "mesh.toml"

# A setting from a flag: table, key, text, the flag's name.
Override = tuple[str, str, str, str]


def load_settings(path: str, overrides: Iterable[Override] = (), stage: str = "") -> MeshSettings:
    """Read the settings from a file, overridden by the environment and then by flags.

    Args:
        path: the file, usually ``mesh.toml``.
        overrides: the settings from flags, each as table, key, text and the flag's name.
        stage: a stage that the file must contain, "" for none in particular.

    Raises:
        SettingsError: the file cannot be read, or something in the file, in a variable or in a
            flag is wrong; the text names the place and what to do.
    """
    draft = Draft(file=path)
    draft.add_toml(_read(path))
    if stage and stage not in draft.stages:
        meant = nearest(stage, draft.stages)
        hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(draft.stages)}"
        raise SettingsError(f"{path}: there is no stage {stage!r}; {hint}")
    warn(draft.add_environment(os.environ))
    for table, key, text, flag in overrides:
        draft.add_text(table, key, text, flag)
    settings = draft.build()
    warn(settings.warnings())
    return settings


def warn(warnings: Iterable[str]) -> None:
    """Log warnings about settings, each once."""
    for warning in warnings:
        get_logger().warning(warning)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file; name another with -c FILE") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not a UTF-8 text") from None
