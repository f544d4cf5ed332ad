"""The command-line flags of a script that calls `Server()`.

They have the names and units of mosec's flags, and derive from the schema wherever they set a
setting. A flag with the name of a setting that no flag sets is refused, as it would have no effect.
Other arguments belong to the user's script and are ignored; a near miss of one of our flags gets a
warning.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NoReturn

from mesh.config.schema import SettingDeclaration, Switch, entries, nearest, split_http
from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.config.units import show_duration, show_size
from mesh.errors import EXIT_SETTINGS

# The divisors that convert a bare number in a flag to the unit of the setting.
_DIVISORS = {"ms": 1000.0}
DEFAULT_WAIT_S = 10.0
ALL_STAGES = "stages"  # in place of a table name: set for every stage
_TABLES: tuple[tuple[str, type], ...] = (
    ("", MeshSettings),
    ("gateway", GatewaySettings),
    (ALL_STAGES, StageSettings),
)
_SHOWN = {"duration": show_duration, "size": show_size}
# Settings without a flag, and how else to set them; all others are set by a variable.
_ELSEWHERE = {
    "http": "use --address and --port",
    "max-body": "use --max-request-size, in bytes",
    "replicas": "give it to append_worker, as num",
    "max-batch-size": "give it to append_worker",
    "max-wait-time": "give it to append_worker; --wait, in ms, is for all stages that name none",
}
# Names of settings that scripts use, too: flags of these names belong to the script.
_ANYBODYS = frozenset({"env", "feed", "name", "pool", "version", "worker"})


@dataclass
class Flags:
    """The settings in a script's command line.

    Attributes:
        values: the settings and the names of their flags, by table and key, as for `Draft.add`. The
            table of settings for all stages is `ALL_STAGES`.
        address: the host where HTTP listens, None if no flag sets it.
        port: the port where HTTP listens, None if no flag sets it.
        wait: the default `max_wait_time` in milliseconds.
        path: where to make the run folder, ``""`` for the usual place.
        dry_run: whether to start everything, run the examples, and end.
        warnings: warnings about arguments that look like our flags but are not.
    """

    values: dict[tuple[str, str], tuple[Any, str]] = field(default_factory=dict)
    address: str | None = None
    port: int | None = None
    wait: float = DEFAULT_WAIT_S
    path: str = ""
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)


def parse_flags(argv: Sequence[str]) -> Flags:
    """Parse our flags among a script's arguments (without the script's name).

    Wrong values and flags that would have no effect end the process with one line and exit code 2;
    ``--help`` ends it with exit code 0.

    Example:
        >>> parse_flags(["--timeout", "5000", "--mine"]).values
        {('gateway', 'timeout'): (5.0, '--timeout')}
    """
    parser = _parser()
    known, rest = parser.parse_known_args(list(argv))
    for argument in takewhile(lambda one: one != "--", rest):
        _refuse(parser, argument)
    flags = Flags(address=known.address, port=known.port, wait=known.wait, path=known.path)
    flags.dry_run = known.dry_run
    for table, one in _flagged():
        value = getattr(known, _dest(one))
        if value is not None:
            flags.values[table, one.name] = (value, one.flag)
    if known.debug:
        flags.values.setdefault(("", "log_level"), ("debug", "--debug"))
        flags.values["gateway", "debug"] = (True, "--debug")
    flags.warnings = [warning for one in rest if (warning := _warning(one, parser))]
    return flags


def merge_http(http: str, flags: Flags) -> str:
    """Return an HTTP address with the host and port from the flags.

    Example:
        >>> merge_http("127.0.0.1:8000", parse_flags(["--port", "9000"]))
        '127.0.0.1:9000'
    """
    host, port = split_http(http)
    chosen = host if flags.address is None else flags.address
    shown = f"[{chosen}]" if ":" in chosen else chosen
    return f"{shown}:{port if flags.port is None else flags.port}"


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, as every other part of the product does."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_SETTINGS, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(allow_abbrev=False, add_help=False, description="Serve this script's workers.")
    host, port = split_http(entries(GatewaySettings)["http"].default)
    add = parser.add_argument
    add("--help", action="help", help="show this and leave")  # the script may have a flag -h
    add("--address", metavar="HOST", help=f"where HTTP listens (default {host})")
    add("--port", type=_port, metavar="N", help=f"the HTTP port; 0: any free one (default {port})")
    for _, one in _flagged():
        _add_setting(parser, one)
    add("--wait", type=_wait, default=DEFAULT_WAIT_S, metavar="MS", help=_WAIT_HELP)
    add("--path", default="", metavar="FOLDER", help="where to make the private run folder")
    add("--dry-run", action="store_true", help="start everything, run the examples, and end")
    add("--debug", action="store_true", help="log all, and show clients what workers raise")
    return parser


_WAIT_HELP = "max_wait_time of stages that name none, in ms (default 10)"


def _add_setting(parser: argparse.ArgumentParser, one: SettingDeclaration) -> None:
    if isinstance(one.kind, Switch):
        parser.add_argument(one.flag, action="store_const", const=True, help=one.doc)
        return
    unit = f", in {one.unit}" if one.unit in ("ms", "bytes") else ""
    read = _reader(one)
    name = one.unit.upper() or one.kind.noun.upper()
    default = f" (default {_shown(one)})" if one.default is not None else ""
    help_text = f"{one.doc}{unit}{default}"
    parser.add_argument(one.flag, type=read, metavar=name, help=help_text)


def _shown(one: SettingDeclaration) -> str:
    """Format the default of a setting as a value of its flag."""
    if one.unit in _DIVISORS:
        return f"{one.default * _DIVISORS[one.unit]:g}"
    return str(one.default) if one.unit else _SHOWN.get(one.kind.noun, str)(one.default)


def _reader(one: SettingDeclaration) -> Any:
    """Return the function that parses a flag's text; argparse shows the text of its error."""

    def read(text: str) -> Any:
        try:
            return one.kind.check(_number(text, one.unit)) if one.unit else one.kind.parse(text)
        except ValueError as error:
            # The rest is in the unit of the setting.
            wrong, found, _ = str(error).partition(", not ")
            said = f"{wrong}, not {text!r}" if found or one.unit else wrong
            raise argparse.ArgumentTypeError(said) from None

    return read


