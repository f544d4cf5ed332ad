"""Where a lone request's time goes, seen from the kernel: which thread acts when, and where.

    .venv/bin/python -m benchmarks.timeline

One connection loads an echo while `perf` notes the system calls of the threads that a request
passes. The tracepoints cost each step a little; what they show is the order, the proportions, and
which processor each thread ran on. It needs `perf` (``apt-get install linux-perf``) and root.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import closed_loop, processes
from benchmarks.failure import BenchmarkError
from benchmarks.peers import OURS, PEERS
from benchmarks.results import tell
from benchmarks.rows import ECHO
from benchmarks.running import HERE, Running, running

IO_THREAD = "ZMQbg/IO/0"
WORD = 8  # bytes that one thread wakes another with
CALLS = ("read", "write", "sendto", "recvfrom")
SIZES = r"(?:count|len|size): 0x([0-9a-f]+)"
LINE = re.compile(rf"\s*(\d+) \[(\d+)\] +([0-9.]+): +syscalls:sys_enter_(\w+): .*?{SIZES}")


class Event(NamedTuple):
    """A system call begins: at which microsecond, of which thread, where, of what kind."""

    at: float
    thread: str
    processor: int
    call: str


class Step(NamedTuple):
    """A call that each request makes once, and what has been done when it is made."""

    thread: str
    call: str
    done: str


WAY = (
    Step("gateway", "read", "the gateway turns to the client's connection"),
    Step("gateway", "wake", "request read, dispatched, its bundle with ZeroMQ"),
    Step("gateway's I/O", "sendto", "ZeroMQ's thread has woken and writes it"),
    Step("replica's I/O", "recvfrom", "the replica's ZeroMQ has woken and reads it"),
    Step("replica", "woken", "the replica has woken"),
    Step("replica", "wake", "bundle read, forward run, outcomes with ZeroMQ"),
    Step("replica's I/O", "sendto", "ZeroMQ's thread runs and writes them"),
    Step("gateway's I/O", "recvfrom", "the gateway's ZeroMQ has woken and reads them"),
    Step("gateway", "woken", "the gateway has woken"),
    Step("gateway", "write", "bundle read, answer made and being written"),
    Step("client", "read", "the client has woken and reads it"),
    Step("client", "write", "it sends its next request"),
    Step("gateway", "read", "the gateway has ended its turn and looks for more"),
)


def events(lines: Iterable[str], threads: Mapping[int, str]) -> Iterator[Event]:
    """The calls of these threads, out of what ``perf script`` prints.

    Example:
        >>> line = " 7 [001]  5.000002: syscalls:sys_enter_write: fd: 0x1, count: 0x00000008"
        >>> list(events([line], {7: "gateway"}))
        [Event(at=5000002.0, thread='gateway', processor=1, call='wake')]
    """
    for line in lines:
        found = LINE.match(line)
        if found is None:
            continue
        thread, processor, seconds, call, size = found.groups()
        name = threads.get(int(thread))
        if name is not None:
            if int(size, 16) == WORD and call in ("read", "write"):
                call = "woken" if call == "read" else "wake"
            yield Event(float(seconds) * 1e6, name, int(processor), call)


def passages(seen: Sequence[Event], way: Sequence[Step] = WAY) -> list[list[float]]:
    """When each request made its steps, in microseconds; of those that made all, in order."""
    starts = [
        at for at, event in enumerate(seen) if (event.thread, event.call) == (way[0][0], way[0][1])
    ]
    found = []
    for start, end in pairwise(starts):
        times: list[float] = []
        for event in seen[start : end + 1]:
            step = way[len(times)]
            if (event.thread, event.call) == step[:2]:
                times.append(event.at)
                if len(times) == len(way):
                    found.append(times)
                    break
    return found


def table(passed: Sequence[Sequence[float]], way: Sequence[Step] = WAY) -> str:
    """The median time of each step since the one before it, and of all together.

    Example:
        >>> steps = (Step("a", "read", "begun"), Step("b", "write", "done"))
        >>> print(table([[1.0, 4.0], [5.0, 8.0]], steps))
           3.0 µs  done
           3.0 µs  together
    """
    rows = []
    for at, step in enumerate(way[1:]):
        rows.append((median(times[at + 1] - times[at] for times in passed), step.done))
    rows.append((median(times[-1] - times[0] for times in passed), "together"))
    return "\n".join(f"{took:6.1f} µs  {done}" for took, done in rows)


def processors(seen: Iterable[Event]) -> str:
    """On which processors each thread made its calls."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for event in seen:
        counts[event.thread][event.processor] += 1
    shown = []
    for thread, by_processor in counts.items():
        whole = sum(by_processor.values())
        places = [f"{number}: {n / whole:.0%}" for number, n in sorted(by_processor.items())]
        shown.append(f"  {thread:14} on processor {', '.join(places)}")
    return "\n".join(shown)


def threads_of(server: Running) -> dict[int, str]:
    """The threads that a request passes in a gateway and one replica, by number."""
    names = {"gateway": "gateway", "stage": "replica"}
    found = {}
    for pid, label in processes.marked(server.mark).items():
        if label in names:
            found[pid] = names[label]
            for task in Path(f"/proc/{pid}/task").iterdir():
                if (task / "comm").read_text().strip() == IO_THREAD:
                    found[int(task.name)] = f"{names[label]}'s I/O"
    return found


def trace(server: Running, seconds: float) -> list[Event]:
    """Load the server by one connection, and note what its threads do for so long.

    Raises:
        BenchmarkError: `perf` is not there, or may not do that.
    """
    if shutil.which("perf") is None:
        raise BenchmarkError(
            "perf sees the threads and is not installed: apt-get install linux-perf"
        )
    threads = threads_of(server)
    command = [closed_loop.wrk_path(), "-t1", "-c1", f"-d{round(seconds + 3)}s"]
    load = subprocess.Popen(
        [*command, "-s", str(HERE / "post.lua"), server.request.url],
        env=os.environ | closed_loop.posting(server.request),
        stdout=subprocess.DEVNULL,
    )
    try:
        for task in _client_threads(load.pid):
            threads[task] = "client"
        return list(events(_recorded(seconds), threads))
    finally:
        load.terminate()
        load.wait()


def _client_threads(pid: int) -> list[int]:
    """Those of the load generator, once it has begun."""
    subprocess.run(["sleep", "1"], check=True)
    return [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]


def _recorded(seconds: float) -> list[str]:
    with TemporaryDirectory(prefix="timeline-") as folder:
        data = f"{folder}/data"
        kinds = ",".join(f"syscalls:sys_enter_{call}" for call in CALLS)
        record = ["perf", "record", "-q", "-a", "-m", "4096", "-e", kinds, "-o", data]
        script = ["perf", "script", "-i", data, "-F", "tid,cpu,time,event,trace"]
        for command in ([*record, "sleep", str(seconds)], script):
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise BenchmarkError(f"{command[0]} {command[1]} failed: {ran.stderr[-500:]}")
    return ran.stdout.splitlines()


def main(arguments: list[str]) -> int:
    """Trace and print; the exit code is 2 where something needed was missing."""
    parser = argparse.ArgumentParser(prog="timeline", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        with running(PEERS[OURS], ECHO) as server:
            seen = trace(server, options.seconds)
    except BenchmarkError as error:
        tell(str(error))
        return 2
    passed = passages(seen)
    if not passed:
        tell("no request was seen from its beginning to its end")
        return 2
    sys.stdout.write(f"{len(passed)} requests\n{table(passed)}\n{processors(seen)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
