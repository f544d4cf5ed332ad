"""Our loggers and their output, independent of the configuration of `logging`.

A worker, or a library that it imports, may call `logging.config.dictConfig` (which disables all
existing loggers), `logging.disable` or `logging.shutdown`, or remove the root logger's handlers.
Such
code means its own log. So our loggers are in no registry of `logging`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from mesh.logs.lines import LogLine, json_line, text_line
from mesh.logs.writer import Target

NAME: Final = "mesh"
# A field of our own records whose message contains the other fields: text does not repeat them.
SAID: Final = "said"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_main: Final = threading.main_thread()


class OwnLogger(logging.Logger):
    """A logger that only its own level and handlers can silence."""

    def isEnabledFor(self, level: int) -> bool:
        """Return whether a record of this level is wanted; `logging.disable` has no effect."""
        return level >= (self.level or self.getEffectiveLevel())

    def makeRecord(  # noqa: PLR0913 - as the class above has it
        self,
        name: str,
        level: int,
        fn: str,
        lno: int,
        msg: object,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        extra: Mapping[str, object] | None = None,
        sinfo: str | None = None,
    ) -> logging.LogRecord:
        """Make a standard record; `logging.setLogRecordFactory` has no effect."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        fields = record.__dict__
        for key, value in (extra or {}).items():
            fields[f"{key}_" if key in _STANDARD else key] = value
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """Handle a record, even if the user's code set `disabled`, or added a bad handler."""
        try:
            wanted = bool(self.filter(record))
        except Exception:  # noqa: BLE001 - a filter of the user's
            wanted = True
        if wanted:
            with contextlib.suppress(Exception):  # ours is the first; others are the user's
                self.callHandlers(record)

    def getChild(self, suffix: str) -> OwnLogger:
        """Make a logger whose records go to this one."""
        child = OwnLogger(f"{self.name}.{suffix}")
        child.parent = self
        return child

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies refer to the same logger."""
        return get_logger, ()


_logger = OwnLogger(NAME)
# The handler of records, and the logger that sets the level, until `configure` is called.
_logger.parent = logging.getLogger(NAME)


def get_logger() -> logging.Logger:
    """Return the logger of this process, for our lines and for those of a user's worker.

    Example:
        >>> get_logger().info("loaded %d labels", 1000)
    """
    return _logger


def wall() -> float:
    """Return the seconds since the epoch, to be shown only; no decision depends on it."""
    return time.time()  # noqa: TID251 - for the dates of log lines


def no_requests() -> Sequence[str]:
    """Return no ids: nothing is being computed."""
    return ()


class Output:
    """Writes records as lines to the log of this process.

    Args:
        target: takes the lines.
        source: the process, such as ``gateway`` or ``embed/1``.
        as_json: whether to write JSON lines instead of text.
        coloured: whether text is coloured.

    Attributes:
        requests: called for each record; returns the ids of the requests being computed.
    """

    def __init__(self, target: Target, source: str, *, as_json: bool, coloured: bool) -> None:
        self.target = target
        self.source = source
        self.as_json = as_json
        self.requests: Callable[[], Sequence[str]] = no_requests
        self._coloured = coloured

    def line(
        self, seconds: float, level: str, message: str, fields: dict[str, Any], trace: str = ""
    ) -> bytes:
        """Format a record as bytes; `seconds` is its time since the epoch."""
        if self.as_json:
            return json_line(LogLine(_utc(seconds), level, self.source, message, fields, trace))
        line = LogLine(_local(int(seconds)), level, self.source, message, fields, trace)
        return text_line(line, coloured=self._coloured)

    def notice(self, message: str) -> bytes:
        """Format a warning about the log itself, as bytes."""
        return self.line(wall(), "warning", message, {})

    def emit(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Write a record now, whatever the level."""
        self.target.write(self.line(wall(), level, message, fields))

    def in_hand(self) -> dict[str, Any]:
        """Return the field with the ids of the requests being computed, if there are any."""
        try:
            ids = list(self.requests())
        except Exception:  # noqa: BLE001 - the batch of another thread may end meanwhile
            return {}
        return {"ids": ids} if ids else {}


class Sink(logging.Handler):
    """Passes records of the `logging` module to an `Output`.

    It is in no list of `logging` either, and cannot be closed.

    Args:
        output: the output.
        ours: whether it serves our own logger; then records of other threads do not name the
            requests that the main thread computes. For a user's logger, its name becomes a field.
    """

    def __init__(self, output: Output, *, ours: bool) -> None:
        """Make it without a lock: the shared target has one."""
        logging.Filterer.__init__(self)
        self._name = None
        self.level = logging.NOTSET
        self.formatter = None
        self.lock = None
        self._closed = False
        self._output, self._ours = output, ours

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, unless a filter rejects it."""
        wanted = bool(self.filter(record))
        if wanted:
            self.emit(record)
        return wanted

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. Never raises, whatever its arguments are."""
        output = self._output
        fields = {} if self._ours or record.name == "root" else {"logger": record.name}
        if len(record.__dict__) > len(_STANDARD) - _ABSENT:
            extra = record.__dict__.items()
            fields |= {key: value for key, value in extra if key not in _STANDARD}
        if fields.pop(SAID, False) and not output.as_json:
            fields = {}
        elif "ids" not in fields and (not self._ours or record.thread == _main.ident):
            fields |= output.in_hand()
        trace = _trace(record)
        level = record.levelname.lower()
        output.target.write(output.line(record.created, level, _message(record), fields, trace))

    def close(self) -> None:
        """Do nothing, so that `logging.shutdown` does not end our log."""


# Standard names that a new record does not have.
_ABSENT: Final = len(_STANDARD - vars(logging.makeLogRecord({})).keys())


def _message(record: logging.LogRecord) -> str:
    """Return the message of a record; arguments that do not fit its text are appended."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a user's objects may raise anything
        try:
            given = f"{record.msg!s} {record.args!r}"
        except Exception:  # noqa: BLE001 - the same
            given = f"a {type(record.msg).__name__}"
        return f"{given} (cannot be formatted: {type(error).__name__})"


_tracer: Final = logging.Formatter()


def _trace(record: logging.LogRecord) -> str:
    """Return a record's traceback and stack, as far as they exist and can be shown."""
    if not record.exc_info and not record.stack_info:
        return record.exc_text or ""
    parts = []
    try:
        if record.exc_info:
            parts.append(_tracer.formatException(record.exc_info))
    except Exception:  # noqa: BLE001 - an exception whose __str__ raises
        parts.append(str(record.exc_info[0] if record.exc_info else ""))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _utc(seconds: float) -> str:
    """Format a time in UTC, because lines of several hosts are compared."""
    whole = int(seconds)
    return f"{_utc_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _utc_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=2)
def _local(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def colour_wanted(is_terminal: bool) -> bool:
    """Return whether text is coloured: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return is_terminal and not os.environ.get("NO_COLOR")
