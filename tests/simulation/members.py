"""The processes of a simulated mesh: real cores and the real `Node`, shells made up.

What a shell does in production (poll, threads, signals, `Popen`) is played here on a fake clock:
a `Rep` computes for as long as its forward is said to take, hears the network meanwhile as the
stand-in thread does, interrupts a forward that outlives its limit, and ends itself if that is
ignored. No message is made or read here; that is the cores' business.
"""

import random
from collections import Counter
from typing import NamedTuple

from gateway.requests.core import GatewayCore
from gateway.requests.drawn_numbers import drawn_numbers
from gateway.requests.in_flight import Request
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.process.batch_record import SIZE, BatchRecord
from mesh.protocol.messages import Role, StageFacts
from mesh.supervision.death_notices import DeathNotices
from stage.batching.batcher import Batcher
from stage.batching.estimates import LONG_FORWARD_S
from stage.item_outcome import ItemOutcome
from stage.replica import Replica
from stage.results import results_of

NEVER = float("inf")
KILL_GRACE = 0.2  # seconds that a forward over its limit may ignore that
LINGER = 0.25  # seconds that a goodbye may remain unanswered


class Member:
    """A core, its port, and the next thing that it has to do."""

    def __init__(self, mesh, core, port):
        self.mesh, self.core, self.port = mesh, core, port
        self.node = Node(core, port)
        self.stalled = False
        self.wakes_at = 0.0  # it does not turn before
        self.known = None  # when it would turn if nothing arrived; None: ask
        self.heard = []  # every message that was delivered, if the mesh wants to know
        core.links.expelled = lambda *what: mesh.expelled(self, *what)
        if mesh.listens:
            self._listen(core.delivered)

    def _listen(self, deliver):
        def delivered(delivery, now):
            self.heard.append(delivery[2])
            deliver(delivery, now)

        self.core.delivered = delivered

    @property
    def me(self):
        return self.core.links.me

    @property
    def name(self):
        return self.port.name

    def due(self):
        return NEVER if self.stalled else max(self.wakes_at, self.wants())

    def wants(self):
        """When it would turn, were it not stalled."""
        due = self.known
        if due is None:
            core = self.core
            due = self.known = min(core.links.next_due(), core.next_due())
        return min(due, self.port.next_due())

    def turn(self):
        self.node.turn(self.mesh.now)

    def __repr__(self):
        return self.name


class Gateway(Member):
    """A gateway without HTTP: what it is asked goes straight to its core."""

    def __init__(self, mesh, address, routes, timeout, attempts, version=""):
        identity = Identity(mesh.number(), Role.GATEWAY, timeout=timeout)
        links = Links(identity, mesh.chance.random)
        numbers = drawn_numbers(random.Random(identity.incarnation).randbytes)
        core = GatewayCore(links, routes, attempts, mesh.now, version=version)
        core.in_flight.next_number = numbers.__next__
        super().__init__(mesh, core, mesh.port("gateway"))
        self.address = address
        self.port.listen(address)
        self.timeout = timeout
        self.answers = {}
        self.answered_at = {}
        self.peak = 0  # of the requests in flight

    def submit(self, body=b"x", timeout=None, turn=True, **more):
        core, now = self.core, self.mesh.now
        hops = next(iter(core.replicas.routes.values()))
        deadline = now + (self.timeout if timeout is None else timeout)
        number = core.in_flight.next_number()
        request = Request(
            self.me, number, hops, 0, 1, deadline, [body], len(body), arrived=now, **more
        )
        core.submit(request)
        self.peak = max(self.peak, len(core.in_flight))
        if turn:
            self.turn()
        return number

    def wants(self):
        return 0.0 if self.core.ended else super().wants()

    def turn(self):
        super().turn()
        for request, outcome in self.core.take_ended():
            self.mesh.answered_by(self, request, outcome)
            self.answers[request.number] = outcome
            self.answered_at[request.number] = self.mesh.now


class Supervision(Member):
    """A supervisor's link to the gateways."""

    def __init__(self, mesh, gateways, timeout):
        identity = Identity(mesh.number(), Role.SUPERVISOR, timeout=timeout)
        links = Links(identity, mesh.chance.random)
        super().__init__(mesh, DeathNotices(links), mesh.port("supervisor"))
        self.core.dial(gateways, mesh.now)


