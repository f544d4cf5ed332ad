"""Who the peer is, how it is connected, and how it leaves."""

from __future__ import annotations

import pytest

from mesh.links.session import Session
from mesh.protocol.messages import Cancel, Hello, Role, StageFacts, Type
from mesh.protocol.wire import VERSION


@pytest.fixture
def session() -> Session:
    return Session(1, 2, Role.REPLICA, 10_000, nonce=5, now=3.0)


def test_connections_come_and_go(session: Session) -> None:
    assert (session.link, session.since) == (None, 3.0)
    assert "down" in repr(session)
    session.stream.post(Cancel(1, [1]))
    session.stream.flush(3.0)
    covered, again = session.attach(7, 0, 4.0)
    assert (session.link, session.since, covered, len(again)) == (7, 4.0, [], 1)
    assert "link 7 sent 1 (unacked 1)" in repr(session)
    session.detach(5.0)
    assert (session.link, session.since) == (None, 5.0)
    covered, again = session.attach(8, 1, 6.0)
    assert (covered, again) == ([Cancel(1, [1])], [])


def test_what_is_unacked_outlives_the_session(session: Session) -> None:
    session.attach(7, 0, 3.0)
    session.stream.post(Cancel(1, [1]))
    session.end()
    assert session.link is None
    assert session.stream.unacked() == [Cancel(1, [1])]


def test_it_is_what_its_hello_says(session: Session) -> None:
    facts = StageFacts("a", "r1", 4, 1.0, 100)
    hello = Hello(Role.REPLICA, 5, "mesh", (VERSION,), 0, 0, "tcp://h:1", facts, "h", 30, (4,), 9)
    session.introduce(hello, "key@h")
    assert (session.stage, session.feed, session.source) == (facts, "tcp://h:1", "key@h")
    assert (session.host, session.pid, session.parent, session.owners) == ("h", 30, 9, {4})
    session.reaches([5, 6])
    assert session.owners == {5, 6}


@pytest.mark.parametrize("address", ["tcp://h:1", ""])
def test_a_port_is_watched_if_there_is_one(session: Session, address: str) -> None:
    session.watch_port(address)
    assert (session.feed, session.vitals.listens) == (address, bool(address))


def test_drain_is_said_when_all_that_was_posted_has_been_sent(session: Session) -> None:
    assert not session.take_drain()
    session.stream.post(Cancel(1, [1]))
    session.drain()
    assert session.draining
    assert not session.take_drain()
    session.stream.flush(3.0)
    assert session.take_drain()
    assert not session.take_drain()
    session.attach(7, 0, 4.0)
    assert session.take_drain()  # it may have been lost with the last connection


def test_a_peer_is_drained_when_its_last_message_has_come(session: Session) -> None:
    assert not session.is_drained
    session.drained(1)
    assert session.draining  # in turn
    assert not session.is_drained
    assert session.take_drain()
    session.drained(1)
    assert not session.take_drain()  # once is enough
    session.stream.refuse(1, "illegible")
    assert session.is_drained


def test_parting_is_known_by_its_time(session: Session) -> None:
    assert not session.is_parting
    session.part(3.0)
    assert session.is_parting


def test_a_producer_owes_what_it_has_credit_for_and_a_consumer_what_the_core_says() -> None:
    producer = Session(1, 2, Role.GATEWAY, 100, may_say=frozenset({Type.TASKS}))
    assert not producer.owes_payload
    producer.stream.allow(1, 10, 0.0)
    assert producer.owes_payload
    producer.stream.allowed.used_tasks = 1
    producer.expect_outputs(expected=True)
    assert not producer.owes_payload
    consumer = Session(1, 2, Role.REPLICA, 100)
    assert not consumer.owes_payload
    consumer.expect_outputs(expected=True)
    assert consumer.owes_payload


def test_whose_parent_a_supervisor_is() -> None:
    supervisor = Session(1, 77, Role.SUPERVISOR, 100)
    assert supervisor.is_parent_of(77)
    assert not supervisor.is_parent_of(30)
    assert not supervisor.is_parent_of(0)
    assert not Session(1, 77, Role.REPLICA, 100).is_parent_of(77)
