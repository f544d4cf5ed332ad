"""What a request costs of the processor, and whether that stays flat as a service grows."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import closed_loop, open_loop, processes, running
from benchmarks.findings import Finding, flat
from benchmarks.open_loop import Pool
from benchmarks.peers import Peer
from benchmarks.results import forgiving
from benchmarks.rows import ECHO, SMALL, Service
from benchmarks.running import Running

REPLICAS = (1, 4, 16, 64)
STAGES = (1, 4)
CONNECTIONS = (10, 1000, 10_000)
RATE = 1000.0  # requests per second where the load is open


@dataclass(frozen=True)
class Cost:
    """Microseconds of processor time per request: of all processes, and of those of one kind."""

    whole: float
    kinds: dict[str, float]


class Spending:
    """What a server's processes use while this is entered."""

    def __init__(self, server: Running) -> None:
        self._mark = server.mark
        self._before: dict[int, tuple[str, float]] = {}
        self._after: dict[int, tuple[str, float]] = {}

    def __enter__(self) -> Spending:
        self._before = processes.used(self._mark)
        return self

    def __exit__(self, *failure: object) -> None:
        self._after = processes.used(self._mark)

    def each(self, answered: float) -> Cost:
        """What each of so many answers has cost."""
        return cost_of(self._before, self._after, answered)


def cost_of(
    before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]], answered: float
) -> Cost:
    """The cost of so many answers, from what each process had used before and after them.

    Example:
        >>> cost_of({7: ("stage", 1.0)}, {7: ("stage", 2.0)}, 1000)
        Cost(whole=1000.0, kinds={'stage': 1000.0})
    """
    kinds: dict[str, float] = {}
    for pid, (name, used) in after.items():
        spent = used - (before[pid][1] if pid in before else 0.0)
        kinds[name] = kinds.get(name, 0.0) + spent / max(answered, 1) * 1e6
    return Cost(sum(kinds.values()), kinds)


def replicas(peer: Peer, seconds: float) -> list[Finding]:
    """At 1 to 64 replicas that sleep, which together do 3,200 requests a second in batches of 8."""
    found = {}
    for number in REPLICAS:
        with (
            forgiving(f"{number} replicas"),
            running.running(peer, Service(f"share:{number}", SMALL, SMALL)) as server,
        ):
            closed_loop.burst(server, 16 * number, seconds)
            with Spending(server) as spending:
                answered = closed_loop.burst(server, 16 * number, seconds)
            found[f"{number} replicas"] = spending.each(answered).whole
    return flat("costs", f"{peer.name}: CPU per request", "µs", found) if found else []


def stages(peer: Peer, seconds: float) -> list[Finding]:
    """At one and four stages of echo: what the gateway spends on a request, and what a stage."""
    gateway, stage = {}, {}
    for number in STAGES:
        with running.running(peer, Service(f"echo:{number}", SMALL, SMALL)) as server:
            spent = _steady(server, Pool(64, 512), seconds)
        gateway[f"{number} stages"] = spent.kinds["gateway"]
        stage[f"{number} stages"] = spent.kinds["stage"] / number
    return [
        *flat("costs", f"{peer.name}: gateway's CPU per request", "µs", gateway),
        *flat("costs", f"{peer.name}: stage's CPU per request and stage", "µs", stage),
    ]


def connections(peer: Peer, seconds: float) -> list[Finding]:
    """At 10 to 10,000 connections, used in turn, of the same load of echo."""
    found = {}
    for number in CONNECTIONS:
        with running.running(peer, ECHO) as server:
            pool = Pool(number, number, spread=True)
            spent = _steady(server, pool, seconds)
        found[f"{number:,} connections"] = spent.whole
    return flat("costs", f"{peer.name}: CPU per request", "µs", found)


def _steady(server: Running, pool: Pool, seconds: float) -> Cost:
    """What a request costs once all connections are open."""
    spending = Spending(server)
    tally = open_loop.load(server.request, (RATE, seconds), pool=pool, watch=spending)
    return spending.each(tally.statuses()[200])
