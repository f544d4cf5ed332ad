"""How soon a service answers, and how soon a new replica takes work."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks import counts, processes
from benchmarks.findings import Bound, Finding
from benchmarks.peers import OURS, PEERS
from benchmarks.ports import free_port
from benchmarks.rows import SMALL, Service
from benchmarks.running import HERE, Running, answers
from benchmarks.scale.holder import busy
from benchmarks.scale.projects import mesh, wait

SERVICE = """
import sys
import time

sys.path.insert(0, {here!r})
from counts import Counts
from mesh import Worker


class Echo(Worker):
    def __init__(self):
        self.counts = Counts()
        self.counts.constructed()

    def forward(self, data):
        now = time.monotonic()
        self.counts.batch(1, now, now)
        return data
"""
FILE = """
[gateway]
http = "127.0.0.1:{http}"
bind = "tcp://127.0.0.1:{bind}"
insecure = true

[stages.echo]
worker = "service:Echo"

[routes]
"/inference" = ["echo"]
"""


def starts(times: int) -> list[Finding]:
    """From `mesh up` to the first answer; from a replica's constructor to its first request."""
    ready, used = zip(*(_up() for _ in range(times)), strict=True)
    joined = [_join() for _ in range(times)]
    up, new = "mesh up of echo until it answers", "new replica, constructed until at work"
    spent = Finding("starts", f"{up}, CPU of all its processes", median(used), "s")
    return [*_two(up, ready, Bound(1)), spent, *_two(new, joined, Bound(0.5))]


def _two(what: str, each: Sequence[float], bound: Bound) -> list[Finding]:
    return [
        Finding("starts", f"{what}, median of {len(each)}", median(each), "s", bound),
        Finding("starts", f"{what}, slowest", max(each), "s"),
    ]


def _up() -> tuple[float, float]:
    """Seconds until it answers, and seconds of the processor until then."""
    with _project() as (folder, server):
        began = time.monotonic()
        with mesh(folder, server.mark, "up"):
            wait(lambda: answers(server))
            took = time.monotonic() - began
            return took, sum(used for _, used in processes.used(server.mark).values())


def _join() -> float:
    """Start a second replica while requests keep coming; returns its constructor's age at work."""
    with (
        _project() as (folder, server),
        mesh(folder, server.mark, "gateway"),
        mesh(folder, server.mark, "stage", "echo"),
    ):
        wait(lambda: answers(server))
        old = set(counts.read(folder / "counts"))
        with busy(server.request, connections=64), mesh(folder, server.mark, "stage", "echo"):
            wait(lambda: bool(_at_work(folder, old)))
            (new,) = _at_work(folder, old)
            return new.first - new.made


def _at_work(folder: Path, old: set[int]) -> list[counts.Record]:
    """What replicas that are not old ones have counted, once they had a request."""
    each = counts.read(folder / "counts").items()
    return [record for pid, record in each if pid not in old and record.first]


@contextmanager
def _project() -> Iterator[tuple[Path, Running]]:
    """A folder with an echo service, and what stands for its server."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder, port = Path(name), free_port()
        (folder / "counts").mkdir()
        (folder / "service.py").write_text(SERVICE.format(here=str(HERE)))
        (folder / "mesh.toml").write_text(FILE.format(http=port, bind=free_port()))
        yield folder, Running(PEERS[OURS], Service("echo", SMALL, SMALL), port, name)