def _number(text: str, unit: str) -> float | int:
    """Convert a bare number to the unit of the setting; the text of ValueError says the format."""
    try:
        number = float(text)
        if unit in _DIVISORS:
            return number / _DIVISORS[unit]
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"must be a {'' if unit in _DIVISORS else 'whole '}number of {unit}")


def _flagged() -> list[tuple[str, SettingDeclaration]]:
    """Return every setting that has a flag, with its table."""
    return [(table, one) for table, owner in _TABLES for one in entries(owner).values() if one.flag]


def _refuse(parser: argparse.ArgumentParser, argument: str) -> None:
    """End the process if an argument is meant for us but would have no effect."""
    written = argument.split("=", 1)[0]
    word = written.removeprefix("--").replace("_", "-").lower()
    if not written.startswith("--") or word in _ANYBODYS:
        return
    if f"--{word}" in _ours(parser):
        parser.error(f"{written} is written --{word}")
    for table, owner in _TABLES:
        for key in entries(owner):
            if key.replace("_", "-") == word:
                text = _ELSEWHERE.get(word) or f"set the variable {_variable(table, key)}"
                own = "a flag of your own by that name: give Server(argv=[...]) the others"
                parser.error(f"{written} sets nothing; {text} ({own})")


def _variable(table: str, key: str) -> str:
    place = "STAGES_NAME_" if table == ALL_STAGES else f"{table}_" if table else ""
    return f"MESH_{place}{key}".upper()


def _dest(one: SettingDeclaration) -> str:
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
    """Return a warning about an argument that is nearly one of our flags, or ""."""
    word = argument.split("=", 1)[0]
    if not word.startswith("--"):
        return ""
    meant = nearest(word, _ours(parser), cutoff=0.8)
    return f"{word} is none of ours and is left alone; did you mean {meant}?" if meant else ""


def _ours(parser: argparse.ArgumentParser) -> list[str]:
    return re.findall(r"--[a-z-]+", parser.format_usage())
