"""The closed loop: `wrk` keeps so many requests under way, each connection one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks import processes
from benchmarks.failure import BenchmarkError
from benchmarks.forms import Request
from benchmarks.running import HERE, Running

LOAD = "wrk"  # what the load generator is called among the processes


@dataclass(frozen=True)
class Figures:
    """One run of a load.

    Attributes:
        rate: answers per second.
        p50: median of the latencies, in microseconds.
        p99: their 99th percentile.
        errors: requests that failed, or were answered by another status than 2xx or 3xx.
        cpu: percent of one core that each process used, by label; the load generator included.
    """

    rate: float
    p50: float
    p99: float
    errors: int
    cpu: dict[str, list[float]]


def load(server: Running, connections: int, seconds: float) -> Figures:
    """Keep `connections` requests under way for `seconds`, after a fifth as long to warm up.

    Both in whole seconds: of two and less, nothing is spent on warming up.
    """
    if seconds > 2:
        _wrk(server, connections, seconds / 5)
    before, own_before = processes.used(server.mark), _own_cpu()
    figures = _wrk(server, connections, seconds)
    after, own_after = processes.used(server.mark), _own_cpu()
    took = figures["microseconds"] / 1e6
    own = {LOAD: [round((own_after - own_before) / took * 100, 1)]}
    return Figures(
        rate=figures["requests"] / took,
        p50=figures["p50"],
        p99=figures["p99"],
        errors=int(figures["errors"]),
        cpu=processes.shares(before, after, took) | own,
    )


def burst(server: Running, connections: int, seconds: float) -> float:
    """Keep `connections` requests under way for `seconds`; returns how many were answered."""
    return _wrk(server, connections, seconds)["requests"]


def posting(request: Request) -> dict[str, str]:
    """The variables that tell `post.lua` what to post."""
    lines = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return {"BENCHMARK_BODY": request.body, "BENCHMARK_HEADERS": lines}


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
    length = f"{max(1, round(seconds))}s"
    command = [wrk_path(), "-t1", f"-c{connections}", f"-d{length}", "-s", str(HERE / "post.lua")]
    run = subprocess.run(
        [*command, server.request.url],
        env=os.environ | posting(server.request),
        capture_output=True,
        text=True,
    )
    for line in run.stdout.splitlines():
        if line.startswith("figures "):
            figures: dict[str, float] = json.loads(line.removeprefix("figures "))
            return figures
    raise BenchmarkError(f"wrk gave no figures: {run.stdout}{run.stderr}")


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
