"""Our loggers and where their records go: whatever else is configured, they stay ours.

A worker, or a library that it imports, may call `logging.config.dictConfig` (which disables every
logger that exists), `logging.disable`, `logging.shutdown`, or take the root logger's handlers
away. Whoever does means his own log. Our loggers are therefore in no registry of `logging`'s.
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
# A field of our own records whose message says all the other fields: text does not repeat them.
SAID: Final = "said"
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_main: Final = threading.main_thread()


class OwnLogger(logging.Logger):
    """A logger that nothing but its own level and handlers can silence."""

    def isEnabledFor(self, level: int) -> bool:
        """Whether a record of this level is wanted; `logging.disable` has no say in it."""
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
        """A record as `logging` has it, whatever `logging.setLogRecordFactory` was given."""
        record = logging.LogRecord(name, level, fn, lno, msg, args, exc_info, func, sinfo)
        fields = record.__dict__
        for key, value in (extra or {}).items():
            fields[f"{key}_" if key in _STANDARD else key] = value
        return record

    def handle(self, record: logging.LogRecord) -> None:
        """Pass a record on, even if the user's code set `disabled`, or added a bad handler."""
        try:
            wanted = bool(self.filter(record))
        except Exception:  # noqa: BLE001 - a filter of the user's
            wanted = True
        if wanted:
            with contextlib.suppress(Exception):  # ours is the first; others are the user's
                self.callHandlers(record)

    def getChild(self, suffix: str) -> OwnLogger:
        """A logger that passes its records on to this one."""
        child = OwnLogger(f"{self.name}.{suffix}")
        child.parent = self
        return child

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of an object that holds it holds the same one."""
        return get_logger, ()


_logger = OwnLogger(NAME)
# Where records go, and what says which are wanted, until `configure` is called.
_logger.parent = logging.getLogger(NAME)


def get_logger() -> logging.Logger:
    """The logger of this process, for our lines and for those of a user's worker.

    Example:
        >>> get_logger().info("loaded %d labels", 1000)
    """
    return _logger


def wall() -> float:
    """Seconds since the epoch, for people; nothing is decided by it."""
    return time.time()  # noqa: TID251 - that is what lines are dated by


def no_requests() -> Sequence[str]:
    """What is computed where nothing is."""
    return ()


class Output:
    """Writes records as lines, to wherever this process's log goes.

    Args:
        target: takes the lines.
        source: who speaks, such as ``gateway`` or ``embed/1``.
        as_json: JSON lines, else text.
        coloured: text with colours.

    Attributes:
        requests: asked, when a record is written, for the ids of what is computed then.
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
        """One record as bytes; `seconds` since the epoch."""
        if self.as_json:
            return json_line(LogLine(_utc(seconds), level, self.source, message, fields, trace))
        line = LogLine(_local(int(seconds)), level, self.source, message, fields, trace)
        return text_line(line, coloured=self._coloured)

    def notice(self, message: str) -> bytes:
        """A warning of the log itself, as bytes."""
        return self.line(wall(), "warning", message, {})

    def emit(self, level: str, message: str, fields: dict[str, Any]) -> None:
        """Write one record now, whatever the level."""
        self.target.write(self.line(wall(), level, message, fields))

    def in_hand(self) -> dict[str, Any]:
        """The field with the ids of what is computed, if anything is."""
        try:
            ids = list(self.requests())
        except Exception:  # noqa: BLE001 - of another thread's batch, which may end meanwhile
            return {}
        return {"ids": ids} if ids else {}


class Sink(logging.Handler):
    """Takes records of the `logging` module into an `Output`.

    It stands in no list of `logging`'s either, and cannot be closed.

    Args:
        output: where to.
        ours: for our own logger, whose threads say nothing of the requests that the main thread
            computes; else for a user's, whose name becomes a field.
    """

    def __init__(self, output: Output, *, ours: bool) -> None:
        """No lock: what is shared has one."""
        logging.Filterer.__init__(self)
        self._name = None
        self.level = logging.NOTSET
        self.formatter = None
        self.lock = None
        self._closed = False
        self._output, self._ours = output, ours

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, if no filter objects."""
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
        """`logging.shutdown` does not end our log."""


# Names among the standard ones that a fresh record does not have.
_ABSENT: Final = len(_STANDARD - vars(logging.makeLogRecord({})).keys())


def _message(record: logging.LogRecord) -> str:
    """What a record says; arguments that do not fit its text are shown behind it."""
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
    """A record's traceback and stack, as far as it has any and they can be shown."""
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
    """Lines of several hosts are compared."""
    whole = int(seconds)
    return f"{_utc_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _utc_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


@lru_cache(maxsize=2)
def _local(seconds: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def colour_wanted(is_terminal: bool) -> bool:
    """Whether text is coloured: on a terminal, unless NO_COLOR says no (no-color.org)."""
    return is_terminal and not os.environ.get("NO_COLOR")
