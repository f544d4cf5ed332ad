"""Writes log lines to a descriptor without ever waiting for the reader.

A full pipe, a terminal stopped by Ctrl-S or a slow log driver block an ordinary `write`, and with
it
the whole process. This writer keeps a line that cannot be written at once, up to a limit, and a
thread writes it when the reader continues. The thread exists only while lines are kept: as long as
the log is read, a line costs its caller one system call.

``O_NONBLOCK`` belongs to the open file, which other processes share; setting it would make *their*
writes fail. So pipes and terminals are opened again, and sockets get a flag with each call.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, Protocol

Buffer = bytes | memoryview

MAX_BUFFERED_BYTES: Final = (
    1024 * 1024
)  # bytes kept while the log is not read; the line that exceeds them is the last
_PIPE_BYTES: Final = 4096  # bytes that a pipe accepts when it polls as writable
_RETRY_S: Final = 0.005  # seconds between two attempts if a file polls as writable but is not
_POLL_MS: Final = 200  # milliseconds between two checks of the thread whether the writer was closed
_FLUSH_LIMIT_S: Final = 2.0  # seconds for which a slow reader may delay the end of a process
# The reader is gone for good. A line about that would not be read either.
_PARTED: Final = frozenset({errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF})
# This kernel, or this kind of file, does not support writing without waiting.
_UNKNOWN: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ESPIPE})


class Target(Protocol):
    """Where lines go."""

    def write(self, line: bytes, /) -> None:
        """Write a complete line, with its newline. Never waits, never raises."""

    def close(self) -> None:
        """Release the resources."""


class _Port(NamedTuple):
    """Our own descriptor, and how to write to it without waiting."""

    fd: int
    send: Callable[[Buffer], int] | None  # None: impossible; only the thread writes
    close: Callable[[], None]


class Writer:
    """Writes lines to a descriptor, from any thread.

    Args:
        fd: the descriptor to open again. It is not used afterwards: if other code closes or
            replaces it, our lines do not end up in another file.
        notice: makes the line that reports how many lines were dropped, and why.
        limit: bytes kept while the log is not read.

    Example:
        >>> read, write = os.pipe()
        >>> writer = Writer(write, lambda count, why: b"%d lines dropped\\n" % count)
        >>> writer.write(b"hello\\n")
        >>> os.read(read, 100)
        b'hello\\n'
        >>> writer.close(); os.close(read); os.close(write)
    """

    def __init__(
        self, fd: int, notice: Callable[[int, str], bytes], limit: int = MAX_BUFFERED_BYTES
    ) -> None:
        """Open the same file again, or duplicate the descriptor. OSError if it is not open."""
        self._notice = notice
        self._limit = limit
        self._fd, self._send, self._close = _opened(fd)
        self._closed = False
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        """Start with no kept lines. A forked child does so, too: the parent writes its own
        lines."""
        # Reentrant: a signal handler may log while its thread holds it.
        self._lock = threading.RLock()
        self._kept: deque[Buffer] = deque()
        self._size = 0  # bytes that are kept or being written by the thread
        self._thread: threading.Thread | None = None
        self._dropped = 0
        self._why = ""
        self._full = False  # drop new lines until half of the kept ones have been read
        self._torn = False  # the last line was written incompletely

    def write(self, line: bytes, /) -> None:
        """Write a line now if that does not block, else keep it. Never waits, never raises."""
        with self._lock:
            if self._full or self._size >= self._limit:
                self._full = True
                self._drop("the log was not read")
                return
            if self._dropped or self._torn:
                line = self._announced(line)
            rest: Buffer | None = line
            if self._thread is None and not self._kept and self._send is not None:
                rest = self._attempt(line, self._send)
            if rest is not None:
                self._keep(rest)

    def _announced(self, line: bytes) -> bytes:
        """Return the line, preceded by a notice of dropped lines if necessary."""
        lead = b"\n" if self._torn else b""
        if self._dropped:
            lead += self._notice(self._dropped, self._why)
        return lead + line

    def _attempt(self, line: bytes, send: Callable[[Buffer], int]) -> Buffer | None:
        """Write as much as possible without waiting; return the rest to keep, None if none."""
        sent = 0
        try:
            while sent < len(line):
                sent += send(memoryview(line)[sent:] if sent else line)
        except BlockingIOError:
            return memoryview(line)[sent:] if sent else line
        except OSError as error:
            if error.errno in _UNKNOWN and not sent:
                self._send = None
                return line
            self._fail(error, torn=sent > 0)
        else:
            self._dropped, self._torn = 0, False
        return None

    def _fail(self, error: OSError, *, torn: bool) -> None:
        self._torn = self._torn or torn
        if error.errno not in _PARTED:
            self._drop(f"the log could not be written ({error.strerror})")

    def _drop(self, why: str) -> None:
        self._dropped += 1
        self._why = why

    def _keep(self, line: Buffer) -> None:
        self._dropped, self._torn = 0, False  # the line contains the notice about them
        self._kept.append(line)
        self._size += len(line)
        if self._thread is None:
            thread = threading.Thread(target=self._drain, name="log", daemon=True)
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending; `flush` writes it
                return
            finally:
                if not thread.is_alive():  # a signal handler may have raised before it started
                    self._thread = None

    # --- the thread ------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Write the kept lines in order, as the reader takes them; end when none is left."""
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        while not self._closed:
            if not waiting.poll(_POLL_MS):
                continue
            line = self._next()
            if line is None:
                return
            if not self._write_kept(line):
                _nap()

    def _next(self) -> Buffer | None:
        """Return what to write next; None when all is written and the thread must end."""
        with self._lock:
            if self._full and self._size <= self._limit // 2:
                self._full = False
                self._keep(self._announced(b""))
            if self._kept:
                return self._gathered()
            self._thread = None
            return None

    def _gathered(self) -> Buffer:
        """Join as many complete lines as fit in one write, as each write switches threads."""
        kept = self._kept
        first = kept.popleft()
        size, lines = len(first), [first]
        while kept and size + len(kept[0]) <= _PIPE_BYTES:
            lines.append(kept.popleft())
            size += len(lines[-1])
        return b"".join(lines) if len(lines) > 1 else first

    def _write_kept(self, line: Buffer) -> bool:
        """Write a part of a kept line, outside the lock; return False if nothing was written.

        While this thread lives, all other threads only keep their lines, so the order is preserved.
        """
        sent, failure = 0, None
        try:
            send = self._send
            sent = os.write(self._fd, line[:_PIPE_BYTES]) if send is None else send(line)
        except BlockingIOError:
            pass
        except OSError as error:
            failure = error
        with self._lock:
            if failure is not None and failure.errno in _UNKNOWN and self._send is not None:
                self._send = failure = None
            if failure is not None:
                self._size -= len(line)
                self._fail(failure, torn=isinstance(line, memoryview))
                return True
            self._size -= sent
            if sent < len(line):
                self._kept.appendleft(memoryview(line)[sent:])
        return sent > 0

    # --- the end ---------------------------------------------------------------------------------

    def flush(self, patience: float = 0.5) -> None:
        """Wait until the kept lines are written; give up if none is for `patience` seconds."""
        size, now = self._size, monotonic()
        end, last = now + patience, now + max(patience, _FLUSH_LIMIT_S)
        while (self._kept or self._thread is not None) and monotonic() < min(end, last):
            line = self._next() if self._thread is None else None
            if line is None or not self._write_kept(line):
                _nap()
            if self._size < size:
                size, end = self._size, monotonic() + patience

    def close(self) -> None:
        """Close the descriptor; kept lines are lost."""
        self._closed = True
        _writers.discard(self)
        thread = self._thread
        if thread is not None:
            thread.join()
        self._close()


