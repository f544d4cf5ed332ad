"""Latency over offered load: an open loop at shares of the highest rate that a server reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import closed_loop, open_loop
from benchmarks.open_loop import Pool
from benchmarks.results import tell
from benchmarks.running import Running
from benchmarks.tally import Tally, percentile

WARM = 0.2  # of a load's time, which is not counted


@dataclass(frozen=True)
class Point:
    """What one server did at one load.

    Attributes:
        service: what it served.
        peer: the server.
        share: of its highest rate that was offered.
        offered: requests per second.
        goodput: results per second.
        p50: median latency from when a request was due, in milliseconds.
        p99: their 99th percentile.
        failures: requests without a result.
        generator: what the load's generator used, in percent of a core.
        lateness: by how much requests left too late, 99th percentile, in milliseconds.
    """

    service: str
    peer: str
    share: float
    offered: float
    goodput: float
    p50: float
    p99: float
    failures: int
    generator: float
    lateness: float


def curve(
    server: Running, connections: int, shares: Sequence[float], seconds: float
) -> list[Point]:
    """Put loads at these shares of its highest rate on a server, one after the other."""
    top = highest(server, connections, seconds)
    return [at(server, connections, share, share * top, seconds) for share in shares]


def highest(server: Running, connections: int, seconds: float) -> float:
    """The rate of results under more load than the server can do.

    It comes from the same generator, which may take more of the machine than `wrk`: the shares of
    it are shares of what can be had with this generator beside the server.
    """
    guess = closed_loop.load(server, connections, 1.0).rate
    pool = Pool(first=connections, most=connections)
    tally = _load(server, 1.5 * guess, min(seconds, 2.0), pool)
    return tally.goodput(WARM * tally.seconds, tally.seconds)


def at(server: Running, connections: int, share: float, rate: float, seconds: float) -> Point:
    """Put one load on a server.

    Args:
        server: it.
        connections: how many are opened before; at most eight times as many are opened at all.
        share: what this load is called.
        rate: requests per second.
        seconds: for how long.
    """
    pool = Pool(first=connections, most=8 * connections)
    point = seen(server, share, _load(server, rate, seconds, pool))
    tell(
        f"{point.service:12} {point.peer:9} {share:4.0%} {rate:9,.0f}/s   p50 {point.p50:8.3f} ms"
        f"   p99 {point.p99:8.3f} ms   generator {point.generator:.0f} %"
    )
    return point


def _load(server: Running, rate: float, seconds: float, pool: Pool) -> Tally:
    return open_loop.load(server.request, (rate, seconds), pool=pool, patience=30.0)


def seen(server: Running, share: float, tally: Tally) -> Point:
    """What a load tells, its warming left out."""
    begin = WARM * tally.seconds
    took = sorted(
        each * 1000 for due, each, status, _ in tally.answers if due >= begin and status == 200
    )
    return Point(
        service=server.service.name,
        peer=server.peer.name,
        share=share,
        offered=tally.rate,
        goodput=tally.goodput(begin, tally.seconds),
        p50=percentile(took, 0.5),
        p99=percentile(took, 0.99),
        failures=tally.failures(),
        generator=tally.cpu,
        lateness=tally.lateness * 1000,
    )
