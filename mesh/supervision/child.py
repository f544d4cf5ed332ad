"""One running child process: what it was started with, says, computes, and how it ends."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mesh.logs.failure_text import stack_of_crash
from mesh.process.batch_record import CRASH_REPORT_BYTES, SIZE, BatchRecord, RunningBatch
from mesh.process.shared_memory import shared_memory
from mesh.worker.request_info import requests_told

_READ_BYTES = 65536
_ORDER = b"s"  # to stop in order
KILLED_END_S = 5.0  # seconds that a killed process may take to be gone


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
    """One running process: its pipes, its pidfd, and what it has said of a line so far.

    Attributes:
        listens: whether it hears orders; until then it is still loading.
    """

    def __init__(self, command: Command, settings: str, *, computes: bool = False) -> None:
        """Start the process in a group of its own, with a batch record if it `computes`.

        Raises:
            OSError: it cannot be started.
        """
        self.incarnation = 0
        self.batch_record: BatchRecord | None = None
        self.ready_fd, child_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # Its end tells the child that this process is gone, whatever is written is an order.
        parent_fd, self._order_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        own = [child_end, parent_fd]
        flags = [f"--settings={settings}", f"--ready-fd={child_end}", f"--parent-fd={parent_fd}"]
        if computes:
            own.append(self._share_record())
            flags.append(f"--record-fd={own[-1]}")
        try:
            # The child's end must block, or a long last word would be cut.
            os.set_blocking(child_end, True)
            self.process = subprocess.Popen(
                [*command.argv, *flags],
                env=command.environment,
                stdin=subprocess.DEVNULL,
                pass_fds=(*own, *command.descriptors),
                process_group=0,
            )
            self.pidfd = os.pidfd_open(self.process.pid)
        except BaseException:
            os.close(self.ready_fd)
            os.close(self._order_fd)
            raise
        finally:
            for descriptor in own:
                os.close(descriptor)
        self.hung_up = self.listens = False
        self._batch = self._seen = 0.0  # since when it computes, how long it was seen to
        self._unfinished = b""

    def computes_for(self, since: float, now: float, passed: float) -> float:
        """Seconds for which it was seen to compute the batch that it began at `since`.

        Time in which it stood still is not among them, nor is time in which we did not look.

        Args:
            since: see `RunningBatch`.
            now: the time, by the same clock.
            passed: seconds since we last looked, a pause of our own left out.
        """
        if since != self._batch:
            self._batch, self._seen = since, min(now - since, passed)
        elif not _is_stopped(self.process.pid):
            self._seen += passed
        return self._seen

    def _share_record(self) -> int:
        """Make the memory for its batch record; returns the descriptor that it inherits."""
        descriptor = shared_memory("mesh-batch-record", SIZE + CRASH_REPORT_BYTES)
        self._memory = mmap.mmap(descriptor, SIZE + CRASH_REPORT_BYTES)
        self.batch_record = BatchRecord(memoryview(self._memory))
        return descriptor

    def computing(self) -> RunningBatch | None:
        """What it computes, or computed when it died."""
        return None if self.batch_record is None else self.batch_record.read()

    def doing(self) -> str:
        """What it does, or did when it died: the requests that it computes, or a step of its start;
        "" if that is not known."""
        if self.batch_record is None:
            return ""
        running = self.batch_record.read()
        return (
            self.batch_record.step_of_start() if running is None else requests_told(running.names)
        )

    def crash_stack(self) -> str:
        """Where in the user's code it was when it crashed, "" if it did not."""
        return "" if self.batch_record is None else stack_of_crash(self._memory[SIZE:])

    def words(self) -> Iterator[dict[str, Any]]:
        """What it has said since the last time, as far as lines are complete."""
        *lines, self._unfinished = (self._unfinished + self._read()).split(b"\n")
        for line in lines:
            if (words := _object(line)) is not None:
                self.listens = self.listens or words.get("event") in ("bound", "ready")
                yield words

    def terminate(self) -> None:
        """Order it to end in order. One that is still loading is ended by a signal.

        Not by the signal alone, which any process may send, and a worker may have replaced.
        """
        with contextlib.suppress(OSError):
            os.write(self._order_fd, _ORDER)
        if not self.listens:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def kill(self) -> None:
        """End it and its whole group, which the not yet reaped leader's id still names.

        Both: its worker may have put it into another group.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end. One that waits in the kernel for a device does not end when killed."""
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def reap(self) -> tuple[int | None, int]:
        """Exit code and signal of a process that is gone; whatever it started goes with it.

        The code is None where a user's own code has waited for every child of this process, or the
        system does, as SIGCHLD is ignored.
        """
        try:
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            self.kill()
            status = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        except ChildProcessError:
            status = None
            if not Path(f"/proc/{self.process.pid}").exists():  # or its id is another process's now
                self.kill()
        self.close()
        return self._how_it_ended(status)

    def close(self) -> None:
        """Give the descriptors back: it is gone, or is another process's child."""
        for descriptor in (self.pidfd, self.ready_fd, self._order_fd):
            os.close(descriptor)

    def _how_it_ended(self, status: os.waitid_result | None) -> tuple[int | None, int]:
        exited = status is None or status.si_code == os.CLD_EXITED
        number = 0 if status is None else status.si_status
        self.process.returncode = number if exited else -number  # it need not be waited for again
        if status is None:
            return None, 0
        return (number, 0) if exited else (0, number)

    def _read(self) -> bytes:
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.ready_fd, _READ_BYTES):
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
