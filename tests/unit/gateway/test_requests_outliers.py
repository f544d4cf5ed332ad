"""A replica that only fails attracts nothing, and shows one task at a time that it recovered."""

import pytest
from rig import ME, A, Rig

from gateway.requests.in_flight import Request
from gateway.requests.outliers import WINDOW
from mesh.protocol.messages import Outcome, OutcomeKind


class Judged(Rig):
    """Replicas of one stage."""

    def __init__(self, *peers):
        super().__init__(dict.fromkeys(peers, A), {"/inference": (A,)})

    def fail(self, peer, count=WINDOW, code="server_error", status=0):
        failures = [
            Outcome(n, 1, OutcomeKind.FAILURE, label=code, status=status) for n in range(count)
        ]
        self.outliers.learn(self.sessions[peer], failures, count)

    def succeed(self, peer, count=WINDOW):
        self.outliers.learn(self.sessions[peer], [], count)

    def wait(self, *numbers):
        for number in numbers:
            self.dispatchers[A].push(Request(ME, number, (A,), 0, 1, 9.0, [b"x"], 1))


@pytest.fixture
def rig():
    return Judged(11, 12)


def test_one_that_fails_leaves_and_comes_back_when_it_succeeds(rig):
    rig.fail(11)
    assert rig.takers() == [12]
    rig.succeed(11, WINDOW // 2)
    assert rig.takers() == [12]
    rig.succeed(11, WINDOW // 2)
    assert rig.takers() == [11, 12]
    rig.succeed(11)
    assert rig.outliers._shares == {}
    rig.succeed(12)


def test_a_few_failures_or_such_of_the_clients_are_no_reason(rig):
    rig.fail(11, WINDOW // 4)
    rig.fail(12, code="validation_error")
    rig.fail(12, code="quota_exceeded", status=429)
    assert rig.takers() == [11, 12]


def test_a_workers_own_code_counts_by_its_status(rig):
    rig.fail(11, code="model_is_down", status=503)
    assert rig.takers() == [12]


def test_where_all_fail_nobody_is_worse():
    rig = Judged(11, 12)
    rig.fail(12, WINDOW // 2)
    rig.fail(11)
    rig.fail(12)
    assert rig.takers() == [11, 12]
    alone = Judged(11)
    alone.fail(11)
    assert alone.takers() == [11]


def test_it_gets_one_task_while_it_holds_none(rig):
    rig.fail(11)
    assert rig.outliers.probe([]) == []
    rig.wait(1, 2)
    holds = Request(ME, 9, (A,), 0, 1, 9.0, [b"x"], 1)
    holds.holder = 11
    assert rig.outliers.probe([holds]) == []
    ((session, tasks, nbytes),) = rig.outliers.probe([])
    assert (session.peer, [task.number for task in tasks], nbytes) == (11, [1], 1)
    rig.sessions[11].vitals.silent = True
    assert rig.outliers.probe([]) == []


def test_what_it_did_is_forgiven_in_time(rig):
    rig.fail(11)
    for _ in range(5000):
        rig.outliers.probe([])
    assert rig.takers() == [11, 12]
    assert rig.outliers._shares == {}


def test_who_is_gone_is_forgotten(rig):
    rig.fail(11)
    rig.outliers.forget(rig.sessions[11])
    assert (rig.outliers.failing, rig.outliers._shares) == ({}, {})
    rig.fail(12)
    rig.replicas.left(rig.sessions[12], 0.0)
    rig.outliers.probe([])
    rig.fail(12)
    assert rig.outliers.failing == {}
