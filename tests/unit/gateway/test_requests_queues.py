"""What waits at the gateway, and where it goes when the routes lead elsewhere."""

import pytest
from rig import Rig

from gateway.requests.in_flight import forwarding
from mesh.protocol.messages import Outcome, OutcomeKind

A, B = ("a", "1"), ("b", "1")
A2, B2 = ("a", "2"), ("b", "2")


class Waiting(Rig):
    """A gateway's queues; replicas come and go by `add` and `remove`, and the core is not told."""

    def __init__(self):
        super().__init__(None, {"/both": (A, B), "/second": (B,)}, version="1")
        self.peers = 10

    def add(self, *hops, version="1"):
        for hop in hops:
            self.peers += 1
            session = self.session(self.peers, hop, version=version)
            self.queues.join(self.replicas.joined(session), session)
        return session

    def remove(self, session):
        hop = self.replicas.left(session, 1.0)
        self.queues.dispatchers[hop].leave(session)
        self.queues.find_gaps()

    def request(self, hops=(A, B), **more):
        return self.entered(hops, **more)

    def wait(self, *arguments, **more):
        made = self.request(*arguments, **more)
        self.queues.wait(made)
        return made

    def move(self):
        self.add(A2, version="2")
        later = self.add(B2, version="2").stage
        self.replicas.move(later, 5.0)
        self.queues.move(self.replicas.routes)


@pytest.fixture
def rig():
    return Waiting()


def test_what_waits_for_a_stage_that_is_gone_sets_out_when_it_is_back(rig):
    request = rig.wait()
    assert rig.waiting(A) == []
    assert rig.queues.is_crowded((A, B))
    rig.add(A)
    assert rig.queues.missing
    rig.add(B)
    assert (rig.queues.missing, rig.waiting(A)) == (False, [request])


def test_what_has_not_set_out_waits_again_when_a_later_stage_goes(rig):
    rig.add(A)
    last = rig.add(B)
    request, output = rig.wait(), rig.request()
    handed_back = forwarding(output, Outcome(2, 1, OutcomeKind.HANDBACK, 1, buffers=[b"y"]))
    rig.queues.dispatchers[B].push(handed_back)
    rig.remove(last)
    assert rig.waiting(A) == []
    assert rig.waiting(B) == [handed_back]  # it is under way
    assert rig.queues.drop_absent(B) == [handed_back, request]
    assert rig.waiting(B) == []


def test_a_request_is_withdrawn_wherever_it_waits(rig):
    parked = rig.wait()
    rig.queues.withdraw(parked, parked.at)
    assert not rig.queues.is_crowded((A, B))
    rig.add(A, B)
    waiting, output = rig.wait(), rig.request()
    rig.queues.withdraw(waiting, waiting.at)
    output.at = 1
    rig.queues.dispatchers[B].push(
        forwarding(output, Outcome(3, 1, OutcomeKind.HANDBACK, 1, buffers=[b"y"]))
    )
    rig.queues.withdraw(output, output.at)
    assert rig.waiting(A) == rig.waiting(B) == []


def test_how_many_are_before(rig):
    rig.wait()
    rig.add(A, B)
    assert rig.queues.overtaken((A, B), 0, 91.0) == 0
    assert rig.queues.overtaken((A, B), 0, 89.0) == 1


# --- one revision after another -------------------------------------------------------------------


def test_a_replica_of_a_later_version_gets_nothing_while_its_stages_are_not_complete(rig):
    rig.add(A, B)
    rig.add(A2, version="2")
    request = rig.wait()
    assert (request.hops, rig.waiting(A), rig.waiting(A2)) == ((A, B), [request], [])


def test_what_waits_goes_to_the_revision_that_the_routes_lead_through_now(rig):
    rig.add(A, B)
    fresh = rig.wait()
    again = rig.wait(tried=(11,))  # a replica of the former version has had it
    second = rig.wait((B,))
    rig.move()
    assert rig.waiting(A) == rig.waiting(B) == []
    assert rig.waiting(A2) == [fresh, again]
    assert rig.waiting(B2) == [second]
    assert (fresh.hops, fresh.attempt) == ((A2, B2), 1)
    assert (again.hops, again.attempt) == ((A2, B2), 2)
    assert rig.queues.parked.keys() == {(A2, B2), (B2,)}


def test_what_waits_for_stages_that_are_gone_goes_there_too(rig):
    request = rig.wait()
    rig.move()
    assert not rig.queues.missing
    assert rig.waiting(A2) == [request]


def test_an_output_of_the_former_revision_stays_in_it(rig):
    rig.add(A, B)
    output = rig.request((B,))
    task = forwarding(rig.request(), Outcome(2, 1, OutcomeKind.HANDBACK, 1, buffers=[b"y"]))
    rig.queues.dispatchers[B].push(task)
    rig.queues.wait(output)
    rig.move()
    assert rig.waiting(B) == [task]
    assert rig.waiting(B2) == [output]


def test_an_attempt_that_begins_after_the_move_is_of_the_new_revision(rig):
    rig.add(A, B)
    held = rig.request(tried=(11,))
    rig.move()
    rig.queues.wait(held)
    assert (held.hops, held.attempt) == ((A2, B2), 2)
    assert rig.waiting(A2) == [held]


def test_what_the_former_revision_leaves_is_forgotten_when_its_replicas_are_gone(rig):
    former = [rig.add(A), rig.add(B)]
    assert rig.queues.deserted() == []
    rig.move()
    assert rig.queues.deserted() == []
    rig.remove(former[0])
    assert rig.queues.deserted() == [A]
    rig.queues.crowded.add(A)
    rig.queues.forget(A)
    assert (rig.queues.deserted(), rig.queues.crowded) == ([], set())
    assert rig.queues.dispatchers.keys() == {B, A2, B2}


def test_a_version_that_goes_before_it_was_complete_is_forgotten(rig):
    rig.add(A, B)
    lone = rig.add(A2, version="2")
    assert rig.queues.deserted() == []
    rig.remove(lone)
    assert rig.queues.deserted() == [A2]
    rig.queues.forget(A2)
    assert rig.queues.deserted() == []
