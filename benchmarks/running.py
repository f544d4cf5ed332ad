"""Start a server, put load on it, see what its processes used of the CPU, and end it for certain.

A server is known by a mark in the environment of every process that began in it: so its
processes are found however they were started, and none is overlooked when it must be gone.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
MARK = "BENCHMARK_MARK"
START_SECONDS = 60.0
STOP_SECONDS = 5.0


class BenchmarkError(Exception):
    """Something that a measurement needs is missing or failed; the text says what."""


@dataclass(frozen=True)
class Peer:
    """A server to measure: its name, what its services import, and its command line."""

    name: str
    vocabulary: str
    distribution: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figures:
    """One run of the load: requests/s, latencies in µs, failures, CPU in percent of one core."""

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: dict[str, float]


@dataclass(frozen=True)
class Running:
    """A server that answers at `port` and whose processes bear `mark`."""

    port: int
    mark: str

    def processes(self) -> dict[int, str]:
        """Ids and labels of its living processes."""
        return {pid: _label(_command(pid)) for pid in _marked(self.mark)}


@contextmanager
def running(peer: Peer, service: str) -> Iterator[Running]:
    """A server that serves `service`, from its first answer until all of it is gone.

    Raises:
        BenchmarkError: it does not answer in time, or something of it cannot be ended.
    """
    server = Running(_free_port(), secrets.token_hex(8))
    names = {"BENCHMARK_VOCABULARY": peer.vocabulary, "BENCHMARK_SERVICE": service}
    command = [sys.executable, str(HERE / "services.py"), "--address", "127.0.0.1"]
    with (
        TemporaryDirectory(prefix="benchmark-") as folder,
        subprocess.Popen(
            [*command, "--port", str(server.port), *peer.flags],
            env=os.environ | names | {MARK: server.mark, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait_until_it_answers(server, process, peer)
            yield server
        finally:
            _end(server, process, peer)


def load(server: Running, connections: int, seconds: float) -> Figures:
    """Keep `connections` requests under way for `seconds`, after a fifth as long to warm up."""
    _wrk(server, connections, seconds / 5)
    before, own_before = _ticks(server), _own_cpu()
    figures = _wrk(server, connections, seconds)
    after, own_after = _ticks(server), _own_cpu()
    took = figures["microseconds"] / 1e6
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = defaultdict(float, wrk=(own_after - own_before) / took * 100)
    for (pid, label), count in after.items():
        cpu[label] += (count - before.get((pid, label), 0)) / ticks / took * 100
    return Figures(
        rate=figures["requests"] / took,
        p50=figures["p50"],
        p99=figures["p99"],
        errors=int(figures["errors"]),
        cpu={label: round(share, 1) for label, share in sorted(cpu.items())},
    )


def wrk_path() -> str:
    """Where the load generator is.

    Raises:
        BenchmarkError: it is not installed.
    """
    path = shutil.which("wrk")
    if path is None:
        raise BenchmarkError("wrk makes the load and is not installed: apt-get install wrk")
    return path


def _wrk(server: Running, connections: int, seconds: float) -> dict[str, float]:
    url = f"http://127.0.0.1:{server.port}/inference"
    length = f"{max(1, round(seconds))}s"
    command = [wrk_path(), "-t1", f"-c{connections}", f"-d{length}", "-s", str(HERE / "post.lua")]
    run = subprocess.run([*command, url], capture_output=True, text=True)
    for line in run.stdout.splitlines():
        if line.startswith("figures "):
            figures: dict[str, float] = json.loads(line.removeprefix("figures "))
            return figures
    raise BenchmarkError(f"wrk gave no figures: {run.stdout}{run.stderr}")


def _wait_until_it_answers(server: Running, process: subprocess.Popen[bytes], peer: Peer) -> None:
    end = time.monotonic() + START_SECONDS
    while not _answers(server.port):
        if process.poll() is not None:
            raise BenchmarkError(f"{peer.name} ended with code {process.returncode} at its start")
        if time.monotonic() > end:
            raise BenchmarkError(f"{peer.name} did not answer within {START_SECONDS:.0f} s")
        time.sleep(0.05)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/inference", b'{"ready": 1}')
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _end(server: Running, process: subprocess.Popen[bytes], peer: Peer) -> None:
    """Ask the server to end, kill what does not, and see that all of it is gone."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    slow = _left_after(server, process, STOP_SECONDS)
    if slow:
        sys.stderr.write(f"{peer.name} had to be killed: {', '.join(sorted(slow.values()))}\n")
    for pid in slow:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if _left_after(server, process, STOP_SECONDS):
        raise BenchmarkError(f"{peer.name} cannot be ended")


def _left_after(
    server: Running, process: subprocess.Popen[bytes], seconds: float
) -> dict[int, str]:
    end = time.monotonic() + seconds
    while (left := server.processes()) and time.monotonic() < end:
        process.poll()
        time.sleep(0.05)
    return left


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and wanted in _read(int(name), "environ").split(b"\0"):
            yield int(name)


def _ticks(server: Running) -> dict[tuple[int, str], int]:
    """CPU time of each process so far, user and system, in clock ticks."""
    found = {}
    for pid, label in server.processes().items():
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        if len(fields) > 12:
            found[pid, label] = int(fields[11]) + int(fields[12])
    return found


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _label(command: list[str]) -> str:
    """A word for a process: the module it runs, or what it is called.

    Example:
        >>> _label(["/x/bin/python", "-P", "-m", "gateway", "--settings", "y"])
        'gateway'
    """
    if "-m" in command[:-1]:
        return command[command.index("-m") + 1]
    line = " ".join(command)
    for word, label in {"spawn_main": "worker", "resource_tracker": "tracker"}.items():
        if word in line:
            return label
    return "parent" if "services.py" in line else Path(command[0]).name


def _command(pid: int) -> list[str]:
    return _read(pid, "cmdline").decode(errors="replace").rstrip("\0").split("\0")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
