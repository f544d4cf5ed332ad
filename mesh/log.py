"""Logging to stderr: text for people on a terminal, one JSON object per line for machines.

One line per event in a process's life; none per request. Users' workers log through the same
`get_logger`, so that their lines look like ours.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TextIO

_OTHERS = ("asyncio", "tornado")
_NAME = "mesh"
_COLOURS = {"warning": "\033[33m", "error": "\033[31m", "critical": "\033[31m"}


def get_logger() -> logging.Logger:
    """The logger of this process, for our lines and for those of a user's worker.

    Example:
        >>> get_logger().info("loaded %d labels", 1000)
    """
    return logging.getLogger(_NAME)


def configure(level: str, source: str = "", stream: TextIO | None = None) -> None:
    """Send this process's log lines to a stream; calling it again replaces what was set.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        source: who speaks, e.g. ``gateway`` or ``embed/1``; stands in every line.
        stream: where to, stderr if not given. A terminal gets text, anything else JSON lines.
    """
    target = sys.stderr if stream is None else stream
    output = logging.StreamHandler(target)
    formatter = TextLines if target.isatty() else JsonLines
    output.setFormatter(formatter(source))
    _direct(get_logger(), output, level.upper())
    for name in _OTHERS:  # what our own event loop and pages complain of has the same form
        _direct(logging.getLogger(name), output, "WARNING")


def _direct(logger: logging.Logger, output: logging.Handler, level: str) -> None:
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(output)
    logger.setLevel(level)
    logger.propagate = False


class TextLines(logging.Formatter):
    """``12:00:01 info    gateway  listening on …``, coloured from warnings up."""

    def __init__(self, source: str) -> None:
        """Speak as `source`."""
        super().__init__(datefmt="%H:%M:%S")
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line, followed by its traceback if it has one."""
        level = record.levelname.lower()
        colour = _COLOURS.get(level, "")
        word = f"{colour}{level:7}\033[0m" if colour else f"{level:7}"
        line = f"{self.formatTime(record, self.datefmt)} {word} {self._source:10} "
        return "\n".join(filter(None, (line + record.getMessage(), _trace(self, record))))


class JsonLines(logging.Formatter):
    """``{"time": …, "level": …, "source": …, "message": …}``, plus a traceback if there is one."""

    def __init__(self, source: str) -> None:
        """Speak as `source`."""
        super().__init__()
        self.converter = time.gmtime  # lines of several hosts are compared
        self._source = source

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line of JSON."""
        seconds = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        fields = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "source": self._source,
            "message": record.getMessage(),
            "traceback": _trace(self, record),
        }
        present = {key: value for key, value in fields.items() if value is not None}
        return json.dumps(present, ensure_ascii=False)


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    return formatter.formatException(record.exc_info) if record.exc_info else None
