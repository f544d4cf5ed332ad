"""Start a server, wait until it answers rightly, and end it for certain."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import processes
from benchmarks.failure import BenchmarkError
from benchmarks.peers import Peer
from benchmarks.rows import Service

HERE = Path(__file__).resolve().parent
START_SECONDS = 60.0
STOP_SECONDS = 3.0  # mosec now and then takes as long as its `--timeout`


@dataclass(frozen=True)
class Running:
    """A server that answers at `port` and whose processes bear `mark`."""

    peer: Peer
    service: Service
    port: int
    mark: str

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}/inference"


@contextmanager
def running(
    peer: Peer, service: Service, extra: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A server that serves `service`, from its first right answer until all of it is gone.

    Args:
        peer: the server.
        service: what it serves.
        extra: variables of its environment.

    Raises:
        BenchmarkError: it does not answer in time or not rightly, or something of it cannot be
            ended.
    """
    server = Running(peer, service, free_port(), secrets.token_hex(8))
    with TemporaryDirectory(prefix="benchmark-") as folder:
        names = {
            "BENCHMARK_VOCABULARY": peer.vocabulary,
            "BENCHMARK_SERVICE": service.name,
            processes.MARK: server.mark,
            "TMPDIR": folder,
            **(extra or {}),
        }
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*peer.command(server.port), *peer.flags],
                cwd=HERE,
                env=os.environ | names,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            _wait_until_it_answers(server, process, log)
            yield server
        finally:
            _end(server, process)


def _wait_until_it_answers(server: Running, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    name = f"{server.peer.name} with {server.service.name}"
    while not answers(server):
        if process.poll() is not None:
            raise BenchmarkError(
                f"{name} ended with code {process.returncode} at its start:\n{_last_words(log)}"
            )
        if time.monotonic() > end:
            raise BenchmarkError(
                f"{name} did not answer within {START_SECONDS:.0f} s:\n{_last_words(log)}"
            )
        time.sleep(0.02)


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def answers(server: Running) -> bool:
    """Whether it answers one request.

    Raises:
        BenchmarkError: it answers, but something else than it should.
    """
    try:
        status, body = _post(server)
    except (OSError, http.client.HTTPException):
        return False
    if status == 200 and json.loads(body) != json.loads(server.service.answer):
        raise BenchmarkError(
            f"{server.peer.name} answers {body[:100]!r}, not {server.service.answer[:100]}"
        )
    return status == 200


def _post(server: Running) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(
            "POST", "/inference", server.service.body, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _end(server: Running, process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, kill what does not, and see that all of it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    slow = _left_after(server, process, STOP_SECONDS)
    if slow:
        names = ", ".join(sorted(set(slow.values())))
        sys.stderr.write(f"{server.peer.name} had to be killed: {names}\n")
    for pid in slow:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if _left_after(server, process, STOP_SECONDS):
        raise BenchmarkError(f"{server.peer.name} cannot be ended")
    process.wait()


def _left_after(
    server: Running, process: subprocess.Popen[bytes], seconds: float
) -> dict[int, str]:
    end = time.monotonic() + seconds
    while (left := processes.marked(server.mark)) and time.monotonic() < end:
        process.poll()
        time.sleep(0.05)
    return left


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
