"""How many of our functions a request calls: `python -m benchmarks.calls`, or `make calls`.

A gateway (with its HTTP connection and its loop) and one replica per stage run in this process,
over a network in memory and on a clock that stands still, and the interpreter's profiler counts.
The same code gives the same numbers, so a test holds them to a bound. At one connection, latency
is the sum of these calls.

Not in it: what libraries and the interpreter's own modules call, the network's own work, and the
waiting (poll, threads). The process's clock is replaced for good: run it in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

from tornado.web import Application

from gateway.event_loop import EventLoopDriver
from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.core import GatewayCore
from gateway.requests.route import InferenceRoute
from gateway.web.failure_log import FailureLog
from gateway.web.http1 import Http1Connection
from gateway.web.limits import Limits
from gateway.web.server_state import ServerState
from mesh import Worker
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.protocol.messages import Hops, Role, StageFacts
from mesh.transport.memory import FakeClock, MemoryNetwork, Port
from stage.batching.batcher import Batcher
from stage.loop import Loop
from stage.replica import Replica
from stage.runner import Runner

ROOT = Path(__file__).resolve().parent.parent
BODY = b'{"text": "the quick brown fox", "numbers": [1, 2, 3, 4]}'
REQUEST = b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
GATEWAY = "memory://gateway"
_POOL = 1 << 26
_STEP = 0.001  # seconds between two rounds
_WARM = 40  # rounds before those that are counted: heads are learnt, durations known
_COUNTED = 20  # rounds that are counted; what is done every few requests counts its share
_NETWORK = "mesh/transport/memory.py"


class Echo(Worker):
    """Answers with what it was sent."""

    def forward(self, data: Any) -> Any:
        """Return the input."""
        return data


class Wire(asyncio.Transport):
    """A client's socket: what is written is counted and forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, piece: Any) -> None:
        """One answer, or several that leave together."""
        self.answers += bytes(piece).count(b"HTTP/1.1 200")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A client's address."""
        return ("192.0.2.7", 4711) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        """Everything has left."""
        return 0

    def is_closing(self) -> bool:
        """It stays open."""
        return False


@dataclass
class Tally:
    """Calls of our functions, by the process that made them and by function.

    Attributes:
        process: who is at work now.
        resting: whether nothing is counted: what this page itself asks costs no request anything.
        calls: (process, module, function) -> calls.
    """

    process: str = "gateway"
    resting: bool = True
    calls: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    _known: dict[Any, tuple[str, str] | None] = field(default_factory=dict)

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """What `sys.setprofile` calls."""
        if event != "call" or self.resting:
            return
        code = frame.f_code
        if code not in self._known:
            self._known[code] = _place(code.co_filename, code.co_qualname)
        place = self._known[code]
        if place is not None:
            self.calls[(self.process, *place)] += 1

    def modules(self, process: str = "") -> set[str]:
        """The modules that were entered, by one process or by all."""
        return {module for who, module, _ in self.calls if process in ("", who)}

    def total(self, process: str = "") -> int:
        """Calls of one process or of all."""
        return sum(count for (who, *_), count in self.calls.items() if process in ("", who))


def _place(filename: str, function: str) -> tuple[str, str] | None:
    try:
        module = Path(filename).relative_to(ROOT).as_posix()
    except ValueError:
        return None
    ours = module.startswith(("mesh/", "gateway/", "stage/")) and module != _NETWORK
    return (module, function) if ours else None


class SteppedLoop(Loop):
    """A replica's loop without its second thread and without waiting: turned by hand."""

    def attach(self, replica: Replica, network: Any) -> None:
        """What `run` does before it begins to serve."""
        self._replica = replica
        self._network = network
        self._node = Node(replica, network)
        self._held.take()
        self._signals_due = float("inf")
        self._stand_in_sleeps = False
        self._lock.acquire()

    def is_due(self, now: float) -> bool:
        """Whether it would not wait now."""
        return min(self._node.next_due(), self._network.next_due()) <= now

    def step(self, now: float) -> None:
        """What `_serve` does between two waits."""
        rested = False
        while self._node.receive(now, []) or not rested:
            batch = self._replica.next_batch(now)
            if batch is None:
                self._node.flush(now)
                break
            rested = self._run(batch, now)
        self._node.next_due()  # as `_poll` asks it


class Stage:
    """One replica, turned by hand as its loop turns itself."""

    def __init__(self, name: str, number: int, batch: int, hub: MemoryNetwork, feeds: bool) -> None:
        port: Any = hub.port(name)
        self.name = name
        now = hub.clock()
        facts = StageFacts(name, "", batch, 3.0, _POOL)
        feed = port.listen(f"memory://{name}") if feeds else ""
        identity = Identity(number, Role.REPLICA, stage=facts, feed=feed)
        links = Links(identity, random.Random(number).random)
        runner = Runner(Echo(), batching=batch > 1, log=logging.getLogger("calls"))
        self.replica = Replica(links, facts, Batcher(batch, 0.0, _POOL), [GATEWAY], now)
        self.loop = SteppedLoop(runner, logging.getLogger("calls"), 3.0, 1.0)
        self.loop.attach(self.replica, port)
        self.port: Port = port


