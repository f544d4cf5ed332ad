"""What one log line looks like, as text for people and as JSON for machines. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from mesh.logs.control_characters import in_json, in_lines, in_one_line

Fields = Mapping[str, Any]

_COLOURS: Final = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m"}
# Ids that a line of text shows, and one with a traceback; JSON has all of them.
_SHOWN_IDS: Final = 3
_SHOWN_FAILED_IDS: Final = 256
_OURS: Final = frozenset({"time", "level", "source", "message", "traceback"})
_escape = json.JSONEncoder(ensure_ascii=True).encode


class LogLine(NamedTuple):
    """One record, ready to be written down.

    Attributes:
        when: the time as it shall be read.
        level: such as ``"info"``.
        source: the process that speaks, such as ``embed/1``.
        message: what it says.
        fields: what else is known, in this order.
        trace: a traceback, "" if there is none.
    """

    when: str
    level: str
    source: str
    message: str
    fields: Fields = MappingProxyType({})
    trace: str = ""


def json_line(line: LogLine) -> bytes:
    """One record as one line of JSON, with its newline. Never raises for what is in it.

    Fields follow the four of every record; one that bears the name of those gets a ``_`` behind it.
    A value that JSON has no form for is written as its `repr`.

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
    except Exception:  # noqa: BLE001 - of a user's values anything may be raised
        plain = {str(key): _shown(value) for key, value in record.items()}
        return _escape(plain).encode()  # half a surrogate pair has no UTF-8, but an escape


def text_line(line: LogLine, *, coloured: bool = False) -> bytes:
    """One record as text, with its newline; a traceback follows in lines that are set in.

    Whatever it says, no terminal obeys it and nothing of it looks like another record.

    Example:
        >>> text_line(LogLine("12:00:01", "info", "embed/1", "loaded", {"labels": 3}))
        b'12:00:01 info    embed/1    loaded labels=3\\n'
    """
    when, level, source, message, fields, trace = line
    colour = _COLOURS.get(level, "") if coloured else ""
    word = f"{colour}{level:7}\033[0m" if colour else f"{level:7}"
    logger = f"{_shown(fields['logger'])}: " if "logger" in fields else ""
    said = in_one_line(f"{source:10} {logger}{message}{_told(fields, of_failure=bool(trace))}")
    text = f"{when} {word} {said}\n"
    if trace:
        text += f"  {in_lines(trace)}".replace("\n", "\n  ") + "\n"
    return text.encode("utf-8", "backslashreplace")


def _told(fields: Fields, *, of_failure: bool) -> str:
    """The fields as they stand behind a message."""
    rest = (key for key in fields if key not in ("logger", "ids"))
    pairs = "".join(f" {key}={_shown(fields[key])}" for key in rest)
    most = _SHOWN_FAILED_IDS if of_failure else _SHOWN_IDS
    return pairs + _listed(fields["ids"], most) if "ids" in fields else pairs


def _listed(ids: object, most: int) -> str:
    """Ids of requests; a user's own field of that name may hold anything."""
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
    """What is to be seen of a line that was written over with carriage returns.

    Example:
        >>> last_state("10 %\\r50 %\\r100 %")
        '100 %'
    """
    if "\r" not in line:
        return line
    return next((part for part in reversed(line.split("\r")) if part), "")