class Forward(NamedTuple):
    """What one call of the made-up worker is like.

    Attributes:
        seconds: how long it takes; it may never end.
        deaf: it cannot be interrupted.
        stalls: it holds the interpreter's lock, so that the replica does not turn meanwhile.
        crashes: it ends the process instead of returning.
        unnamed: the process ends although it computes nothing any more, as by a fault of ours.
    """

    seconds: float
    deaf: bool = False
    stalls: bool = False
    crashes: bool = False
    unnamed: bool = False


class Rep(Member):
    """A replica whose worker appends its stage's name to what it gets."""

    def __init__(self, mesh, hop, gateways, feed="", **how):
        self.batch = how.pop("batch", 4)
        parent = how.pop("parent", 0)
        self.takes = how.pop("takes", lambda size: 0.010)
        self.work = how.pop("work", lambda body: body + hop[0].encode())
        self.forward = how.pop("forward", lambda tasks: Forward(self.takes(len(tasks))))
        self.is_slow = how.pop("is_slow", lambda task: False)
        facts = StageFacts(
            *hop,
            batch=self.batch,
            timeout=how.pop("limit", 3.0),
            pool=how.pop("pool", 64 << 20),
            **how,
        )
        identity = Identity(mesh.number(), Role.REPLICA, stage=facts, feed=feed, parent=parent)
        port = mesh.port(hop[0])
        if feed:
            port.listen(feed)
        links = Links(identity, mesh.chance.random)
        batcher = Batcher(self.batch, 0.0, facts.pool, repeatable=facts.repeatable)
        super().__init__(mesh, Replica(links, facts, batcher, gateways, mesh.now), port)
        self.batches = []
        self.running = None  # the `Forward`
        self.ready_at = NEVER
        self.busy = 0.0
        self.free_since = mesh.now  # when it finished its last batch
        self.looked_at = -NEVER
        self.batch_record = BatchRecord(bytearray(SIZE))
        self.leaves_at = NEVER  # it has said goodbye, and waits so long to hear it answered

    @property
    def holds(self):
        """Whether there is any task here."""
        return self.running is not None or bool(self.core.held.tasks)

    @property
    def computed(self):
        return [number for batch in self.batches for number in batch]

    def wants(self):
        if self.running is None:
            return min(self.leaves_at, super().wants())
        if self.running.stalls:
            return self.ready_at
        relief = self.core.started + LONG_FORWARD_S
        until = min(self.ready_at, self._judged_at(), relief if relief > self.looked_at else NEVER)
        return min(until, super().wants())

    def _judged_at(self):
        """When the stand-in interrupts the forward, or ends the process."""
        limit = self.core.started + self.core.facts.timeout
        if self.running.stalls:
            return NEVER
        return limit + KILL_GRACE if self.running.deaf else limit

    def turn(self):
        now, core = self.mesh.now, self.core
        running = self.running
        if running is not None and now >= self.ready_at:
            if running.crashes or running.unnamed:
                self.mesh.die(self, signal=11)
                return
            self._finish([self._item(b"".join(t.buffers)) for t in core.running.tasks])
        elif running is not None and now >= self._judged_at():
            if running.deaf:
                self.mesh.die(self, signal=9)
                return
            self.mesh.interrupted(core.running)
            late = [ItemOutcome(code="forward_timeout", text="late") for _ in core.running.tasks]
            self._finish(late)
        elif running is not None and running.stalls:
            return
        super().turn()
        self.looked_at = now
        if self.leaves_at < NEVER:
            self._linger(now)
        elif self.running is None:
            self._begin(now)
        else:
            core.relieve(now)  # what the stand-in does meanwhile
            self.node.flush(now)
        if core.draining and core.is_done() and self.leaves_at == NEVER:
            self.leaves_at = now + LINGER
            core.part(now)
            self.node.flush(now)

    def _linger(self, now):
        if now >= self.leaves_at or not self.core.links.sessions:
            self.mesh.leave(self)

    def _begin(self, now):
        batch = self.core.next_batch(now)
        if batch is None:
            return
        if batch.single:
            batch = self._first_of(batch)
        self.batches.append([task.number for task in batch.tasks])
        self.running = self.forward(batch.tasks)
        self.batch_record.begin(batch.tasks, now, singly=False)
        self.mesh.begins(self, batch)
        self.busy += self.running.seconds
        self.ready_at = now + self.running.seconds
        self.node.flush(now)

    def _first_of(self, batch):
        """Of tasks that run one by one those before the first that is slow, or that one alone."""
        ends = [self.is_slow(task) for task in batch.tasks]
        if any(ends) and len(batch.tasks) > 1:
            self.core.cut_short([], 0.0, batch.tasks[max(1, ends.index(True)) :])
        return self.core.running

    def _finish(self, items):
        core, batch = self.core, self.core.running
        self.running, self.ready_at, self.free_since = None, NEVER, self.mesh.now
        core.finished(results_of(batch, items), self.mesh.now - core.started)
        self.batch_record.end()

    def _item(self, body):
        result = self.work(body)
        return result if isinstance(result, ItemOutcome) else ItemOutcome([result])


