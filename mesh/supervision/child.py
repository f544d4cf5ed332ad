"""One running child process: how it starts, what it reports and computes, and how it ends."""

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
from mesh.worker.request_info import requests_text

_READ_BYTES = 65536
_ORDER = b"s"  # to stop in order
KILLED_END_S = 5.0  # seconds that a killed process may take to be gone


class Command(NamedTuple):
    """How to start a process.

    Attributes:
        argv: program and arguments; `Child` appends the descriptors and the settings file.
        environment: all environment variables of the process.
        settings: the settings of the process, as plain values for JSON.
        descriptors: the descriptors that it inherits; they keep their numbers.
    """

    argv: list[str]
    environment: dict[str, str]
    settings: dict[str, Any]
    descriptors: tuple[int, ...] = ()


class Child:
    """One running process: its pipes, its pidfd, and the incomplete line that it has sent.

    Attributes:
        listens: whether it reads orders; until then it is still loading.
    """

    def __init__(self, command: Command, settings: str, *, computes: bool = False) -> None:
        """Start the process in a group of its own, with a batch record if it `computes`.

        Raises:
            OSError: it cannot be started.
        """
        self.incarnation = 0
        self.batch_record: BatchRecord | None = None
        self.ready_fd, child_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        # The end of this pipe tells the child that the supervisor died; each byte is an order.
        parent_fd, self._order_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        own = [child_end, parent_fd]
        flags = [f"--settings={settings}", f"--ready-fd={child_end}", f"--parent-fd={parent_fd}"]
        if computes:
            own.append(self._share_record())
            flags.append(f"--record-fd={own[-1]}")
        try:
            # The child's end must block, or a long last message would be cut off.
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
        # When its batch began, and for how long it was seen computing.
        self._batch = self._seen = 0.0
        self._unfinished = b""

    def computes_for(self, since: float, now: float, passed: float) -> float:
        """Return for how many seconds it was seen computing the batch that began at `since`.

        Time in which the process was stopped does not count, nor do pauses of this process.

        Args:
            since: see `RunningBatch`.
            now: the time, by the same clock.
            passed: seconds since the last check, without pauses of this process.
        """
        if since != self._batch:
            self._batch, self._seen = since, min(now - since, passed)
        elif not _is_stopped(self.process.pid):
            self._seen += passed
        return self._seen

    def _share_record(self) -> int:
        """Create the memory of its batch record; return the descriptor that the child inherits."""
        descriptor = shared_memory("mesh-batch-record", SIZE + CRASH_REPORT_BYTES)
        self._memory = mmap.mmap(descriptor, SIZE + CRASH_REPORT_BYTES)
        self.batch_record = BatchRecord(memoryview(self._memory))
        return descriptor

    def computing(self) -> RunningBatch | None:
        """Return the batch that it computes, or computed when it died."""
        return None if self.batch_record is None else self.batch_record.read()

    def doing(self) -> str:
        """Describe what it does, or did when it died: the requests that it computes, or the step
        of its start; "" if neither is known."""
        if self.batch_record is None:
            return ""
        running = self.batch_record.read()
        return (
            self.batch_record.step_of_start() if running is None else requests_text(running.names)
        )

    def crash_stack(self) -> str:
        """Return where in the user's code the process crashed, "" if it did not crash."""
        return "" if self.batch_record is None else stack_of_crash(self._memory[SIZE:])

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived completely since the last call."""
        *lines, self._unfinished = (self._unfinished + self._read()).split(b"\n")
        for line in lines:
            if (message := _object(line)) is not None:
                self.listens = self.listens or message.get("event") in ("bound", "ready")
                yield message

    def terminate(self) -> None:
        """Order the process to drain and exit. One that is still loading also gets SIGTERM.

        The signal alone is not enough: any process may send one, and a worker may have replaced
        its handler.
        """
        with contextlib.suppress(OSError):
            os.write(self._order_fd, _ORDER)
        if not self.listens:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process and its group. The group's id stays valid until the leader is reaped.

        Both, because the worker may have moved the process into another group.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the process to end. A killed process may hang in the kernel, on a device."""
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def reap(self) -> tuple[int | None, int]:
        """Return exit code and signal of an ended process; kill what is left of its group.

        The code is None if the user's code has already waited for it, or if the kernel has, because
        SIGCHLD is ignored.
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
        """Close the descriptors: the process has ended, or belongs to another parent."""
        for descriptor in (self.pidfd, self.ready_fd, self._order_fd):
            os.close(descriptor)

    def _how_it_ended(self, status: os.waitid_result | None) -> tuple[int | None, int]:
        exited = status is None or status.si_code == os.CLD_EXITED
        number = 0 if status is None else status.si_status
        # So that `subprocess` does not wait for it again.
        self.process.returncode = number if exited else -number
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
    """Return whether a process is stopped (SIGSTOP, a debugger)."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in b"Tt"
    except OSError:
        return False


def _object(line: bytes) -> dict[str, Any] | None:
    """Parse the JSON object in a line; None for anything else, as user code may write here, too."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
