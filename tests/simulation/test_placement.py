"""Work goes to an idle replica whenever there is one: real cores, and every wait measured."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from members import Rep
from small_mesh import DELAY, SmallMesh

FORWARD = 0.1  # seconds
KNOWN = 3 * DELAY  # seconds: a round trip, and some


class Watched(SmallMesh):
    """A mesh that measures how long tasks wait for one stage while replicas of it are idle.

    Attributes:
        waits: by request, the seconds that it waited while the same replica was idle, at most.
    """

    def __init__(self, *stages, replicas, feeders=0, batch=1, forward=FORWARD, **more):
        super().__init__(*stages, timeout=30.0, **more)
        for _ in range(feeders):
            self.replica(stages[0], takes=lambda size: 0.005)
        self.last = [
            self.replica(stages[-1], batch=batch, takes=lambda size: forward)
            for _ in range(replicas)
        ]
        self.settle()
        for _ in range(2):  # now they know how long a batch takes
            self.burst(replicas * batch)
            self.run(6 * forward)
        self.waits = Counter()
        self._since = {}  # (request, idle replica) -> when both began
        for rep in self.last:
            rep.batches.clear()

    def burst(self, count):
        """So many requests come at once, by all gateways."""
        for number in range(count):
            self.gateways[number % len(self.gateways)].submit()

    def offer(self, loads, seconds, seed=1):
        """Requests come at random, by each gateway as many per second as `loads` says."""
        chance = random.Random(seed)
        for gateway, load in zip(self.gateways, loads, strict=True):
            at = self.now + chance.expovariate(load)
            while at < self.now + seconds:
                self.at(at, gateway.submit)
                at += chance.expovariate(load)
        self.watch(seconds + 3.0)

    def watch(self, seconds):
        """Let time pass, and measure."""
        self.run(seconds, lambda: self._look())

    def _look(self):
        since, self._since = self._since, {}
        for (number, _), at in since.items():
            self.waits[number] = max(self.waits[number], self.now - at)
        idle = [rep.me for rep in self.last if not rep.holds]
        for number in self._waiting() if idle else ():
            for me in idle:
                self._since[number, me] = since.get((number, me), self.now)

    def _waiting(self):
        """Tasks behind a running batch, and those that were not sent yet."""
        stage = self.last[0].core.facts.name
        for rep in self.last:
            if rep.running is not None:
                yield from (task.number for _, _, task in rep.core.batcher.line)
        for gateway in self.gateways:
            for hop, dispatcher in gateway.core.dispatchers.items():
                yield from (task.number for task in dispatcher.waiting if hop[0] == stage)
        for feeder in self.members:
            if isinstance(feeder, Rep) and feeder not in self.last:
                for outlet in feeder.core.forwarding._outlets.values():
                    yield from (task.number for task in outlet.waiting)

    def late(self):
        """Requests that waited while a replica was idle, for longer than it takes to know that."""
        return [number for number, wait in self.waits.items() if wait > KNOWN]

    def mean_batch(self):
        sizes = [len(batch) for rep in self.last for batch in rep.batches]
        return sum(sizes) / len(sizes)


class Clients(Watched):
    """The same under a closed loop: each client sends its next request some time after an answer.

    Args:
        thinks: by gateway and client, the seconds between an answer and the next request.
    """

    def __init__(self, thinks, **more):
        self.thinks = None
        super().__init__("a", gateways=len(thinks), **more)
        self.thinks = thinks

    def begin(self):
        self.clients = {}
        for index, gateway in enumerate(self.gateways):
            for think in self.thinks[index]:
                self._ask(gateway, think)

    def _ask(self, gateway, think):
        self.clients[gateway, gateway.submit()] = think

    def answered_by(self, gateway, request, outcome):
        super().answered_by(gateway, request, outcome)
        if self.thinks is not None:
            think = self.clients[gateway, request.number]
            self.at(self.now + think, lambda: self._ask(gateway, think))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 8),
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60),
    st.sampled_from([0.004, 0.02, FORWARD]),
)
def test_nobody_waits_while_a_replica_is_idle_longer_than_one_round_trip(replicas, times, forward):
    mesh = Watched("a", replicas=replicas, forward=forward)
    for at in times:
        mesh.at(mesh.now + at, mesh.gateway.submit)
    mesh.watch(1.0 + (1 + len(times)) * forward)
    assert mesh.late() == []
    assert len(mesh.gateway.answers) == 2 * replicas + len(times)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 3))
def test_nor_do_they_where_several_gateways_have_replicas_enough(data, gateways, each):
    think = st.lists(st.sampled_from([0.0, 0.003, 0.05, 0.2]), min_size=each, max_size=each)
    thinks = [data.draw(think) for _ in range(gateways)]
    mesh = Clients(thinks, replicas=gateways * each)
    mesh.begin()
    mesh.watch(1.0)
    assert mesh.late() == []


@pytest.mark.parametrize(
    ("loads", "replicas"),
    [([0.2, 0.2], 8), ([0.6, 0.05, 0.05], 8), ([0.2] * 4, 16), ([0.1] * 8, 50)],
    ids=str,
)
def test_where_gateways_must_share_replicas_few_wait_beside_an_idle_one(loads, replicas):
    mesh = Watched("a", replicas=replicas, gateways=len(loads))
    mesh.offer([load * replicas / FORWARD for load in loads], 3.0)
    answered = sum(len(gateway.answers) for gateway in mesh.gateways) - 2 * replicas
    assert len(mesh.late()) <= 0.2 * answered, (len(mesh.late()), answered)


@pytest.mark.parametrize(("load", "share"), [(0.4, 0.05), (0.7, 0.25)])
def test_nor_do_many_behind_an_earlier_stage(load, share):
    mesh = Watched("a", "b", replicas=8, feeders=4)
    mesh.offer([load * 8 / FORWARD], 3.0)
    assert len(mesh.late()) <= share * (len(mesh.gateway.answers) - 16)


def test_a_gateway_that_has_little_to_do_is_not_kept_out_by_one_that_has_much():
    mesh = Clients([[0.0] * 64, [0.0]], replicas=4)
    mesh.begin()
    mesh.run(4.0)
    busy, lone = (len(gateway.answers) for gateway in mesh.gateways)
    assert lone >= 4.0 / (4 * FORWARD)
    assert busy + lone >= 0.9 * 4 * 4.0 / FORWARD


@pytest.mark.parametrize("gateways", [1, 2])
@pytest.mark.parametrize("forward", [0.01, FORWARD])
def test_batches_still_fill_under_load(gateways, forward):
    mesh = Clients([[0.0] * (64 // gateways)] * gateways, replicas=4, batch=8, forward=forward)
    mesh.begin()
    mesh.run(20 * forward)
    assert mesh.mean_batch() >= 7.5
