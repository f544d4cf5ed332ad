"""The slowest hundredth of the answers at 80 % of the highest rate: at most three medians."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import latency, running
from benchmarks.findings import Bound, Finding
from benchmarks.latency import Point
from benchmarks.peers import OURS, Peer
from benchmarks.rows import BATCHED, ECHO, SLEEP, SLEEP_16

SERVICES = ((BATCHED, 64), (ECHO, 64), (SLEEP, 32), (SLEEP_16, 512))
SHARE = 0.8
KEEPS_UP = 0.95  # of what is offered


def tails(peers: Sequence[Peer], seconds: float) -> list[Finding]:
    """p99 over p50 of the echo and the sleep services, open loop."""
    found = []
    for service, connections in SERVICES:
        for peer in peers:
            with running.running(peer, service) as server:
                (point,) = latency.curve(server, connections, [SHARE], seconds)
            found.append(tail(point))
    return found


def tail(point: Point) -> Finding:
    """What a load tells of the tail.

    A server that fell behind its load shows how long that lasted, not a tail: then there is no
    verdict. It happens where the highest rate was measured in a better moment of the machine.
    """
    behind = point.goodput < KEEPS_UP * point.offered
    said = f"× of {point.p50:.2f} ms; {point.offered:,.0f}/s, generator {point.generator:.0f} %"
    return Finding(
        "tails",
        f"{point.peer}: {point.service}: p99 / p50 at {point.share:.0%} of the highest rate",
        point.p99 / point.p50 if point.p50 else 0.0,
        said + (f"; FELL BEHIND: {point.goodput:,.0f}/s" if behind else ""),
        Bound(3) if point.peer == OURS and not behind else None,
    )