_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


def _nap() -> None:
    threading.Event().wait(_RETRY_S)


def flush() -> None:
    """Wait a little until the writers of this process have written their kept lines."""
    for writer in list(_writers):
        writer.flush()


def _after_fork() -> None:
    for writer in list(_writers):
        writer._begin()


os.register_at_fork(after_in_child=_after_fork)


def _opened(fd: int) -> _Port:
    """Open the same file under a descriptor of our own."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            own = os.open(f"/proc/self/fd/{fd}", flags)
        except OSError:  # the file is another user's, or there is no /proc
            return _duplicate(fd)
        return _Port(own, lambda line: os.write(own, line), lambda: os.close(own))
    if stat.S_ISSOCK(mode):
        return _socket(os.dup(fd))
    own = os.dup(fd)
    return _Port(own, lambda line: os.write(own, line), lambda: os.close(own))


def _duplicate(fd: int) -> _Port:
    """Duplicate a descriptor. Newer kernels accept a flag for each write to a pipe."""
    own = os.dup(fd)
    nowait = getattr(os, "RWF_NOWAIT", None)
    send = None if nowait is None else lambda line: os.pwritev(own, [line], -1, nowait)
    return _Port(own, send, lambda: os.close(own))


def _socket(own: int) -> _Port:
    default = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)  # a timeout set by the user would set O_NONBLOCK here
    try:
        made = socket.socket(fileno=own)
    finally:
        socket.setdefaulttimeout(default)
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    return _Port(own, lambda line: made.send(line, flags), made.close)
