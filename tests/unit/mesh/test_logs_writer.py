"""Lines for readers that read, that do not, and that are gone."""

import errno
import fcntl
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from mesh.logs import writer as module
from mesh.logs.writer import Writer

PATIENCE = 10.0


def notice(count: int, why: str) -> bytes:
    return b"%d: %b\n" % (count, why.encode())


class Pipe:
    """A pipe, and a writer to it."""

    def __init__(self, limit: int = 1000) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4096)
        self.writer = Writer(self.write_end, notice, limit)

    def fill(self) -> int:
        """Write until the pipe takes no more; returns how many lines it took."""
        count = 0
        while not self.writer._kept and self.writer._thread is None:
            self.writer.write(b"%05d\n" % count)
            count += 1
        return count

    def read(self, mark: bytes) -> list[bytes]:
        """The lines up to one."""
        got, end = b"", monotonic() + PATIENCE
        while mark not in got:
            assert monotonic() < end
            if select.select([self.read_end], [], [], 0.1)[0]:
                got += os.read(self.read_end, 1 << 20)
        return got.splitlines()

    def hang_up(self) -> None:
        os.close(self.read_end)
        self.read_end = -1

    def give_up(self) -> None:
        os.close(self.write_end)
        self.write_end = -1

    def close(self) -> None:
        self.writer.close()
        for fd in (self.read_end, self.write_end):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def until(true: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE
    while not true():
        assert monotonic() < end
        threading.Event().wait(0.005)


def test_what_is_read_goes_at_once_without_a_thread(pipe: Pipe) -> None:
    for _ in range(1000):
        pipe.writer.write(b"hello\n")
        assert os.read(pipe.read_end, 100) == b"hello\n"
        assert pipe.writer._thread is None


def test_what_nobody_reads_is_kept_in_order_and_then_dropped(pipe: Pipe) -> None:
    count = pipe.fill()
    for number in range(count, count + 1000):
        pipe.writer.write(b"%05d\n" % number)
    lines = pipe.read(b"the log was not read")
    *kept, told = lines
    assert kept == [b"%05d" % number for number in range(len(kept))]
    assert told == b"%d: the log was not read" % (count + 1000 - len(kept))
    until(lambda: pipe.writer._thread is None)
    pipe.writer.write(b"again\n")
    assert pipe.read(b"again") == [b"again"]


def test_a_line_longer_than_the_limit_goes_whole(pipe: Pipe) -> None:
    pipe.writer.write(b"x" * 50_000 + b"\n")
    pipe.writer.write(b"this one is too much\n")
    assert pipe.read(b"1: the log")[0] == b"x" * 50_000


def test_the_open_file_of_others_stays_as_it_was(pipe: Pipe) -> None:
    pipe.fill()
    assert os.get_blocking(pipe.write_end)


def test_a_reader_that_is_gone_is_no_trouble(pipe: Pipe) -> None:
    pipe.fill()
    pipe.hang_up()
    until(lambda: pipe.writer._thread is None)
    pipe.writer.write(b"to nobody\n")
    assert not pipe.writer._dropped


def test_who_closes_the_descriptor_gets_no_lines_in_his_files(pipe: Pipe, tmp_path: Path) -> None:
    number = pipe.write_end
    pipe.give_up()
    with (tmp_path / "file").open("w+b") as file:
        if file.fileno() != number:
            os.dup2(file.fileno(), number)
            pipe.write_end = number
        pipe.writer.write(b"ours\n")
        assert pipe.read(b"ours") == [b"ours"]
        assert file.read() == b""


def test_flushing_waits_for_a_reader_that_reads(pipe: Pipe) -> None:
    pipe.fill()
    reader = threading.Thread(target=pipe.read, args=(b"last",))
    reader.start()
    pipe.writer.write(b"last\n")
    module.flush()
    assert not pipe.writer._size
    reader.join()


def test_flushing_waits_for_nobody_else(pipe: Pipe) -> None:
    pipe.fill()
    began = monotonic()
    pipe.writer.flush(0.05)
    assert monotonic() - began < PATIENCE / 2
    assert pipe.writer._size


def test_an_interpreter_that_ends_starts_no_thread(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        pipe.fill()
        pipe.writer.write(b"last\n")
        pipe.writer.flush(0.02)
        assert pipe.writer._size
        reader = threading.Timer(0.02, pipe.read, (b"last",))
    reader.start()
    pipe.writer.flush(PATIENCE)
    assert not pipe.writer._size
    reader.join()


def test_a_forked_child_writes_nothing_of_its_parent(pipe: Pipe) -> None:
    pipe.fill()
    child = os.fork()
    if not child:
        kept = pipe.writer._size
        pipe.writer.close()
        os._exit(kept)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pipe.writer._size


def test_a_handler_may_log_while_a_line_is_written(pipe: Pipe) -> None:
    with pipe.writer._lock:
        pipe.writer.write(b"from the handler\n")
    assert pipe.read(b"handler") == [b"from the handler"]


@pytest.mark.parametrize("nowait", [True, False])
def test_a_pipe_of_another_user(monkeypatch: pytest.MonkeyPatch, nowait: bool) -> None:
    """What cannot be opened anew is written without waiting if the kernel can, else by a thread."""

    def refuse(*_arguments: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    def unknown(*_arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        if not nowait:
            patch.setattr(os, "pwritev", unknown)
        pipe = Pipe()
        pipe.writer.write(b"first\n")
        assert pipe.read(b"first") == [b"first"]
        for number in range(3000):
            pipe.writer.write(b"%05d\n" % number)
    lines = pipe.read(b"the log was not read")
    assert lines[:-1] == [b"%05d" % number for number in range(len(lines) - 1)]
    assert (pipe.writer._send is not None) is nowait
    pipe.close()


def test_a_kernel_is_asked_once_only(pipe: Pipe) -> None:
    """The thread, too, may be the first to learn that the kernel cannot write without waiting."""

    def full(_line: object) -> int:
        raise BlockingIOError

    def unknown(_line: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    pipe.writer._send = full
    pipe.writer.write(b"one\n")
    pipe.writer._send = unknown
    pipe.writer.write(b"two\n")
    assert pipe.read(b"two") == [b"one", b"two"]
    assert pipe.writer._send is None


def test_a_file_gets_every_line_and_a_full_disk_is_told_of(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = Writer(file.fileno(), notice)
        writer.write(b"one\n")
        known = writer._send
        answers: list[Any] = [2, OSError(errno.ENOSPC, "No space left on device")]

        def disk(line: bytes) -> int:
            answer = answers.pop(0) if answers else OSError(errno.ENOSPC, "No space left on device")
            if isinstance(answer, OSError):
                raise answer
            return os.write(file.fileno(), bytes(line[:answer]))

        writer._send = disk
        writer.write(b"two\n")
        writer.write(b"three\n")
        writer._send = known
        writer.write(b"four\n")
        writer.close()
    why = b"the log could not be written (No space left on device)"
    assert (tmp_path / "log").read_bytes().splitlines() == [b"one", b"tw", b"2: " + why, b"four"]


def test_a_socket_that_nobody_reads() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.setdefaulttimeout(5.0)  # a user's; O_NONBLOCK would be everybody's
        try:
            writer = Writer(theirs.fileno(), notice, 1000)
        finally:
            socket.setdefaulttimeout(None)
        for number in range(100_000):
            writer.write(b"%05d\n" % number)
            if writer._dropped:
                break
        assert os.get_blocking(theirs.fileno())
        got = b""
        while b"the log was not read" not in got:
            got += ours.recv(1 << 20)
        assert got.startswith(b"00000\n00001\n")
        writer.close()


def test_there_is_nothing_at_that_number() -> None:
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Writer(write, notice)