class Service:
    """A gateway with one client connection per request of a round, and its stages.

    Args:
        stages: how many follow each other.
        batch: `max_batch_size` of each.
        clients: requests of one round.
    """

    def __init__(self, stages: int, batch: int, clients: int) -> None:
        self.clock = FakeClock(monotonic())
        _freeze(self.clock)
        self.tally = Tally()
        hub = MemoryNetwork(self.clock)
        hops: Hops = tuple((f"stage{number}", "") for number in range(stages))
        links = Links(Identity(11, Role.GATEWAY), random.Random(1).random)
        self.core = GatewayCore(links, {"/inference": hops}, 3, self.clock())
        port: Any = hub.port("gateway")
        port.listen(GATEWAY)
        self.port: Port = port
        self.drive = EventLoopDriver(Node(self.core, port), self._answer, lambda: self.core.calm)
        route = InferenceRoute("/inference", hops, Admission(4096, 1 << 28))
        failures = FailureLog(self.clock)
        self.service = InferenceService(
            self.core, [route], 3.0, self.drive.wake, self.clock, failures
        )
        self.stages = [
            Stage(name, 20 + number, batch, hub, number < stages - 1)
            for number, (name, _) in enumerate(hops)
        ]
        shared = ServerState(
            self.service, Application(), Limits(), names=lambda number: b"%x" % number
        )
        self.wires = [Wire() for _ in range(clients)]
        self.connections = [Http1Connection(shared) for _ in range(clients)]

    def _answer(self, now: float) -> None:
        """As `gateway.server` does it after each turn, without what it counts for metrics."""
        if self.core.met_stage:
            self.core.met_stage = False
            self.service.learn()
        if self.core.ended:
            self.service.answers.write(self.core.take_ended())
        self.core.stats.clear()
        self.service.answers.durations.clear()

    async def start(self) -> None:
        """Let everybody meet, and every path be walked often enough to be warm."""
        loop: Any = asyncio.get_running_loop()
        loop.time = self.clock  # timers are due by the same clock
        for connection, wire in zip(self.connections, self.wires, strict=True):
            connection.connection_made(wire)
        self.drive.start()
        for _ in range(50):
            self.clock.advance(_STEP)
            await self._turn()
        for _ in range(_WARM):
            await self.round()

    async def round(self) -> None:
        """Each client asks once, and has its answer."""
        self.clock.advance(_STEP)
        wanted = sum(wire.answers for wire in self.wires) + len(self.wires)
        self.tally.process, self.tally.resting = "gateway", False
        for connection in self.connections:
            connection.data_received(REQUEST)
        for _ in range(100):
            await self._turn()
            if sum(wire.answers for wire in self.wires) >= wanted:
                return
        raise RuntimeError("a request was not answered within 100 turns")

    async def _turn(self) -> None:
        self.tally.process, self.tally.resting = "gateway", False
        await asyncio.sleep(0)
        if self.port.next_due() <= self.clock():
            self.drive.wake()
            await asyncio.sleep(0)
        for stage in self.stages:
            self.tally.resting = True
            if stage.loop.is_due(self.clock()):
                self.tally.process, self.tally.resting = stage.name, False
                stage.loop.step(self.clock())

    def close(self) -> None:
        """Give back what the loops hold."""
        self.drive.stop()
        for stage in self.stages:
            stage.loop.close()


def _freeze(clock: FakeClock) -> None:
    """Let every module of ours read this clock instead of the machine's."""
    for name, module in list(sys.modules.items()):
        if name.startswith(("mesh.", "gateway.", "stage.")) and hasattr(module, "monotonic"):
            vars(module)["monotonic"] = clock


async def _count(stages: int, batch: int, clients: int) -> Tally:
    service = Service(stages, batch, clients)
    try:
        await service.start()
        sys.setprofile(service.tally)
        try:
            for _ in range(_COUNTED):
                await service.round()
        finally:
            sys.setprofile(None)
    finally:
        service.close()
    return service.tally


def count(stages: int = 1, batch: int = 1, clients: int = 1) -> Tally:
    """The calls of `_COUNTED` rounds in which each client asks once.

    Args:
        stages: how many follow each other.
        batch: `max_batch_size` of each.
        clients: requests of one round, which arrive together.
    """
    return asyncio.run(_count(stages, batch, clients))


SITUATIONS = {
    "one request, one stage": (1, 1, 1),
    "one request, two stages": (2, 1, 1),
    "a bundle of 32, one stage": (1, 32, 32),
}


def per_request(tally: Tally, clients: int, process: str = "") -> float:
    """Calls of one request, by one process or by all."""
    return tally.total(process) / (_COUNTED * clients)


def _rows(tally: Tally, clients: int) -> Iterable[str]:
    for process in [*sorted({who for who, *_ in tally.calls}), ""]:
        calls, modules = per_request(tally, clients, process), len(tally.modules(process))
        yield f"  {process or 'together':10} {calls:7.1f} calls in {modules:2} modules"


def main(arguments: list[str]) -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(prog="calls", description=__doc__)
    parser.add_argument("--functions", action="store_true", help="name each function")
    options = parser.parse_args(arguments)
    for title, (stages, batch, clients) in SITUATIONS.items():
        tally = count(stages, batch, clients)
        print(title)
        print("\n".join(_rows(tally, clients)))
        if options.functions:
            for (process, module, function), calls in sorted(tally.calls.items()):
                print(f"    {calls / (_COUNTED * clients):6.2f} {process:9} {module} {function}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