class Mesh:
    """What all simulated meshes have: a clock, a network, members, and time that passes.

    Args:
        clock: the fake one.
        network: the memory network.
        chance: draws for the processes themselves.
    """

    listens = False
    STILL = 200  # turns without the clock moving that are one too many

    def __init__(self, clock, network, chance):
        self.clock, self.network, self.chance = clock, network, chance
        self.members = []
        self._names = Counter()
        self._plan = []  # what is to happen when, soonest last
        self.turns = 0

    @property
    def now(self):
        return self.clock.now

    def port(self, kind):
        self._names[kind] += 1
        return self.network.port(f"{kind}{self._names[kind]}")

    def number(self):
        return self.chance.getrandbits(62) | 1

    def of(self, incarnation):
        """The member that this incarnation is."""
        return next(member for member in self.members if member.me == incarnation)

    def join(self, member):
        self.members.append(member)
        return member

    def leave(self, member):
        """A process ends, in order or not: its links close, and it does nothing more."""
        self.members.remove(member)
        member.port.close()

    def die(self, member, signal=9):
        """A process is killed."""
        self.leave(member)

    def expelled(self, member, session, reason, fault):
        """A member ends a session since the other broke a rule, which nobody here does."""
        raise AssertionError(f"{member} expels {session}: {reason}") from fault

    def interrupted(self, batch):
        """A forward took too long."""

    def begins(self, rep, batch):
        """A replica begins to compute."""

    def answered_by(self, gateway, request, outcome):
        """A gateway ends a request."""
        assert request.number not in gateway.answers, "answered twice"

    # --- time ------------------------------------------------------------------------------------

    def at(self, when, action):
        """Have something happen at a time, in seconds of the clock."""
        index = len(self._plan)
        while index and self._plan[index - 1][0] <= when:
            index -= 1
        self._plan.insert(index, (when, action))

    def run(self, seconds, until=lambda: False):
        """Let time pass; True as soon as `until` holds."""
        end, still, last = self.now + seconds, 0, -1.0
        self._ask_again()
        while not until():
            members = list(self.members)
            dues = [member.due() for member in members]
            due = min(dues, default=NEVER)
            if self._plan:
                due = min(due, self._plan[-1][0])
            if due > end:
                self.clock.now = end
                return until()
            self.clock.now = max(self.now, due)
            still = still + 1 if self.now == last else 0
            last = self.now
            assert still < self.STILL, f"somebody turns without end: {self.members}"
            self._carry_out_plan()
            for member, at in zip(members, dues, strict=True):
                if at <= self.now and member in self.members:
                    self.turns += 1
                    member.turn()
                    member.known = None
        return True

    def _carry_out_plan(self):
        if self._plan and self._plan[-1][0] <= self.now:
            while self._plan and self._plan[-1][0] <= self.now:
                self._plan.pop()[1]()
            self._ask_again()

    def _ask_again(self):
        for member in self.members:
            member.known = None
