"""The slowest hundredth of the answers at 80 % of the highest rate: at most three medians."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import latency, running
from benchmarks.peers import OURS, Peer
from benchmarks.rows import BATCHED, ECHO, SLEEP, SLEEP_16
from benchmarks.scale.findings import Bound, Finding

SERVICES = ((BATCHED, 64), (ECHO, 64), (SLEEP, 32), (SLEEP_16, 512))
SHARE = 0.8


def tails(peers: Sequence[Peer], seconds: float) -> list[Finding]:
    """p99 over p50 of the echo and the sleep services, open loop."""
    found = []
    for service, connections in SERVICES:
        for peer in peers:
            with running.running(peer, service) as server:
                (point,) = latency.curve(server, connections, [SHARE], seconds)
            found.append(
                Finding(
                    "tails",
                    f"{peer.name}: {service.name}: p99 / p50 at {SHARE:.0%} of the highest rate",
                    point.p99 / point.p50 if point.p50 else 0.0,
                    f"× of {point.p50:.2f} ms; {point.offered:,.0f}/s, generator"
                    f" {point.generator:.0f} %",
                    Bound(3) if peer.name == OURS else None,
                )
            )
    return found
