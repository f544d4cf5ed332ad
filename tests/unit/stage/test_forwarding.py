"""Outputs go straight to who can take them, wait a while for credit, and are then given up."""

import pytest

from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Cancel, Role, StageFacts, Task, Tasks
from stage.forwarding import NEVER, Forwarding

B, C = ("b", ""), ("c", "")
OWNER, OTHER = 1, 2


@pytest.fixture
def forwarding():
    return Forwarding(Links(Identity(9, Role.REPLICA), lambda: 0.5))


def consumer(number, hop=B, owners=(OWNER,), credit=10, **facts):
    session = Session(9, number, Role.REPLICA, 1 << 20, now=0.0)
    session.link = number
    session.stage = StageFacts(*hop, batch=4, timeout=3.0, pool=1 << 20, **facts)
    session.owners = frozenset(owners)
    session.stream.granted.tasks, session.stream.granted.nbytes = credit, 1 << 20
    return session


def output(number, hop=B, owner=OWNER, deadline=90.0, buffers=(b"x",)):
    return Task(owner, number, (hop,), 1, 1, deadline, list(buffers), sum(map(len, buffers)))


def sent(session):
    return [
        task.number
        for message in session.stream.unacked()
        if type(message) is Tasks
        for task in message.tasks
    ]


def test_nobody_is_there(forwarding):
    assert (forwarding.is_waiting, forwarding.next_due()) == (False, NEVER)
    assert not forwarding.push(output(1))
    assert (len(forwarding), forwarding.next_due()) == (0, NEVER)


def test_an_output_goes_to_a_replica_of_its_stage(forwarding):
    one, two = consumer(11), consumer(12, C)
    forwarding.join(one)
    forwarding.join(two)
    assert forwarding.push(output(1))
    assert forwarding.push(output(2, C))
    assert len(forwarding) == 2
    assert forwarding.is_waiting
    leavings = forwarding.advance(0.0)
    assert (sent(one), sent(two)) == ([1], [2])
    assert [task.number for task in leavings.sent] == [1, 2]
    assert leavings[1:] == ([], [], [])
    assert forwarding.advance(0.0).sent == []
    assert len(forwarding) == 0
    assert not forwarding.is_waiting


def test_one_that_comes_later_is_used_too(forwarding):
    forwarding.join(consumer(11, credit=0))
    assert forwarding.push(output(1))
    forwarding.join(consumer(13, C))
    late = consumer(12)
    forwarding.join(late)
    forwarding.advance(0.0)
    assert sent(late) == [1]


def test_only_the_owner_may_send_into_a_stage_that_must_not_run_twice(forwarding):
    forwarding.join(consumer(11, repeatable=False))
    assert not forwarding.push(output(1))


def test_one_that_does_not_reach_the_owner_gets_nothing_of_it(forwarding):
    near, far = consumer(11), consumer(12, owners=(OTHER,))
    forwarding.join(near)
    forwarding.join(far)
    for number in range(4):
        forwarding.push(output(number))
        forwarding.push(output(10 + number, owner=OTHER))
    forwarding.advance(0.0)
    assert (sent(near), sent(far)) == ([0, 1, 2, 3], [10, 11, 12, 13])


def test_owners_take_turns_to_use_the_credit(forwarding):
    one = consumer(11, owners=(OWNER, OTHER), credit=0)
    forwarding.join(one)
    for number in range(9):
        forwarding.push(output(number))
        forwarding.push(output(10 + number, owner=OTHER))
    for _ in range(2):
        one.stream.granted.tasks += 4
        forwarding.advance(0.0)
    assert sorted(sent(one)) == [0, 1, 2, 3, 10, 11, 12, 13]
    assert sorted(len(outlet.waiting) for outlet in forwarding._outlets.values()) == [5, 5]


