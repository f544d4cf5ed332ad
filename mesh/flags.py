"""The command-line flags of a script that calls `Server()`.

They are mosec's, with mosec's units, and derive from the schema wherever they name a setting. Other
arguments are the user's own and are left alone; one that is nearly ours gets a warning.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.schema import Entry, Switch, entries, nearest, split_http
from mesh.settings import GatewaySettings, MeshSettings

# What a bare number in a flag is divided by to reach the unit that we keep it in.
_DIVISORS = {"ms": 1000.0}
DEFAULT_WAIT = 10.0


@dataclass
class Flags:
    """What a script's command line says.

    Attributes:
        values: settings by table and key, with the flag's name: ready for `Draft.add`.
        address: the host where HTTP listens, None for the setting's own.
        port: the port where HTTP listens, None for the setting's own.
        wait: default `max_wait_time` in milliseconds.
        path: where to make the run folder, ``""`` for the usual place.
        warnings: about arguments that look like ours but are not.
    """

    values: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict)
    address: str | None = None
    port: int | None = None
    wait: float = DEFAULT_WAIT
    path: str = ""
    warnings: list[str] = field(default_factory=list)


def parse_flags(argv: Sequence[str]) -> Flags:
    """Read our flags among a script's arguments (without the script's name).

    Wrong values and ``--help`` end the process as argparse does, with exit codes 2 and 0.

    Example:
        >>> parse_flags(["--timeout", "5000", "--mine"]).values
        {('gateway', 'timeout'): (5.0, '--timeout')}
    """
    parser = _parser()
    known, rest = parser.parse_known_args(list(argv))
    flags = Flags(address=known.address, port=known.port, wait=known.wait, path=known.path)
    for table, one in _flagged():
        value = getattr(known, _dest(one))
        if value is not None:
            flags.values[table, one.name] = (value, one.flag)
    if known.debug:
        flags.values["", "log_level"] = ("debug", "--debug")
        flags.values["gateway", "debug"] = (True, "--debug")
    flags.warnings = [warning for one in rest if (warning := _warning(one, parser))]
    return flags


def merge_http(http: str, flags: Flags) -> str:
    """An HTTP address with the host and port that flags name put in.

    Example:
        >>> merge_http("127.0.0.1:8000", parse_flags(["--port", "9000"]))
        '127.0.0.1:9000'
    """
    host, port = split_http(http)
    chosen = host if flags.address is None else flags.address
    shown = f"[{chosen}]" if ":" in chosen else chosen
    return f"{shown}:{port if flags.port is None else flags.port}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, add_help=False, description="Serve this script's workers."
    )
    host, port = split_http(entries(GatewaySettings)["http"].default)
    add = parser.add_argument
    add("--help", action="help", help="show this and leave")  # -h may be the user's own
    add("--address", metavar="HOST", help=f"where HTTP listens (default {host})")
    add("--port", type=_port, metavar="N", help=f"the HTTP port; 0: any free one (default {port})")
    for _, one in _flagged():
        _add_setting(parser, one)
    add("--wait", type=_wait, default=DEFAULT_WAIT, metavar="MS", help=_WAIT_HELP)
    add("--path", default="", metavar="FOLDER", help="where to make the private run folder")
    add("--debug", action="store_true", help="log all, and show clients what workers raise")
    return parser


_WAIT_HELP = "max_wait_time of stages that name none, in ms (default 10)"


def _add_setting(parser: argparse.ArgumentParser, one: Entry) -> None:
    if isinstance(one.kind, Switch):
        parser.add_argument(one.flag, action="store_const", const=True, help=one.doc)
        return
    shown = one.default * _DIVISORS.get(one.unit, 1)
    default = f"{shown:g}" if isinstance(shown, float) else shown
    unit = f", in {one.unit}" if one.unit in ("ms", "bytes") else ""
    read = _reader(one)
    name = one.unit.upper() or one.kind.noun.upper()
    help_text = f"{one.doc}{unit} (default {default})"
    parser.add_argument(one.flag, type=read, metavar=name, help=help_text)


def _reader(one: Entry) -> Any:
    """How a flag's text becomes the setting's value; argparse shows the ValueError's text."""

    def read(text: str) -> Any:
        try:
            if not one.unit:
                return one.kind.parse(text)
            number = float(text)
            value = number / _DIVISORS[one.unit] if one.unit in _DIVISORS else int(number)
            return one.kind.check(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _flagged() -> list[tuple[str, Entry]]:
    """Every setting that has a flag, with its table."""
    tables = (("", MeshSettings), ("gateway", GatewaySettings))
    return [(table, one) for table, owner in tables for one in entries(owner).values() if one.flag]


def _dest(one: Entry) -> str:
    return one.flag.lstrip("-").replace("-", "_")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, not {text!r}")
    return int(text)


def _wait(text: str) -> float:
    try:
        wait = float(text)
    except ValueError:
        wait = -1.0
    if not 0 <= wait < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of milliseconds, not {text!r}")
    return wait


def _warning(argument: str, parser: argparse.ArgumentParser) -> str:
    """The warning about an argument that is nearly one of ours, or ""."""
    word = argument.split("=", 1)[0]
    if not word.startswith("--"):
        return ""
    ours = re.findall(r"--[a-z-]+", parser.format_usage())
    meant = nearest(word, ours, cutoff=0.8)
    return f"{word} is none of ours and is left alone; did you mean {meant}?" if meant else ""
