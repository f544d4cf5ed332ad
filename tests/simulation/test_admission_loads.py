"""What the door says of the wait, against how long those who were let in then waited."""

import json
import random

import pytest
from small_mesh import Gateway, SmallMesh

from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.route import InferenceRoute
from gateway.web.exchange import Exchange
from gateway.web.failure_log import FailureLog

WARM = 4.0  # seconds until the door knows the pace, and those inside are in balance


class Visit:
    """One client's connection: it notes when its one request was answered, and how."""

    special = False

    def __init__(self, door, timeout):
        self.door, self.transport, self.inference = door, self, door.service
        self.came = door.mesh.now
        self.answer, self.answered_at = b"", None
        self.exchange = Exchange(self, door.route, b"/inference", self.came, b"")
        self.exchange.body, self.exchange.timeout = b"x", timeout
        self.pending = [self.exchange]

    def write(self, piece):
        self.answer += piece
        self.answered_at = self.door.mesh.now

    def release(self):
        while self.pending and self.pending[0].flush(self):
            del self.pending[0]

    @property
    def status(self):
        return int(self.answer[9:12] or 0)

    @property
    def code(self):
        return json.loads(self.answer.partition(b"\r\n\r\n")[2])["error"]["code"]

    @property
    def retry_after(self):
        head = self.answer.partition(b"\r\n\r\n")[0].decode()
        (line,) = [line for line in head.split("\r\n") if line.startswith("Retry-After: ")]
        return int(line.partition(" ")[2])

    @property
    def took(self):
        return self.answered_at - self.came


class Door(Gateway):
    """A gateway with its inference service."""

    def equip(self, capacity, timeout):
        self.service = None
        self.route = InferenceRoute("/inference", self.mesh.hops, Admission(capacity, 1 << 30))
        self.service = InferenceService(
            self.core,
            [self.route],
            timeout,
            lambda: None,
            lambda: self.mesh.now,
            FailureLog(lambda: self.mesh.now),
        )
        return self

    def turn(self):
        self.node.turn(self.mesh.now)
        ended = self.core.take_ended()
        if ended:
            self.service.answers.write(ended)
        if self.core.stats:
            self.service.measure()
            self.core.stats.clear()

    def visit(self, timeout=None):
        made = Visit(self, timeout)
        made.exchange.start()
        self.turn()
        return made


class Loaded(SmallMesh):
    """A mesh whose requests come by a door, at random, at a constant rate."""

    def __init__(self, *stages, capacity, timeout):
        super().__init__(*stages, timeout=timeout)
        self.members.clear()
        address = "tcp://door:0"
        self.addresses = [address]
        routes = {"/inference": self.hops}
        self.gateway = self.join(Door(self, address, routes, timeout, 3)).equip(capacity, timeout)
        self.gateways = [self.gateway]

    def offer(self, per_second, seconds, timeout=None):
        """Visits in their order; all have ended."""
        chance, end, visits = random.Random(5), self.now + seconds, []
        while self.now < end:
            self.run(chance.expovariate(per_second))
            visits.append(self.gateway.visit(timeout))
        self.run(self.gateway.timeout + 1.0)
        return visits


def compared(visits, begin):
    """For each refusal what it said, and the wait of who was let in last before it."""
    pairs, last = [], None
    for visit in visits:
        if visit.status == 200:
            last = visit.took
        elif visit.status == 429 and visit.came - begin > WARM and last is not None:
            pairs.append((visit.retry_after, last))
    return pairs


# Requests that a stage answers in a second: its replicas, a batch of 8 each 80 ms.
@pytest.mark.parametrize(
    ("replicas", "capacity", "load"),
    [(1, 150, 1.2), (2, 500, 2.0), (4, 3000, 5.0)],  # 1.5 s, 2.5 s and 7.5 s
)
def test_retry_after_is_the_wait_within_a_factor_of_two(replicas, capacity, load):
    mesh = Loaded("a", "b", capacity=capacity, timeout=60.0)
    for _ in range(replicas):
        mesh.replica("a", batch=8, takes=lambda size: 0.010)
        mesh.replica("b", batch=8, takes=lambda size: 0.080)
    mesh.settle()
    begin = mesh.now
    able = 100 * replicas
    visits = mesh.offer(load * able, WARM + capacity / able + 3.0)
    assert {visit.status for visit in visits} == {200, 429}
    assert {visit.code for visit in visits if visit.status == 429} == {"overloaded"}
    pairs = compared(visits, begin)
    assert len(pairs) > 20
    for said, took in pairs:
        assert took / 2 <= said <= took * 2, (said, took)
    expected = capacity / able
    assert pairs[-1][1] == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize(("load", "budget"), [(1.5, 2.0), (3.0, 2.0), (3.0, 4.0), (8.0, 3.0)])
def test_what_cannot_meet_its_deadline_is_refused_and_the_rest_is_in_time(load, budget):
    mesh = Loaded("a", "b", capacity=100_000, timeout=budget)
    for _ in range(2):
        mesh.replica("a", batch=8, takes=lambda size: 0.010)
        mesh.replica("b", batch=8, takes=lambda size: 0.080)
    mesh.settle()
    begin = mesh.now
    visits = mesh.offer(load * 200, WARM + 6.0)
    settled = [visit for visit in visits if visit.came - begin > WARM]
    refused = [visit for visit in settled if visit.status == 429]
    served = [visit for visit in settled if visit.status == 200]
    assert {visit.code for visit in refused} == {"cannot_meet_deadline"}
    assert len(served) + len(refused) == len(settled)  # none was let in and then too late
    over = [visit.answered_at - begin - WARM for visit in visits if visit.status == 200]
    assert sum(0 < at <= 6.0 for at in over) == pytest.approx(200 * 6.0, rel=0.05)
    assert max(visit.took for visit in served) <= budget
    for said, took in compared(visits, begin):
        assert took / 2 <= said <= took * 2, (said, took)


def test_who_has_little_time_is_served_before_those_that_have_much():
    mesh = Loaded("a", capacity=1000, timeout=10.0)
    mesh.replica("a", batch=8, takes=lambda size: 0.080)
    mesh.settle()
    first = mesh.gateway.visit()
    many = [mesh.gateway.visit() for _ in range(300)]
    mesh.run(1.5)
    hasty = mesh.gateway.visit(timeout=0.5)
    mesh.run(0.5)
    assert hasty.status == 200
    assert not all(visit.status for visit in many)
    hopeless = mesh.gateway.visit(timeout=0.001)
    assert (hopeless.status, hopeless.code) == (429, "cannot_meet_deadline")
    mesh.run(10.0)
    assert {visit.status for visit in [first, *many]} == {200}
