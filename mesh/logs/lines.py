"""Formats log lines: text for people, JSON for machines. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from mesh.logs.control_characters import in_json, in_lines, in_one_line

Fields = Mapping[str, Any]

_COLOURS: Final = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m"}
# Ids in a line of text, and in one with a traceback; JSON has all of them.
_SHOWN_IDS: Final = 3
_SHOWN_FAILED_IDS: Final = 256
_OURS: Final = frozenset({"time", "level", "source", "message", "traceback"})
_escape = json.JSONEncoder(ensure_ascii=True).encode


class LogLine(NamedTuple):
    """One record, ready to be written.

    Attributes:
        when: the formatted time.
        level: the level, such as ``"info"``.
        source: the process, such as ``embed/1``.
        message: the message.
        fields: further fields, in order.
        trace: a traceback, "" if there is none.
    """

    when: str
    level: str
    source: str
    message: str
    fields: Fields = MappingProxyType({})
    trace: str = ""


def json_line(line: LogLine) -> bytes:
    """Format a record as one line of JSON, with its newline. Any content is accepted.

    The fields follow the four fixed ones; a field with the name of one of these gets a ``_``
    appended. A value that JSON cannot express is written as its `repr`.

    Example:
        >>> json_line(LogLine("12:00", "info", "embed/1", "loaded", {"labels": 3}))
        b'{"time":"12:00","level":"info","source":"embed/1","message":"loaded","labels":3}\\n'
    """
    record: dict[str, Any] = {
        "time": line.when,
        "level": line.level,
        "source": line.source,
        "message": line.message,
    }
    fields = line.fields
    if not _OURS.isdisjoint(fields):
        fields = {f"{key}_" if key in _OURS else key: value for key, value in fields.items()}
    record.update(fields)
    if line.trace:
        record["traceback"] = line.trace
    return in_json(_encoded(record)) + b"\n"


def _encoded(record: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(record, enc_hook=_shown)
    except Exception:  # noqa: BLE001 - a user's values may raise anything
        plain = {str(key): _shown(value) for key, value in record.items()}
        return _escape(plain).encode()  # half a surrogate pair has an escape but no UTF-8


def text_line(line: LogLine, *, coloured: bool = False) -> bytes:
    """Format a record as text, with its newline; a traceback follows in indented lines.

    Control characters are escaped, so that the text cannot control a terminal or forge a record.

    Example:
        >>> text_line(LogLine("12:00:01", "info", "embed/1", "loaded", {"labels": 3}))
        b'12:00:01 info    embed/1    loaded labels=3\\n'
    """
    when, level, source, message, fields, trace = line
    colour = _COLOURS.get(level, "") if coloured else ""
    word = f"{colour}{level:7}\033[0m" if colour else f"{level:7}"
    logger = f"{_shown(fields['logger'])}: " if "logger" in fields else ""
    said = in_one_line(
        f"{source:10} {logger}{message}{_fields_text(fields, of_failure=bool(trace))}"
    )
    text = f"{when} {word} {said}\n"
    if trace:
        text += f"  {in_lines(trace)}".replace("\n", "\n  ") + "\n"
    return text.encode("utf-8", "backslashreplace")


def _fields_text(fields: Fields, *, of_failure: bool) -> str:
    rest = (key for key in fields if key not in ("logger", "ids"))
    pairs = "".join(f" {key}={_shown(fields[key])}" for key in rest)
    most = _SHOWN_FAILED_IDS if of_failure else _SHOWN_IDS
    return pairs + _listed(fields["ids"], most) if "ids" in fields else pairs


def _listed(ids: object, most: int) -> str:
    """Format the ids of requests; a user's own field of that name may contain anything."""
    if not isinstance(ids, list | tuple):
        return f" ids={_shown(ids)}"
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return f" [{', '.join(map(_shown, ids[:most]))}{more}]"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's object may raise anything
        return f"<{type(value).__name__}>"


def last_state(line: str) -> str:
    """Return the visible part of a line that carriage returns have overwritten.

    Example:
        >>> last_state("10 %\\r50 %\\r100 %")
        '100 %'
    """
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")
