"""The options of the ``mesh`` commands. The schema yields one for each setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from mesh.config.loader import DEFAULT_FILE, Override
from mesh.config.schema import SettingDeclaration, Switch, entries
from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.config.units import show_duration, show_size

Command = TypeVar("Command", bound=Callable[..., Any])

_SHOWN = {"duration": show_duration, "size": show_size}
_OVERLAID = {
    "": {key: entries(MeshSettings)[key] for key in ("version", "log_level", "log_format")},
    "gateway": entries(GatewaySettings),
    "exposed": {
        key: entries(GatewaySettings)[key] for key in ("http", "insecure", "keys", "debug")
    },
    "stage": {key: one for key, one in entries(StageSettings).items() if key != "env"},
}

config = click.option(
    "-c", "--config", default=DEFAULT_FILE, show_default=True, metavar="FILE", help="the service"
)


def overlaid(*tables: str) -> Callable[[Command], Command]:
    """Add an option for every setting of these tables; the command gets them as keywords."""

    def decorate(command: Command) -> Command:
        for table in reversed(tables):
            for one in reversed(_OVERLAID[table].values()):
                command = _option(one)(command)
        return command

    return decorate


def overrides(given: Mapping[str, str | None], tables: Mapping[str, str]) -> list[Override]:
    """Return the settings among the keywords of a command.

    Args:
        given: the keywords; None for an option that was not used.
        tables: by table passed to `overlaid`, the table of the settings that it stands for.
    """
    found = [
        (target, key, text, _flag(key))
        for table, target in tables.items()
        for key in _OVERLAID[table]
        if (text := given.get(key)) is not None
    ]
    if given.get("debug") == "true":  # like the flag of scripts of that name
        found.append(("", "log_level", "debug", "--debug"))
    return found


def _option(one: SettingDeclaration) -> Callable[[Command], Command]:
    if isinstance(one.kind, Switch):
        either = f"{_flag(one.name)}/--no-{_flag(one.name)[2:]}"
        return click.option(either, one.name, default=None, callback=_as_text, help=one.doc)
    default = _SHOWN.get(one.kind.noun, str)(one.default) if one.default else ""
    shown = f"{one.doc} [{default}]" if default else one.doc
    return click.option(_flag(one.name), one.name, metavar=one.kind.noun.upper(), help=shown)


def _as_text(command: click.Context, option: click.Parameter, given: bool | None) -> str | None:
    """Convert a switch to its text in the environment; None if it was not used."""
    return None if given is None else str(given).lower()


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")
