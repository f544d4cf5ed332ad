"""One running child process: what it was started with, says, computes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mesh.board import SIZE, Board, Running
from mesh.process.shared_memory import shared_memory

_CHUNK = 65536


class Command(NamedTuple):
    """How a process is started.

    Attributes:
        argv: program and arguments; the descriptors and the settings file are added to them.
        environment: all its environment variables.
        settings: what it is handed, as plain values for JSON.
        descriptors: which it inherits, under their numbers here.
    """

    argv: list[str]
    environment: dict[str, str]
    settings: dict[str, Any]
    descriptors: tuple[int, ...] = ()


class Child:
    """One running process: its pipe, its pidfd, and what it has said of a line so far."""

    def __init__(
        self, command: Command, settings: str, parent_fd: int, *, computes: bool = False
    ) -> None:
        """Start it in a group of its own, with a board if it `computes`; OSError if that fails."""
        self.incarnation = 0
        self.board: Board | None = None
        self.ready_fd, child_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        own = [child_end]
        flags = [f"--settings={settings}", f"--ready-fd={child_end}", f"--parent-fd={parent_fd}"]
        if computes:
            own.append(self._share_board())
            flags.append(f"--board-fd={own[-1]}")
        try:
            # The child's end must block, or a long last word would be cut.
            os.set_blocking(child_end, True)
            self.process = subprocess.Popen(
                [*command.argv, *flags],
                env=command.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(*own, parent_fd, *command.descriptors),
                process_group=0,
            )
        except BaseException:
            os.close(self.ready_fd)
            raise
        finally:
            for descriptor in own:
                os.close(descriptor)
        self.pidfd = os.pidfd_open(self.process.pid)
        self.hung_up = False
        self._batch = self._seen = 0.0  # since when it computes, how long it was seen to
        self._unfinished = b""

    def computes_for(self, since: float, now: float, passed: float) -> float:
        """Seconds for which it was seen to compute the batch that it began at `since`.

        Time in which it stood still is not among them, nor is time in which nobody looked.

        Args:
            since: see `Running`.
            now: the time, by the same clock.
            passed: seconds since somebody last looked, a pause of our own left out.
        """
        if since != self._batch:
            self._batch, self._seen = since, min(now - since, passed)
        elif not _is_stopped(self.process.pid):
            self._seen += passed
        return self._seen

    def _share_board(self) -> int:
        """Make the memory for its board; returns the descriptor that it inherits."""
        descriptor = shared_memory("mesh-board", SIZE)
        self.board = Board(memoryview(mmap.mmap(descriptor, SIZE)))
        return descriptor

    def computing(self) -> Running | None:
        """What it computes, or computed when it died."""
        return None if self.board is None else self.board.read()

    def words(self) -> Iterator[dict[str, Any]]:
        """What it has said since the last time, as far as lines are complete."""
        *lines, self._unfinished = (self._unfinished + self._read()).split(b"\n")
        for line in lines:
            if (words := _object(line)) is not None:
                yield words

    def terminate(self) -> None:
        """Ask it to end."""
        signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def kill(self) -> None:
        """End it and its whole group, which the not yet reaped leader's id still names."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def reap(self) -> tuple[int, int]:
        """Exit code and signal of a process that is gone; whatever it started goes with it."""
        os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
        self.kill()
        status = self.process.wait()
        os.close(self.pidfd)
        os.close(self.ready_fd)
        return max(status, 0), max(-status, 0)

    def _read(self) -> bytes:
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.ready_fd, _CHUNK):
                parts.append(part)
            self.hung_up = True
        return b"".join(parts)


def _is_stopped(pid: int) -> bool:
    """Whether a process was told to stand still, and does."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in b"Tt"
    except OSError:
        return False


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; a user's code may have written there, too."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
