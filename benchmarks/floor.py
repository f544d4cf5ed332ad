"""What a lone request costs on this machine before any server has done anything for it.

A request to a stage behind ZeroMQ is an HTTP exchange and a round trip between two processes, each
of whose messages passes two I/O threads. How long these take depends on the machine, and on virtual
ones on the hour; the rows of one connection can be read only beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter

import zmq

from benchmarks import closed_loop, running
from benchmarks.failure import BenchmarkError
from benchmarks.findings import Finding
from benchmarks.peers import Peer
from benchmarks.rows import ECHO
from benchmarks.running import HERE

BARE = Peer("bare", "uvloop", "bare.py", ("{port}",))
_MESSAGE = (b"h" * 56, b"b" * 100)  # a header and a bundle of one request
_WARM = 0.2  # of the time, which is not counted
_PATIENCE = 10_000  # milliseconds for an echo to come


def floor(seconds: float) -> list[Finding]:
    """Median microseconds of a bare HTTP exchange, of a bare round trip, and of both.

    Args:
        seconds: for how long each is measured.

    Raises:
        BenchmarkError: one of the two did not answer.
    """
    with running.running(BARE, ECHO) as server:
        http = closed_loop.load(server, 1, seconds).p50
    hops = round_trip(seconds) * 1e6
    return [
        Finding("floor", "HTTP answered at once, 1 connection, p50", http, "µs"),
        Finding("floor", "a round trip between two processes over ZeroMQ, p50", hops, "µs"),
        Finding("floor", "both: what one stage cannot go below", http + hops, "µs"),
        Finding("floor", "with a second stage, half a round trip more", http + 1.5 * hops, "µs"),
    ]


def round_trip(seconds: float) -> float:
    """Median seconds from sending a small message to another process until it is back.

    Raises:
        BenchmarkError: it did not come back.
    """
    with _echoing() as (router, other):
        took, began = [], perf_counter()
        while (sent := perf_counter()) < began + (1 + _WARM) * seconds:
            router.send_multipart([other, *_MESSAGE])
            _await(router)
            router.recv_multipart()
            took.append((sent, perf_counter() - sent))
    return median(each for sent, each in took if sent >= began + _WARM * seconds)


@contextmanager
def _echoing() -> Iterator[tuple[zmq.Socket[bytes], bytes]]:
    """A ROUTER, and the routing id of a process that sends back what it gets from it."""
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as zeromq:
        address = f"ipc://{folder}/floor.sock"
        router: zmq.Socket[bytes] = zeromq.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.bind(address)
        process = subprocess.Popen([sys.executable, str(HERE / "bare.py"), "--echo", address])
        try:
            _await(router)
            yield router, router.recv_multipart()[0]
        finally:
            process.kill()
            process.wait()


def _await(router: zmq.Socket[bytes]) -> None:
    if not router.poll(_PATIENCE):
        raise BenchmarkError(f"no echo over ZeroMQ within {_PATIENCE / 1000:.0f} s")
