"""Whether work goes to an idle replica whenever there is one, at any number of them."""

from __future__ import annotations

import json
import secrets
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks import closed_loop, latency, open_loop
from benchmarks.findings import Bound, Finding
from benchmarks.open_loop import Pool
from benchmarks.peers import OURS, PEERS
from benchmarks.ports import free_port
from benchmarks.results import forgiving
from benchmarks.rows import SMALL, Service
from benchmarks.running import HERE, Running
from benchmarks.scale.projects import mesh, wait
from benchmarks.scale.window import counted
from benchmarks.tally import Tally

FORWARD_S = 0.1
REPLICAS = (8, 32, 100)
WARM_S = 2.0
LEAST_S = 10.0  # a shorter window is a few forwards only
LATE_S = 0.05  # a request that took so much longer than its forward waited for another
GATEWAYS, SHARED, EACH = 8, 50, 6  # gateways, replicas, connections of each gateway
LONG_S = 0.2  # of a forward there
START_S = 120.0  # until all replicas are connected
SERVICE = """
import sys
import time

sys.path.insert(0, {here!r})
from counts import Counts
from mesh import Worker


class Slow(Worker):
    def __init__(self):
        self.counts = Counts()

    def forward(self, data):
        begin = time.monotonic()
        time.sleep({seconds})
        self.counts.batch(1, begin, time.monotonic())
        return data
"""
FILE = """
gateways = {binds}

[gateway]
http = "127.0.0.1:{http}"
bind = "{bind}"

[stages.slow]
worker = "service:Slow"
replicas = {replicas}

[routes]
"/inference" = ["slow"]
"""


def placement(seconds: float) -> list[Finding]:
    """As many connections as replicas; light loads; several gateways that share the replicas."""
    seconds = max(seconds, LEAST_S)
    found = []
    for number in REPLICAS:
        with forgiving(f"{number} replicas"):
            found.append(_full(number, seconds))
    with forgiving("200 replicas"):
        found.append(_light(seconds))
    with forgiving("8 replicas"):
        found.append(_beside(seconds))
    with forgiving(f"{GATEWAYS} gateways"):
        found.append(_shared(seconds))
    return found


def _full(number: int, seconds: float) -> Finding:
    """With a connection for each replica none should ever be idle."""
    with _gateways(1, number, FORWARD_S) as (folder, servers):
        load = partial(closed_loop.burst, servers[0], number, seconds + 2 * WARM_S)
        done = counted(load, folder / "counts", WARM_S, seconds)
    share = done.items / done.seconds * FORWARD_S / number
    what = f"{number} replicas, as many connections, 100 ms: share of the ideal rate"
    return Finding("placement", what, share, "", Bound(0.97, at_most=False))


def _light(seconds: float) -> Finding:
    with _gateways(1, 200, FORWARD_S) as (_, servers):
        point = latency.at(servers[0], 64, 0.025, 50.0, seconds)
    return Finding("placement", "200 replicas, 50 requests/s: p50", point.p50, "ms", Bound(105))


def _beside(seconds: float) -> Finding:
    with _gateways(1, 8, FORWARD_S) as (_, servers):
        tally = open_loop.load(servers[0].request, (30.0, 2 * seconds), pool=Pool(16, 64))
    what = "8 replicas, 30 requests/s: share that waits while a replica is idle"
    return Finding("placement", what, waiting_beside(tally, 8), "", Bound(0))


def waiting_beside(tally: Tally, replicas: int) -> float:
    """The share of the answers that took longer than a forward although a replica was idle.

    Example:
        >>> tally = Tally(30.0, 1.0, [(0.0, 0.1, 200, 0), (0.05, 0.15, 200, 0)])
        >>> waiting_beside(tally, 2), waiting_beside(tally, 1)
        (0.5, 0.0)
    """
    spans = [(due, due + took) for due, took, _, _ in tally.answers]
    late = 0
    for due, end in spans:
        others = sum(begun <= due < done for begun, done in spans) - 1
        late += end - due > FORWARD_S + LATE_S - 1e-9 and others < replicas
    return late / max(1, len(spans))


def _shared(seconds: float) -> Finding:
    """Gateways that know nothing of each other, the load spread evenly."""
    started = _gateways(GATEWAYS, SHARED, LONG_S)
    with started as (folder, servers), ThreadPoolExecutor(GATEWAYS) as pool:

        def load() -> None:
            whole = seconds + 2 * WARM_S
            list(pool.map(lambda server: closed_loop.burst(server, EACH, whole), servers))

        done = counted(load, folder / "counts", WARM_S, seconds)
    what = f"{GATEWAYS} gateways, {SHARED} replicas, {GATEWAYS * EACH} connections, 200 ms"
    bound = Bound(230, at_most=False)
    return Finding("placement", what, done.items / done.seconds, "requests/s of 240", bound)


@contextmanager
def _gateways(
    number: int, replicas: int, forward: float
) -> Iterator[tuple[Path, Sequence[Running]]]:
    """So many gateways that share one stage, once all are connected."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name, ExitStack() as started:
        folder, mark = Path(name), secrets.token_hex(8)
        (folder / "counts").mkdir()
        (folder / "service.py").write_text(SERVICE.format(here=str(HERE), seconds=forward))
        binds = [f"ipc://{folder}/{each}.sock" for each in range(number)]
        servers = []
        for each, bind in enumerate(binds):
            port, file = free_port(), f"{each}.toml"
            text = FILE.format(binds=json.dumps(binds), http=port, bind=bind, replicas=replicas)
            (folder / file).write_text(text)
            service = Service(f"slow:{replicas}", SMALL, SMALL)
            servers.append(Running(PEERS[OURS], service, port, mark))
            started.enter_context(mesh(folder, mark, "gateway", "-c", file))
        started.enter_context(mesh(folder, mark, "stage", "slow", "-c", "0.toml"))
        wait(lambda: all(_connected(server) == replicas for server in servers), START_S, 0.5)
        yield folder, servers


def _connected(server: Running) -> int:
    try:
        url = f"http://127.0.0.1:{server.port}/mesh/status"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return sum(one["connected"] for one in json.load(answer)["replicas"])
    except OSError:
        return 0
