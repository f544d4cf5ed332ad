"""The commands that query a running service over HTTP."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mesh.cli.options import config
from mesh.client import Client
from mesh.config.addresses import bracketed
from mesh.config.loader import DEFAULT_FILE, load_settings
from mesh.config.schema import split_http
from mesh.errors import SettingsError
from mesh.logs.control_characters import in_lines, in_one_line

_ANYWHERE = ("0.0.0.0", "::", "*")
_ANSWER_LIMIT_S = 10.0

url_option = click.option(
    "--url", default="", metavar="URL", help="the service; else the file's, else this host's 8000"
)


@click.command()
@config
@url_option
@click.option("--json", "plain", is_flag=True, help="print what the gateway said, as JSON")
def status(config: str, url: str, plain: bool) -> None:
    """Show the routes, stages and replicas that a gateway sees; docs/status.md explains each."""
    with Client(_url(url, config, for_admin=True), timeout=_ANSWER_LIMIT_S) as client:
        answer = client.get("/mesh/status")
        answer.raise_for_status()
        shown = answer.json()
    if plain:
        print(in_lines(json.dumps(shown, indent=2)))
        return
    for line in lines_of(shown):
        print(in_one_line(line))


@click.command()
@click.argument("route")
@click.argument("file", default="-")
@config
@url_option
@click.option("--timeout", default=60.0, show_default=True, help="seconds to wait")
def call(route: str, file: str, config: str, url: str, timeout: float) -> None:
    """Post a FILE, or - for stdin, to ROUTE; print the answer."""
    body = sys.stdin.buffer.read() if file == "-" else _read(file)
    with Client(_url(url, config), timeout=timeout) as client:
        answer = client.post(route if route.startswith("/") else f"/{route}", body)
    answer.raise_for_status()
    _print_answer(answer.body)


def _print_answer(body: bytes) -> None:
    """Print an answer unchanged; on a terminal, escape control sequences."""
    if sys.stdout.isatty():
        print(in_lines(body.decode("utf-8", "backslashreplace")))
        return
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def lines_of(shown: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """Format a JSON object for people: plain values first, lists of objects as tables.

    Example:
        >>> list(lines_of({"draining": False, "stages": {"embed": {"replicas": 2}}}))
        ['draining  no', 'stages', '  embed', '    replicas  2']
    """
    indent = "  " * depth
    plain = {key: value for key, value in shown.items() if _is_plain(value)}
    width = max(map(len, plain), default=0)
    for key, value in plain.items():
        yield f"{indent}{key:{width}}  {_shown(value)}"
    for key, value in shown.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}"
            yield from lines_of(value, depth + 1)
        elif key not in plain and value:
            yield f"{indent}{key}"
            yield from (f"{indent}  {line}" for line in _table(value))


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_shown(row.get(key, "")) for key in columns] for row in rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return not any(isinstance(one, Mapping) for one in value)
    return not isinstance(value, Mapping)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "-"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _url(url: str, config: str, *, for_admin: bool = False) -> str:
    if url:
        return url
    if config == DEFAULT_FILE and not os.path.exists(config):
        return "http://127.0.0.1:8000"
    gateway = load_settings(config).gateway
    address = gateway.admin if for_admin and gateway.admin else gateway.http
    if address.startswith("unix:"):
        return address
    host, port = split_http(address)
    return f"http://{bracketed('127.0.0.1' if host in _ANYWHERE else host)}:{port}"


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