def test_what_waits_too_long_is_given_up_at_once_and_only_once(forwarding):
    one = consumer(11, credit=0)
    forwarding.join(one)
    forwarding.push(output(1))
    assert forwarding.advance(10.0).stuck == []
    assert forwarding.next_due() == 11.0
    assert [task.number for task in forwarding.advance(11.0).stuck] == [1]
    assert (len(forwarding), forwarding.next_due()) == (0, NEVER)
    forwarding.push(output(2))
    assert forwarding.advance(12.0).stuck == []


def test_progress_gives_the_rest_more_time(forwarding):
    one = consumer(11, credit=0)
    forwarding.join(one)
    for number in 1, 2:
        forwarding.push(output(number))
    forwarding.advance(10.0)
    forwarding.advance(10.5)
    assert forwarding.next_due() == 11.0
    one.stream.granted.tasks = 1
    forwarding.advance(10.9)
    assert forwarding.next_due() == pytest.approx(11.9)


def test_without_any_replica_left_nothing_waits(forwarding):
    one = consumer(11, credit=0)
    forwarding.join(one)
    forwarding.push(output(1))
    forwarding.advance(10.0)
    forwarding.leave(one)
    assert [task.number for task in forwarding.advance(10.1).stuck] == [1]


def test_expired_outputs_are_dropped(forwarding):
    forwarding.join(consumer(11, credit=0))
    forwarding.push(output(1, deadline=5.0))
    assert [task.number for task in forwarding.advance(5.0).expired] == [1]
    assert (len(forwarding), forwarding.next_due()) == (0, NEVER)


def test_what_no_message_can_carry_is_said_to_be_so(forwarding):
    one = consumer(11)
    forwarding.join(one)
    assert forwarding.push(output(1, buffers=[b"x"] * 300))
    assert forwarding.push(output(2))
    ((task, reason),) = forwarding.advance(0.0).unfit
    assert task.number == 1
    assert "300 buffers" in reason
    assert sent(one) == [2]
    assert forwarding.advance(0.0).unfit == []


def test_cancelled_outputs_leave(forwarding):
    forwarding.join(consumer(11, credit=0))
    for number in 1, 2:
        forwarding.push(output(number))
    forwarding.advance(10.0)
    assert [task.number for task in forwarding.cancel({(OWNER, 1), (OTHER, 2)})] == [1]
    assert forwarding.next_due() == 11.0
    assert [task.number for task in forwarding.cancel({(OWNER, 2)})] == [2]
    forwarding.push(output(3))
    assert forwarding.advance(20.0).stuck == []


def test_an_owner_may_be_forgotten(forwarding):
    forwarding.join(consumer(11, owners=(OWNER, OTHER), credit=0))
    for number in 1, 2:
        forwarding.push(output(number))
    forwarding.push(output(3, owner=OTHER))
    forwarding.push(output(4, buffers=[b"x"] * 300))
    assert [task.number for task in forwarding.forget(OWNER)] == [1, 2, 4]
    assert forwarding.forget(OWNER) == []
    assert len(forwarding) == 1


def test_what_a_silent_consumer_did_not_ack_is_lent_to_its_owner_once(forwarding):
    one = consumer(11)
    forwarding.join(one)
    task = output(1)
    forwarding.push(task)
    forwarding.advance(0.0)
    one.stream.post(Cancel(OWNER, []))
    assert forwarding.bypass(one) == [task]
    assert forwarding.bypass(one) == []
    assert not forwarding.push(output(2))
    other = output(3)
    assert forwarding.kept([task, other]) == [other]
    assert forwarding.kept([task, other]) == [task, other]


def test_what_one_replica_says_of_its_time_keeps_outputs_no_longer():
    forwarding = Forwarding(Links(Identity(9, Role.REPLICA), lambda: 0.5))
    for number, timeout in ((2, 3.0), (3, 1e6)):
        session = consumer(number, credit=0)
        session.stage = session.stage._replace(timeout=timeout)
        forwarding.join(session)
    assert forwarding.push(Task(OWNER, 1, (B,), 1, 1, 90.0, [b"x"], 1))
    assert forwarding.advance(0.0).stuck == []
    assert len(forwarding.advance(1.0).stuck) == 1
