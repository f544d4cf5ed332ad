"""Logging to stderr: text for people on a terminal, one JSON object per line for machines.

There is one line for each event in a process's life, and none for requests unless the access log is
on. Users' workers log through `logging` as usual, or through the same `get_logger` as we do;
printed
text goes to the log, too. Logging never waits for the reader of the log. The modules of `mesh.logs`
implement what docs/logging.md promises.
"""

from __future__ import annotations

import atexit
import functools
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO

from mesh.logs.loggers import Output, Sink, colour_wanted, get_logger
from mesh.logs.streams import LineStream, Printed, printed
from mesh.logs.writer import Target, Writer, flush

__all__ = [
    "configure",
    "flush",
    "get_logger",
    "get_output",
    "name_requests",
    "print_without_waiting",
    "reset",
    "serve_worker",
    "take_over",
]

AUTO: Final = "auto"
JSON: Final = "json"
_OTHERS: Final = ("asyncio", "tornado")
_STDOUT: Final = 1


class _Stream:
    """Writes lines to a stream without a descriptor: in a notebook, in a test."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: bytes, /) -> None:
        try:
            self._stream.write(line.decode("utf-8", "replace"))
            self._stream.flush()
        except (OSError, ValueError):
            return  # closed, or its reader is gone

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class _Log:
    """The state of this process's log."""

    def __init__(self) -> None:
        self.output: Output | None = None
        self.level = "info"
        self.targets: list[Target] = []
        self.streams: dict[str, Printed] = {}
        # The streams that ours replace; they own descriptors 1 and 2.
        self.before: dict[str, Any] = {}


_log: Final = _Log()


def configure(level: str, source: str = "", stream: TextIO | None = None, form: str = AUTO) -> None:
    """Send the log lines of this process to a stream; a further call replaces the settings.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        source: the process, e.g. ``gateway`` or ``embed/1``, which every line names.
        stream: the stream, stderr if not given.
        form: ``text``, ``json``, or ``auto``: text on a terminal, else JSON.
    """
    reset()
    target = sys.stderr if stream is None else stream
    terminal = target is not None and target.isatty()
    as_json = form == JSON or (form == AUTO and not terminal)
    _log.level = level
    _log.output = Output(_target(target), source, as_json=as_json, coloured=colour_wanted(terminal))
    sink = Sink(_log.output, ours=True)
    _direct(get_logger(), sink, level.upper())
    for name in _OTHERS:  # warnings of our event loop and pages get the same form
        _direct(logging.getLogger(name), sink, "WARNING")


def get_output() -> Output:
    """Return the output of this process, for code that writes many records; after `configure`."""
    if _log.output is None:
        configure(_log.level)
    assert _log.output is not None
    return _log.output


def reset() -> None:
    """Undo `configure`: our records go to the handlers of the root logger."""
    for name in (None, *_OTHERS):
        logger = logging.getLogger(name) if name else get_logger()
        logger.handlers = [one for one in logger.handlers if not isinstance(one, Sink)]
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    _log.output = None
    for target in _log.targets:
        target.close()
    _log.targets.clear()


def take_over() -> None:
    """Replace `sys.stdout` and `sys.stderr` by our streams, for good.

    Gateways and replicas call it after `configure`: printed text is then written line by line,
    without waiting.
    """
    output = get_output()
    shared = _is_same(_STDOUT, 2)
    for fd, name in ((_STDOUT, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if old is None:
            continue  # there is no such descriptor, or it belongs to another file by now
        target = output.target if shared or fd == 2 else _target(old)
        _stand_in(name, old, printed(fd, name, output, target))


def print_without_waiting() -> None:
    """Make printing to the log of a script never wait either, for good; after `configure`.

    Otherwise the process could not exit if it printed a last line and nothing read the log. Printed
    text is unchanged. A separate standard output is not touched: it is data, which must not be
    dropped.
    """
    names = ["stderr", *(["stdout"] if _is_same(_STDOUT, 2) else [])]
    target: Target | None = None
    for name in names:
        old = getattr(sys, name)
        if old is None or old is not getattr(sys, f"__{name}__") or isinstance(old, Printed):
            continue  # it is another object, such as a notebook's, or ours already
        if target is None:
            target = _target(old)
            _log.targets.remove(target)  # it is not closed any more
        fd = old.fileno()
        _stand_in(name, old, Printed(LineStream(fd, f"<{name}>", target.write, rewrites=False)))


def _stand_in(name: str, old: TextIO, stream: Printed) -> None:
    old.flush()
    _log.before[name] = old
    _log.streams[name] = stream
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)  # code often restores these after a redirection


def serve_worker() -> None:
    """Make the loggers of a user's worker write like ours, unless the user configures them.

    Replicas call it after `take_over`. User configuration never affects `get_logger`.
    """
    root = logging.getLogger()
    root.handlers = [Sink(get_output(), ours=False)]
    root.setLevel(_log.level.upper())
    for name in _OTHERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.basicConfig = _giving_way(logging.basicConfig)
    threading.excepthook = _thread_failed


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread of the worker, as one record."""
    kind, error, trace, thread = failure
    if kind is SystemExit:
        return
    name = "a thread" if thread is None else f"the thread {thread.name}"
    info = None if error is None else (kind, error, trace)
    get_logger().error("%s failed: %s", name, kind.__name__, exc_info=info)


def _giving_way(basic: Callable[..., None]) -> Callable[..., None]:
    """Wrap `logging.basicConfig`, which does nothing if the root logger has a handler, as ours has:
    a caller expects its configuration to apply."""

    @functools.wraps(basic)
    def configured(**given: Any) -> None:
        root = logging.getLogger()
        if given.keys() == {"level"}:  # the call does not set the form
            root.setLevel(given["level"])
            return
        if given:
            root.handlers = [one for one in root.handlers if not isinstance(one, Sink)]
        basic(**given)

    return configured


def name_requests(in_hand: Callable[[], Sequence[str]]) -> None:
    """Make records name the requests being computed: for each record, any thread calls `in_hand`
    for their ids."""
    get_output().requests = in_hand


@atexit.register
def _end() -> None:
    """Write incomplete and kept lines."""
    for stream in _log.streams.values():
        stream.lines.end()
    flush()


def _after_fork() -> None:
    for stream in _log.streams.values():
        stream.lines.forget()


os.register_at_fork(after_in_child=_after_fork)


def _target(stream: TextIO | None) -> Target:
    """Return the target that writes to a stream without waiting."""
    if stream is None:
        return _Nowhere()
    try:
        target: Target = Writer(stream.fileno(), _notice)
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        target = _Stream(stream)
    _log.targets.append(target)
    return target


class _Nowhere:
    """The target if there is no stream at all."""

    def write(self, line: bytes, /) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _notice(count: int, why: str) -> bytes:
    """Make the line that reports how many lines were dropped."""
    lines = "1 log line was" if count == 1 else f"{count} log lines were"
    return get_output().notice(f"{lines} dropped while {why}")


def _is_same(one: int, other: int) -> bool:
    """Return whether two descriptors refer to the same pipe, terminal or socket."""
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _direct(logger: logging.Logger, sink: logging.Handler, level: str) -> None:
    logger.handlers = [sink]
    logger.setLevel(level)
    logger.propagate = False
