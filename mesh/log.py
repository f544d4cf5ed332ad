"""Logging to stderr: text for people on a terminal, one JSON object per line for machines.

One line per event in a process's life; none per request unless the access log is on. Users' workers
log through `logging` as anywhere, or through the same `get_logger` as we do; what they print goes
the same way. Nothing here ever waits for the reader of the log. What docs/logging.md promises is
kept by the modules of `mesh.logs`.
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
    "reset",
    "serve_worker",
    "take_over",
    "wait_for_nobody",
]

AUTO: Final = "auto"
JSON: Final = "json"
_OTHERS: Final = ("asyncio", "tornado")
_STDOUT: Final = 1


class _Stream:
    """Lines for a stream that is no descriptor: a notebook's, a test's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: bytes, /) -> None:
        try:
            self._stream.write(line.decode("utf-8", "replace"))
            self._stream.flush()
        except (OSError, ValueError):
            return  # closed, or its reader is gone

    def close(self) -> None:
        """Nothing is held."""


class _Log:
    """What this process's log is made of."""

    def __init__(self) -> None:
        self.output: Output | None = None
        self.level = "info"
        self.targets: list[Target] = []
        self.streams: dict[str, Printed] = {}
        self.before: dict[str, Any] = {}  # the streams that ours stand for; they own 1 and 2


_log: Final = _Log()


def configure(level: str, source: str = "", stream: TextIO | None = None, form: str = AUTO) -> None:
    """Send this process's log lines to a stream; calling it again replaces what was set.

    Args:
        level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        source: who speaks, e.g. ``gateway`` or ``embed/1``; stands in every line.
        stream: where to, stderr if not given.
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
    for name in _OTHERS:  # what our own event loop and pages complain of has the same form
        _direct(logging.getLogger(name), sink, "WARNING")


def get_output() -> Output:
    """Where this process's records go, for those who write many; after `configure`."""
    if _log.output is None:
        configure(_log.level)
    assert _log.output is not None
    return _log.output


def reset() -> None:
    """Undo `configure`: our records go where those of any other logger go."""
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
    """Put streams of ours in the place of `sys.stdout` and `sys.stderr`, for good.

    In gateways and replicas, after `configure`: what is printed there leaves line by line, and
    never waits.
    """
    output = get_output()
    shared = _is_same(_STDOUT, 2)
    for fd, name in ((_STDOUT, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        if old is None:
            continue  # there is no such descriptor, or it is somebody else's file by now
        target = output.target if shared or fd == 2 else _target(old)
        _stand_in(name, old, printed(fd, name, output, target))


def wait_for_nobody() -> None:
    """Never let what a script prints to its log wait either, for good.

    Its process would not end if it printed a last word and nothing read the log. After `configure`.
    What is printed stays as it is. A standard output of its own is left alone: that is data, of
    which nothing may be dropped.
    """
    names = ["stderr", *(["stdout"] if _is_same(_STDOUT, 2) else [])]
    target: Target | None = None
    for name in names:
        old = getattr(sys, name)
        if old is None or old is not getattr(sys, f"__{name}__") or isinstance(old, Printed):
            continue  # it is somebody's own, such as a notebook's, or ours already
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
    setattr(sys, f"__{name}__", stream)  # often put back after a redirection


def serve_worker() -> None:
    """Have the loggers of a user's worker write as ours do, unless he configures them himself.

    In replicas, after `take_over`. Whatever he configures, `get_logger` and its like stay ours.
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
    """A thread of the worker has ended by an exception: one record, not a line for each frame."""
    kind, error, trace, thread = failure
    if kind is SystemExit:
        return
    name = "a thread" if thread is None else f"the thread {thread.name}"
    info = None if error is None else (kind, error, trace)
    get_logger().error("%s failed: %s", name, kind.__name__, exc_info=info)


def _giving_way(basic: Callable[..., None]) -> Callable[..., None]:
    """`logging.basicConfig` does nothing where the root logger has a handler, as ours has: whoever
    calls it means that what he says shall be so."""

    @functools.wraps(basic)
    def configured(**given: Any) -> None:
        root = logging.getLogger()
        if given.keys() == {"level"}:  # nothing is said of the form
            root.setLevel(given["level"])
            return
        if given:
            root.handlers = [one for one in root.handlers if not isinstance(one, Sink)]
        basic(**given)

    return configured


def name_requests(in_hand: Callable[[], Sequence[str]]) -> None:
    """From now on records tell which requests are computed: `in_hand` is asked for their ids, from
    any thread, whenever a record is written."""
    get_output().requests = in_hand


@atexit.register
def _end() -> None:
    """Write what has been begun and kept."""
    for stream in _log.streams.values():
        stream.lines.end()
    flush()


def _after_fork() -> None:
    for stream in _log.streams.values():
        stream.lines.forget()


os.register_at_fork(after_in_child=_after_fork)


def _target(stream: TextIO | None) -> Target:
    """How to write to a stream without waiting."""
    if stream is None:
        return _Nowhere()
    try:
        target: Target = Writer(stream.fileno(), _notice)
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        target = _Stream(stream)
    _log.targets.append(target)
    return target


class _Nowhere:
    """There is no stream at all."""

    def write(self, line: bytes, /) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _notice(count: int, why: str) -> bytes:
    """The line that tells how many were dropped."""
    lines = "1 log line was" if count == 1 else f"{count} log lines were"
    return get_output().notice(f"{lines} dropped while {why}")


def _is_same(one: int, other: int) -> bool:
    """Whether two descriptors are of one pipe, terminal or socket."""
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def _direct(logger: logging.Logger, sink: logging.Handler, level: str) -> None:
    logger.handlers = [sink]
    logger.setLevel(level)
    logger.propagate = False
