"""Where the microseconds of a request go, without sockets: `python -m benchmarks.data_path`.

A gateway's core with its inference service and a replica with its runner, in one process, over a
link that only passes frames on. Each step is timed by itself, many times; what is printed is the
lower twentieth, which a busy machine disturbs least. System calls, ZeroMQ's threads and HTTP's
parsing are not in it: `make bench` shows them with everything else. `--walk 64` reads so many
megabytes before each round, after which nothing of ours is in the processor's caches: what a
process finds that slept while others used the machine.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from time import monotonic, perf_counter
from typing import Any

import numpy as np

from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.core import GatewayCore
from gateway.requests.route import InferenceRoute
from gateway.web.exchange import AnyExchange, AnyInference, Exchange
from gateway.web.failure_log import FailureLog
from gateway.web.http_request import HttpRequest
from mesh import Worker
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.protocol.fields import Frame
from mesh.protocol.messages import Buffer, Hello, Hops, Role, StageFacts
from mesh.transport.network import Event, NetworkEvent
from stage.batching.batcher import Batcher
from stage.item_outcome import ItemOutcome
from stage.replica import Replica
from stage.results import results_of
from stage.runner import Runner

BODY = b'{"text": "the quick brown fox", "numbers": [1, 2, 3, 4]}'
HOPS: Hops = (("echo", ""),)
POOL = 1 << 26
STEPS = {
    "gateway: take requests in": "from complete HTTP requests to the queue of their stage",
    "gateway: dispatch": "a bundle made and ready to be sent",
    "replica: receive": "a bundle read, its tasks queued",
    "replica: batch": "what runs together is chosen",
    "replica: worker": "JSON read, forward, JSON written",
    "replica: results": "outcomes made, credit and figures seen to",
    "replica: send": "outcomes in one bundle, ready to be sent",
    "gateway: receive": "a bundle read, the requests looked up and ended",
    "gateway: answer": "HTTP answers made and written",
}


class Echo(Worker):
    """Answers with what it was sent."""

    def forward(self, data: Any) -> Any:
        """Return the input."""
        return data


class Cable:
    """One end of a link that passes frames on to the other end."""

    def __init__(self) -> None:
        self.inbox: list[Event] = []
        self.peer = self
        self.link = 0

    def trust(self, gateways: Collection[str] | None, feeds: Collection[str]) -> None:
        """Nothing is to be done for it."""

    def objection(self, link: int, hello: Hello) -> str:
        """There are no keys."""
        return ""

    def source(self, link: int) -> str:
        """There are no keys."""
        return ""

    def dial(self, link: int, address: str) -> None:
        """Be connected at once."""
        self.link, self.peer.link = link, 1
        self.inbox.append((NetworkEvent.OPENED, link, ()))

    def listen(self, address: str) -> str:
        """Nothing is to be done for it."""
        return address

    def probe(self, peer: int, address: str) -> None:
        """Nobody dies here."""

    def hang_up(self, link: int) -> None:
        """Never happens here."""

    def close(self) -> None:
        """Nothing is to be done for it."""

    def send(self, link: int, frames: Sequence[Frame]) -> bool:
        """Pass on."""
        self.peer.inbox.append((NetworkEvent.MESSAGE, self.peer.link, frames))
        return True

    def receive(self, ready: Iterable[int] = ()) -> list[Event]:
        """What has been passed on."""
        events, self.inbox = self.inbox, []
        return events

    def is_pending(self) -> bool:
        """Nothing is ever left."""
        return False

    def next_due(self) -> float:
        """Nothing is ever due."""
        return float("inf")


class Client:
    """A connection on which one request at a time is asked."""

    special = False

    def __init__(self, inference: AnyInference) -> None:
        self.pending: list[HttpRequest] = []
        self.inference = inference
        self.transport = self
        self.answers = 0

    def ask(self, route: InferenceRoute) -> None:
        """One more request is complete."""
        exchange: AnyExchange = Exchange(self, route, b"/inference", monotonic(), b"", BODY)
        self.pending.append(exchange)
        exchange.start()

    def write(self, piece: Buffer, /) -> None:
        """An answer."""
        self.answers += 1

    def abort(self) -> None:
        """Never happens here."""

    def release(self) -> None:
        """Never needed here."""


class Bench:
    """A gateway and a replica, and what each step of theirs took.

    Args:
        clients: requests at a time.
        batch: `max_batch_size`.
    """

    def __init__(self, clients: int, batch: int) -> None:
        now = monotonic()
        here, there = Cable(), Cable()
        here.peer, there.peer = there, here
        links = Links(Identity(11, Role.GATEWAY), random.random)
        self.core = GatewayCore(links, {"/inference": HOPS}, 3, now)
        self.gateway = Node(self.core, here)
        self.route = InferenceRoute("/inference", HOPS, Admission(4096, 1 << 28))
        self.service = InferenceService(
            self.core, [self.route], 3.0, lambda: None, monotonic, FailureLog(monotonic)
        )
        facts = StageFacts("echo", "", batch, 3.0, POOL)
        dialling = Links(Identity(12, Role.REPLICA, stage=facts), random.random)
        self.core_there = Replica(dialling, facts, Batcher(batch, 0.0, POOL), ["tcp://g:1"], now)
        self.replica = Node(self.core_there, there)
        self.runner = Runner(Echo(), batching=batch > 1, log=logging.getLogger("bench"))
        self.clients = [Client(self.service) for _ in range(clients)]
        self.took: dict[str, list[float]] = defaultdict(list)
        for _ in range(20):
            self.replica.turn(now)
            self.gateway.turn(now)

    def _time(self, step: str, action: Callable[..., Any], *arguments: Any) -> Any:
        began = perf_counter()
        result = action(*arguments)
        self.took[step].append(perf_counter() - began)
        return result

    def round(self) -> None:
        """Every client asks once, and has its answer."""
        time, expected = self._time, len(self.clients) + sum(c.answers for c in self.clients)
        time("gateway: take requests in", self._ask)
        time("gateway: dispatch", self.gateway.flush, monotonic())
        while sum(client.answers for client in self.clients) < expected:
            now = monotonic()
            time("replica: receive", self.replica.receive, now)
            while batch := time("replica: batch", self.core_there.next_batch, now):
                items = time("replica: worker", self.runner.run, batch.tasks)
                time("replica: results", self._finish, items)
                time("replica: send", self.replica.flush, monotonic())
            time("gateway: receive", self.gateway.receive, monotonic())
            self.gateway.flush(monotonic())
            time("gateway: answer", self.service.answers.write, self.core.take_ended())
            self.service.answers.durations.clear()
            self.core.stats.clear()

    def _ask(self) -> None:
        for client in self.clients:
            client.ask(self.route)

    def _finish(self, items: list[ItemOutcome]) -> None:
        """As `stage.loop` does it: a bundle that turned out slow was not run to its end."""
        replica, unbegun = self.core_there, self.runner.give_up()
        self.runner.clear()
        if unbegun:
            replica.cut_short([], 0.0, unbegun)
        batch = replica.running
        assert batch is not None
        replica.finished(results_of(batch, items), 1e-5)


def measure(clients: int, batch: int, rounds: int, walk: int = 0) -> dict[str, float]:
    """Microseconds per step and round: the lower twentieth of what was measured, times how often.

    Args:
        clients: requests at a time.
        batch: `max_batch_size`.
        rounds: how often.
        walk: megabytes of memory that are read before each round.

    Example:
        >>> sorted(measure(1, 1, 5)) == sorted(STEPS)
        True
    """
    bench, ground = Bench(clients, batch), np.zeros(walk << 17)
    for _ in range(rounds // 10 + 1):
        bench.round()
    bench.took.clear()
    for _ in range(rounds):
        ground.sum()
        bench.round()
    return {step: _typical(times, rounds) * 1e6 for step, times in bench.took.items()}


def _typical(times: list[float], rounds: int) -> float:
    """A round's share: rounds that took several turns count them all."""
    return sorted(times)[len(times) // 20] * len(times) / rounds


def table(columns: dict[str, dict[str, float]], per: dict[str, int]) -> str:
    """Steps down, situations across, in Markdown; microseconds per request."""
    lines = ["| step | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for step, meaning in STEPS.items():
        cells = [f"{steps[step] / per[name]:.1f}" for name, steps in columns.items()]
        lines.append(f"| {step}: {meaning} | " + " | ".join(cells) + " |")
    sums = [f"{sum(steps.values()) / per[name]:.1f}" for name, steps in columns.items()]
    lines.append("| together | " + " | ".join(sums) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="data_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3000, help="default: %(default)s")
    parser.add_argument("--walk", type=int, default=0, help="megabytes; default: %(default)s")
    options = parser.parse_args(arguments)
    situations = {"1 request": (1, 1), "64, singly": (64, 1), "64, batches of 32": (64, 32)}
    columns = {
        name: measure(clients, batch, max(5, options.rounds // clients), options.walk)
        for name, (clients, batch) in situations.items()
    }
    sys.stdout.write(table(columns, {name: clients for name, (clients, _) in situations.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
