"""Gateways and replicas in one process, on a clock of their own and over links of memory.

The cores are the real ones, turned by the real `Node`, and every message travels as bytes. Only
the worker is made up: a function of a task's payload, and how long a batch takes.
"""

import random
from itertools import count

from gateway.book import Request
from gateway.core import GatewayCore
from mesh.instructions import Identity
from mesh.links import Links
from mesh.messages import Role, StageFacts
from mesh.node import Node
from mesh.testing import FakeClock, MemoryNetwork
from stage.batcher import Batcher
from stage.pace import LONG
from stage.replica import Replica
from stage.results import results_of
from stage.runner import ItemOutcome

NEVER = float("inf")
DELAY = 0.0002  # seconds that a multipart travels
STILL = 200  # turns without the clock moving that are one too many


class Member:
    """A core, its port, and the next thing that it has to do."""

    def __init__(self, mesh, core, port):
        self.mesh, self.core, self.port = mesh, core, port
        self.node = Node(core, port)
        self.stalled = False
        self.heard = []  # every message that was delivered
        deliver = core.delivered

        def delivered(delivery, now):
            self.heard.append(delivery[2])
            deliver(delivery, now)

        core.delivered = delivered

    @property
    def me(self):
        return self.core.links.me

    def due(self):
        return NEVER if self.stalled else self.node.next_due()

    def turn(self):
        self.node.turn(self.mesh.now)


class Gateway(Member):
    def __init__(self, mesh, address, routes, timeout, attempts):
        identity = Identity(mesh.number(), Role.GATEWAY, timeout=timeout)
        links = Links(identity, mesh.chance.random)
        core = GatewayCore(links, routes, attempts, mesh.now)
        super().__init__(mesh, core, mesh.port())
        self.port.listen(address)
        self.timeout = timeout
        self.answers = {}
        self.answered_at = {}

    def submit(self, body=b"x", **more):
        core, now = self.core, self.mesh.now
        path = next(iter(core.routes.values()))
        deadline = now + self.timeout
        number = core.book.next_number()
        request = Request(
            self.me, number, path, 0, 1, deadline, [body], len(body), arrived=now, **more
        )
        core.submit(request)
        self.turn()
        return number

    def turn(self):
        super().turn()
        for request, outcome in self.core.take_ended():
            assert request.number not in self.answers, "answered twice"
            self.answers[request.number] = outcome
            self.answered_at[request.number] = self.mesh.now


class Rep(Member):
    """A replica whose worker appends its stage's name to what it gets."""

    def __init__(self, mesh, hop, gateways, feed="", **how):
        self.batch = how.pop("batch", 4)
        self.takes = how.pop("takes", lambda size: 0.010)
        self.work = how.pop("work", lambda body: body + hop[0].encode())
        facts = StageFacts(
            *hop, batch=self.batch, timeout=3.0, pool=how.pop("pool", 64 << 20), **how
        )
        identity = Identity(mesh.number(), Role.REPLICA, stage=facts, feed=feed)
        port = mesh.port()
        if feed:
            port.listen(feed)
        links = Links(identity, mesh.chance.random)
        batcher = Batcher(self.batch, 0.0, facts.pool)
        super().__init__(mesh, Replica(links, facts, batcher, gateways, mesh.now), port)
        self.batches = []
        self.ready_at = NEVER
        self.looked_at = -NEVER
        self.busy = 0.0

    @property
    def computed(self):
        return [number for batch in self.batches for number in batch]

    def due(self):
        if self.stalled:
            return NEVER
        long_at = self.core.started + LONG if self.core.running is not None else NEVER
        relief = long_at if long_at > self.looked_at else NEVER
        return min(self.ready_at, relief, super().due())

    def turn(self):
        now, core = self.mesh.now, self.core
        if now >= self.ready_at:
            batch, began = core.running, core.started
            items = [self._item(b"".join(task.buffers)) for task in batch.tasks]
            self.ready_at = NEVER
            core.finished(results_of(batch, items), now - began)
        super().turn()
        self.looked_at = now
        if core.running is not None:  # what the stand-in does meanwhile
            core.relieve(now)
            self.node.flush(now)
        batch = core.next_batch(now)
        if batch is not None:
            self.batches.append([task.number for task in batch.tasks])
            took = self.takes(len(batch.tasks))
            self.busy += took
            self.ready_at = now + took
            self.node.flush(now)
        if core.draining and core.is_done():
            core.part(now)
            self.node.flush(now)
            self.mesh.leave(self)

    def _item(self, body):
        result = self.work(body)
        return result if isinstance(result, ItemOutcome) else ItemOutcome([result])


class SmallMesh:
    """All of them.

    Args:
        stages: names of the one route's stages, in order.
        timeout: seconds that a request lives.
        gateways: how many.
    """

    def __init__(self, *stages, timeout=3.0, gateways=1, attempts=3, seed=1):
        self.clock = FakeClock(100.0)
        self.network = MemoryNetwork(self.clock, seed, DELAY)
        self.chance = random.Random(seed)
        self.members = []
        self._order = count()
        self.path = tuple((name, "r") for name in stages)
        self.addresses = [f"tcp://gateway:{n}" for n in range(gateways)]
        routes = {"/inference": self.path}
        self.gateways = [
            self._join(Gateway(self, address, routes, timeout, attempts))
            for address in self.addresses
        ]
        self.gateway = self.gateways[0]

    @property
    def now(self):
        return self.clock.now

    def port(self):
        return self.network.port(f"process {next(self._order)}")

    def of(self, incarnation):
        """The member that this incarnation is."""
        return next(member for member in self.members if member.me == incarnation)

    def number(self):
        return self.chance.getrandbits(62) | 1

    def _join(self, member):
        self.members.append(member)
        return member

    def replica(self, name, gateways=None, feed=True, **how):
        """Start a replica; it dials all gateways unless told otherwise."""
        address = f"tcp://{name}:{next(self._order)}" if feed else ""
        return self._join(Rep(self, (name, "r"), gateways or self.addresses, address, **how))

    def leave(self, member):
        """A process ends, in order or not: its links close, and it does nothing more."""
        self.members.remove(member)
        member.port.close()

    def run(self, seconds, until=lambda: False):
        """Let time pass; True as soon as `until` holds."""
        end, still, last = self.now + seconds, 0, -1.0
        while not until():
            due = min((member.due() for member in self.members), default=NEVER)
            if due > end:
                self.clock.now = end
                return until()
            self.clock.now = max(self.now, due)
            still = still + 1 if self.now == last else 0
            last = self.now
            assert still < STILL, f"somebody turns without end: {self.members}"
            for member in list(self.members):
                if member.due() <= self.now and member in self.members:
                    member.turn()
        return True

    def settle(self):
        """Let everybody meet everybody."""
        self.run(1.0)
        return self

    def answered(self, *numbers, gateway=None, within=10.0):
        """Run until these requests have their answers; returns the answers."""
        answers = (gateway or self.gateway).answers
        assert self.run(within, lambda: all(n in answers for n in numbers)), "not answered"
        return [answers[n] for n in numbers]
