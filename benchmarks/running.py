"""Start a server, wait until it answers rightly, and end it for certain."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from benchmarks import forms, processes
from benchmarks.failure import BenchmarkError
from benchmarks.forms import Request
from benchmarks.peers import Peer
from benchmarks.ports import free_port
from benchmarks.rows import Service

HERE = Path(__file__).resolve().parent
START_SECONDS = 180.0  # of 64 replicas on two cores
REST_SECONDS, REST_PERCENT = 0.3, 30  # of a core, all processes together; Ray is never quite idle
STOP_SECONDS = 3.0  # mosec now and then takes as long as its `--timeout`


@dataclass(frozen=True)
class Running:
    """A server that answers at `port` and whose processes bear `mark`."""

    peer: Peer
    service: Service
    port: int
    mark: str

    @property
    def request(self) -> Request:
        """What is posted to it."""
        return forms.request(self.peer.form, self.port, self.service.body)


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
            **peer.variables,
            "BENCHMARK_SERVICE": service.name,
            processes.MARK: server.mark,
            "TMPDIR": folder,
            **(extra or {}),
        }
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                peer.command(server.port),
                cwd=HERE,
                env=os.environ | names,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            _wait_until_it_answers(server, process, log)
            _wait_until_it_rests(server)
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


def _wait_until_it_rests(server: Running) -> None:
    """One replica answers; of sixteen, others may still be starting."""
    end = time.monotonic() + START_SECONDS
    resting = False
    while not resting and time.monotonic() < end:
        before = processes.used(server.mark)
        time.sleep(REST_SECONDS)
        each = processes.shares(before, processes.used(server.mark), REST_SECONDS).values()
        resting = sum(map(sum, each)) < REST_PERCENT


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]


def answers(server: Running) -> bool:
    """Whether it answers one request.

    Raises:
        BenchmarkError: it answers, but something else than it should.
    """
    try:
        status, headers, body = _post(server)
    except (OSError, http.client.HTTPException):
        return False
    if status != 200:
        return False
    if forms.value(server.peer.form, headers, body) != json.loads(server.service.answer):
        raise BenchmarkError(
            f"{server.peer.name} answers {body[:100]!r}, not {server.service.answer[:100]}"
        )
    return True


def _post(server: Running) -> tuple[int, dict[str, str], bytes]:
    request = server.request
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        path = urlsplit(request.url).path
        connection.request("POST", path, request.body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def _end(server: Running, process: subprocess.Popen[bytes]) -> None:
    """Ask the server to end, kill what does not, and see that all of it is gone."""
    family = processes.marked(server.mark)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    slow = _left_after(server, process, family)
    if slow:
        names = ", ".join(sorted(set(slow.values())))
        sys.stderr.write(f"{server.peer.name} had to be killed: {names}\n")
    for pid in slow:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if _left_after(server, process, family):
        raise BenchmarkError(f"{server.peer.name} cannot be ended")
    process.wait()


def _left_after(
    server: Running, process: subprocess.Popen[bytes], family: dict[int, str]
) -> dict[int, str]:
    """What lives of a server when it has had the time to end; `family` is what it was before."""
    end = time.monotonic() + STOP_SECONDS
    while True:
        process.poll()
        orphans = {pid: name for pid, name in family.items() if processes.alive(pid)}
        left = orphans | processes.marked(server.mark)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)
