"""What is done about what comes: HELLO and WELCOME, messages, refusals, goodbyes."""

from __future__ import annotations

from typing import Any

import pytest
from mesh_world import FACTS, Consumer, Producer, World, a_task, assert_quiet, session_of

from mesh.links.events import (
    Dial,
    HangUp,
    Identity,
    Instruction,
    ProbePort,
    Send,
    SessionLost,
    SessionStarted,
    Stranger,
)
from mesh.links.heartbeat import MIN_TIMEOUT_S
from mesh.links.links import Links
from mesh.protocol.fields import Frame
from mesh.protocol.hold_off import SPARED_BREACHES
from mesh.protocol.messages import (
    Bye,
    Cancel,
    Credit,
    Drain,
    Err,
    Header,
    Hello,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Peer,
    Peers,
    Ping,
    Role,
    Tasks,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.permissions import MAX_PEERS, MOST_FROM_ONE_SOURCE
from mesh.protocol.wire import VERSION, decode, encode, seal


def half() -> float:
    return 0.5


def a_producer(**facts: Any) -> Links:
    return Links(Identity(1, Role.GATEWAY, **facts), half)


def a_consumer(now: float = 0.0, address: str = "memory://p") -> Links:
    links = Links(Identity(2, Role.REPLICA, stage=FACTS), half)
    links.dial([address], now)
    return links


def frames(message: Message, sender: int, receiver: int = 0, sequence: int = 0) -> list[Frame]:
    encoded = encode(message)
    return seal(Header(encoded.type, sender, receiver, sequence), encoded)


def told(links: Links) -> list[Any]:
    """The instructions so far, messages decoded."""
    return [_readable(instruction) for instruction in links.take()]


def _readable(instruction: Instruction) -> Any:
    if isinstance(instruction, Send):
        return instruction.link, decode([bytes(f) for f in instruction.frames], 0.0)[1]
    return instruction


def hello(nonce: int = 5, peer: int = 2, **changed: Any) -> list[Frame]:
    made = Hello(Role.REPLICA, nonce, "mesh", (VERSION,), stage=FACTS)
    for name, value in changed.items():
        setattr(made, name, value)
    return frames(made, peer)


def greeted(producer: Links, link: int = 7, nonce: int = 5, peer: int = 2) -> None:
    """A consumer said HELLO, and was answered."""
    assert producer.received(link, hello(nonce, peer), 0.0) is None
    producer.flush(0.0)
    producer.take()
    producer.news.clear()


def greeting(consumer: Links, now: float = 0.0) -> tuple[int, Hello]:
    """Let the consumer dial and say HELLO: its link, and what it said."""
    consumer.tick(now)
    (dial,) = [each for each in consumer.take() if isinstance(each, Dial)]
    consumer.opened(dial.link, now)
    ((link, said),) = told(consumer)
    assert isinstance(said, Hello)
    return link, said


def welcomed(
    consumer: Links, peer: int = 1, now: float = 0.0, resumed: bool = False, timeout: float = 6.0
) -> int:
    link, said = greeting(consumer, now)
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, resumed, timeout)
    consumer.received(link, frames(welcome, peer), now)
    consumer.flush(now)
    consumer.take()
    return link


# --- HELLO, at the producer ----------------------------------------------------------------------


def test_a_hello_is_answered_and_makes_a_session() -> None:
    producer = a_producer(timeout=9.0)
    said = hello(5, feed="tcp://h:1", host="h", pid=3, owners=(1, 8))
    assert producer.received(7, said, 1.0) is None
    _, (link, welcome) = told(producer)  # and it is probed at
    assert (link, welcome) == (7, Welcome(5, VERSION, Role.GATEWAY, 0, False, 9.0))
    session = producer.sessions[2]
    assert list(producer.news) == [SessionStarted(session, False)]
    assert (session.link, session.stage, session.feed) == (7, FACTS, "tcp://h:1")
    assert (session.host, session.pid, session.owners) == ("h", 3, {1, 8})
    assert producer.reachable(Role.REPLICA) == (2,)
    assert producer.reachable(Role.GATEWAY) == ()


def test_a_repeated_hello_gets_the_welcome_again_and_changes_nothing() -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(7, hello(), 0.0)
    assert told(producer) == [(7, Welcome(5, VERSION, Role.GATEWAY, 0, True, 3.0))]
    assert not producer.news


@pytest.mark.parametrize(
    ("changed", "peer", "reason"),
    [
        ({"mesh": "other"}, 2, "this is mesh 'mesh', not 'other'"),
        ({"versions": (9,)}, 2, f"version {VERSION} is spoken here, not [9]"),
        ({}, 1, "this is yourself"),
    ],
)
def test_a_hello_is_refused_with_a_reason_and_forgotten(
    changed: dict[str, Any], peer: int, reason: str
) -> None:
    producer = a_producer()
    producer.received(7, hello(5, peer, **changed), 0.0)
    assert told(producer) == [(7, Err(0, reason)), HangUp(7)]
    assert not producer.sessions


def test_the_same_nonce_resumes_on_another_link() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    session.stream.post(Cancel(1, [1]))
    session.stream.post(Cancel(1, [2]))
    producer.touch(session)
    producer.flush(0.0)
    producer.take()
    delivery = producer.received(9, hello(received=1, known=1), 0.0)
    assert delivery is not None  # its ack came with HELLO
    assert delivery.covered == [Cancel(1, [1])]
    assert delivery.message is None
    assert told(producer) == [
        (9, Welcome(5, VERSION, Role.GATEWAY, 0, True, 3.0)),
        HangUp(7),
        (9, Cancel(1, [2])),
    ]
    assert session.link == 9
    assert list(producer.news) == [SessionStarted(session, True)]
    assert producer.resumes == 1


def test_another_nonce_begins_anew_once_the_link_is_gone() -> None:
    producer = a_producer()
    greeted(producer)
    old = producer.sessions[2]
    producer.closed(7, 0.0)
    producer.received(9, hello(6, known=1, received=3), 0.0)
    new = producer.sessions[2]
    assert new is not old
    assert list(producer.news) == [SessionLost(old, "it began anew"), SessionStarted(new, False)]


def test_another_nonce_is_refused_while_the_link_lives() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    producer.received(9, hello(6), 0.0)
    ping, err, hung_up = told(producer)
    assert ping[0] == 7  # in case that one is gone and nobody has noticed
    assert type(ping[1]) is Ping
    assert err == (9, Err(0, "you are connected already, by another link"))
    assert hung_up == HangUp(9)
    assert producer.sessions[2] is session
    assert session.link == 7


def test_another_process_on_the_same_link_takes_its_place() -> None:
    producer = a_producer()
    greeted(producer, peer=2)
    greeted(producer, nonce=6, peer=3)
    assert producer.sessions[2].link is None
    assert producer.sessions[3].link == 7


@pytest.mark.parametrize(
    "message", [Credit(), Cancel(1, [1]), Ping(1), Welcome(1, 1, Role(0), 0, True, 1)]
)
def test_a_stranger_is_asked_who_it_is(message: Message) -> None:
    producer = a_producer()
    sequence = 1 if isinstance(message, Cancel) else 0
    assert producer.received(7, frames(message, 2, 1, sequence), 0.0) is None
    assert told(producer) == [(7, Who()), HangUp(7)]


@pytest.mark.parametrize("message", [Who(), Err(0, "no"), Bye("done")])
def test_a_stranger_that_takes_its_leave_is_let_go(message: Message) -> None:
    producer = a_producer()
    producer.received(7, frames(message, 2), 0.0)
    assert told(producer) == [HangUp(7)]


def test_a_message_of_another_sender_than_the_sessions_is_a_strangers() -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(7, frames(Credit(), 99, 1), 0.0)
    assert told(producer) == [(7, Who()), HangUp(7)]
    assert producer.sessions[2].link is None


# --- WELCOME, at the consumer --------------------------------------------------------------------


def test_a_connected_link_says_hello_once() -> None:
    consumer = a_consumer()
    link, said = greeting(consumer)
    assert (said.role, said.stage, said.known, said.received) == (Role.REPLICA, FACTS, 0, 0)
    consumer.opened(link, 0.0)
    consumer.opened(-99, 0.0)
    assert told(consumer) == []


def test_a_welcome_makes_a_session() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    session = consumer.sessions[1]
    assert (session.link, session.role) == (link, Role.GATEWAY)
    assert list(consumer.news) == [SessionStarted(session, False)]
    beat = consumer.heartbeat
    assert (beat.ping_every, beat.silence) == (0.5, 2.0)


def test_of_several_gateways_none_makes_others_silent_or_us() -> None:
    consumer = a_consumer()
    assert (consumer.heartbeat.ping_every, consumer.heartbeat.silence) == (0.25, 1.0)
    welcomed(consumer)
    consumer.dial(["memory://p", "memory://q"], 0.0)
    welcomed(consumer, peer=3, timeout=0.0)
    assert (consumer.heartbeat.ping_every, consumer.heartbeat.silence) == (MIN_TIMEOUT_S / 12, 2.0)
    consumer.lose(consumer.sessions[3], "a test says so")
    assert (consumer.heartbeat.ping_every, consumer.heartbeat.silence) == (0.5, 2.0)


@pytest.mark.parametrize("nonce", [1, 99])
def test_a_welcome_that_answers_something_else_gives_the_link_up(nonce: int) -> None:
    consumer = a_consumer()
    link, _ = greeting(consumer)
    welcome = Welcome(nonce, VERSION, Role.GATEWAY, 0, False, 6.0)
    consumer.received(link, frames(welcome, 1), 0.0)
    assert told(consumer) == [HangUp(link)]
    assert not consumer.sessions


def test_a_refused_hello_is_tried_again_later() -> None:
    consumer = a_consumer()
    link, _ = greeting(consumer)
    consumer.received(link, frames(Err(0, "this is mesh 'x'"), 1), 0.0)
    assert told(consumer) == [HangUp(link)]
    again, _ = greeting(consumer)
    consumer.received(again, frames(Err(0, "this is mesh 'x'"), 1), 0.0)
    consumer.take()
    consumer.tick(0.01)
    assert told(consumer) == []
    assert consumer.next_due() == pytest.approx(0.1)


def test_who_refuses_us_again_and_again_is_told_of() -> None:
    heard: list[tuple[str, str]] = []
    consumer = a_consumer()
    consumer.objected = lambda *what: heard.append(what)
    for attempt in range(4):
        now = 9.0 * attempt  # longer than any pause
        link, _ = greeting(consumer, now)
        consumer.received(link, frames(Err(0, "this is mesh 'x'"), 1), now)
        consumer.take()
    assert heard == [("memory://p", "this is mesh 'x'")] * 2


def test_who_leaves_attempts_unanswered_again_and_again_is_told_of() -> None:
    """A key that is refused has no other sign."""
    heard: list[tuple[str, str]] = []
    consumer = a_consumer()
    consumer.objected = lambda *what: heard.append(what)
    for attempt in range(4):
        begun = 20.0 * attempt
        consumer.tick(begun)
        consumer.take()
        consumer.tick(begun + 9.0)  # longer than any attempt is given
        consumer.take()
    assert heard == [("memory://p", "")] * 2


def test_only_gateways_that_do_not_answer_are_told_of() -> None:
    heard: list[tuple[str, str]] = []
    consumer = a_consumer()
    consumer.gateways = frozenset()
    consumer.objected = lambda *what: heard.append(what)
    for attempt in range(6):
        consumer.tick(10.0 * attempt)
        consumer.take()
    assert heard == []


def test_what_comes_on_an_old_link_is_ignored() -> None:
    consumer = a_consumer()
    assert consumer.received(-99, frames(Credit(), 1, 2), 0.0) is None
    assert told(consumer) == []


def test_a_producer_that_has_forgotten_us_is_told_all_again() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    old = consumer.sessions[1]
    outcomes = Outcomes([Outcome(1, 1, OutcomeKind.RESULT)])
    old.stream.post(outcomes)
    consumer.closed(link, 0.0)
    consumer.news.clear()
    again, said = greeting(consumer)
    assert said.nonce == old.nonce
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, False, 6.0)
    consumer.received(again, frames(welcome, 1), 0.0)
    new = consumer.sessions[1]
    assert list(consumer.news) == [
        SessionLost(old, "it has forgotten us"),
        SessionStarted(new, False),
    ]
    consumer.flush(0.0)
    ((by, said_again),) = told(consumer)
    assert by == again
    assert isinstance(said_again, Outcomes)
    assert said_again.outcomes[0].number == 1


def test_a_ack_that_comes_with_welcome_is_delivered() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    session = consumer.sessions[1]
    session.stream.post(Cancel(2, [1]))
    consumer.touch(session)
    consumer.flush(0.0)
    consumer.closed(link, 0.0)
    consumer.take()
    again, said = greeting(consumer)
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 1, True, 6.0)
    delivery = consumer.received(again, frames(welcome, 1), 0.0)
    assert delivery is not None
    assert delivery.covered == [Cancel(2, [1])]
    assert session.stream.is_idle()


def test_a_session_lost_while_greeting_is_not_resumed() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    consumer.closed(link, 0.0)
    again, said = greeting(consumer)
    consumer.lose(consumer.sessions[1], "a test says so")
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, True, 6.0)
    consumer.received(again, frames(welcome, 1), 0.0)
    assert told(consumer) == [HangUp(again)]
    assert not consumer.sessions


def test_a_restarted_producer_is_lost_and_met() -> None:
    consumer = a_consumer()
    link = welcomed(consumer, peer=1)
    old = consumer.sessions[1]
    consumer.closed(link, 0.0)
    consumer.news.clear()
    welcomed(consumer, peer=11)
    new = consumer.sessions[11]
    assert list(consumer.news) == [
        SessionLost(old, "another process answers at its address"),
        SessionStarted(new, False),
    ]
    assert list(consumer.sessions) == [11]


def two_ways(consumer: Links) -> tuple[int, int]:
    """Dial two addresses of one process: the link that is up, and the other's, connected."""
    consumer.dial(["memory://p", "memory://q"], 0.0)
    consumer.tick(0.0)
    first, second = [each.link for each in consumer.take() if isinstance(each, Dial)]
    consumer.opened(first, 0.0)
    ((_, said),) = told(consumer)
    consumer.opened(second, 0.0)
    consumer.take()
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, False, 6.0)
    consumer.received(first, frames(welcome, 1), 0.0)
    consumer.take()
    return first, second


@pytest.mark.parametrize(
    "answer", [Err(0, "you are connected already"), Welcome(2**52 + 1, 1, Role(0), 0, False, 6.0)]
)
def test_a_second_way_to_the_same_process_is_given_up(answer: Message) -> None:
    consumer = a_consumer()
    first, second = two_ways(consumer)
    consumer.received(second, frames(answer, 1), 0.0)
    assert told(consumer) == [HangUp(second)]
    assert consumer.sessions[1].link == first


def test_a_known_second_way_is_given_up_before_hello() -> None:
    consumer = a_consumer()
    first, second = two_ways(consumer)
    consumer.received(second, frames(Err(0, "you are connected already"), 1), 0.0)
    consumer.take()
    consumer.tick(40.0)
    (dial,) = [each for each in consumer.take() if isinstance(each, Dial)]
    consumer.opened(dial.link, 40.0)
    assert told(consumer) == [HangUp(dial.link)]
    assert consumer.sessions[1].link == first


def test_who_makes_a_consumer_dial_again_and_resume() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    session = consumer.sessions[1]
    delivery = consumer.received(link, frames(Who(), 1, 2), 0.0)
    assert delivery is not None
    assert delivery.message is None
    assert told(consumer) == [HangUp(link)]
    _, said = greeting(consumer)
    assert (said.nonce, said.known) == (session.nonce, 1)


# --- messages of a session -----------------------------------------------------------------------


def test_what_the_cores_above_want_is_delivered_once() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    said = frames(Outcomes([Outcome(1, 1, OutcomeKind.RESULT)]), 2, 1, 1)
    delivery = producer.received(7, said, 3.0)
    assert delivery is not None
    assert (delivery.session, delivery.covered) == (session, ())
    assert isinstance(delivery.message, Outcomes)
    assert session.stream.heard == 3.0
    again = producer.received(7, said, 3.0)
    assert again is not None
    assert again.message is None


def test_peers_and_pings_are_delivered_and_credit_is_not() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    for message, shown in (Peers(1, []), True), (Ping(5), True), (Credit(), False):
        delivery = consumer.received(link, frames(message, 1, 2), 0.0)
        assert delivery is not None
        assert (delivery.message is not None) is shown


def test_a_gap_gives_the_link_up_and_asks_for_a_hello() -> None:
    producer = a_producer()
    greeted(producer)
    assert producer.received(7, frames(Outcomes(), 2, 1, sequence=2), 0.0) is None
    assert told(producer) == [(7, Who()), HangUp(7)]
    assert producer.sessions[2].link is None
    assert producer.protocol_errors == 0


def garbled(sender: int, sequence: int, kind: Type = Type.OUTCOMES) -> list[Frame]:
    (first,) = seal(Header(kind, sender, 1, sequence), encode(Credit()))
    return [bytes(first) + b"\xc1"]


def test_an_illegible_message_is_refused_by_its_number_and_the_next_is_read() -> None:
    producer = a_producer()
    greeted(producer)
    assert producer.received(7, garbled(2, 1), 0.0) is None
    ((link, err),) = told(producer)
    assert (link, err.sequence) == (7, 1)
    assert "msgpack" in err.reason
    assert producer.protocol_errors == 1
    delivery = producer.received(7, frames(Outcomes(), 2, 1, sequence=2), 0.0)
    assert delivery is not None
    assert delivery.message == Outcomes()


def test_an_illegible_message_beyond_a_gap_gives_the_link_up() -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(7, garbled(2, 5), 0.0)
    assert told(producer) == [(7, Who()), HangUp(7)]


@pytest.mark.parametrize(("sender", "kind"), [(2, Type.PING), (9, Type.OUTCOMES)])
def test_an_illegible_message_that_bears_no_number_of_ours_is_only_counted(
    sender: int, kind: Type
) -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(7, garbled(sender, 1, kind), 0.0)
    assert told(producer) == []
    assert producer.protocol_errors == 1
    assert producer.sessions[2].link == 7


@pytest.mark.parametrize("stranger", [True, False])
def test_nonsense_gives_the_link_up(stranger: bool) -> None:
    producer = a_producer()
    if not stranger:
        greeted(producer)
    producer.received(7, [b"GET / HTTP/1.1"], 0.0)
    assert told(producer) == [(7, Who()), HangUp(7)]
    assert producer.protocol_errors == 1


def test_garbled_words_of_a_stranger_give_the_link_up() -> None:
    producer = a_producer()
    producer.received(7, garbled(2, 1), 0.0)
    assert told(producer) == [(7, Who()), HangUp(7)]


def test_a_message_that_the_other_refused_is_news() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    session = consumer.sessions[1]
    consumer.news.clear()
    session.stream.post(Cancel(2, [1]))
    consumer.touch(session)
    consumer.flush(0.0)
    consumer.received(link, frames(Err(1, "illegible"), 1, 2), 0.0)
    consumer.flush(0.0)
    (news,) = consumer.news
    assert tuple(news) == (session, Cancel(2, [1]), "illegible")


def test_doubt_probes_those_who_dialled_us() -> None:
    both = a_consumer()
    welcomed(both)
    greeted(both, link=7, peer=3)
    both.doubt(1.0)
    ((link, ping),) = told(both)
    assert link == 7
    assert type(ping) is Ping


def test_a_ping_is_echoed_and_measures_the_round_trip() -> None:
    producer, consumer = a_producer(), a_consumer()
    greeted(producer)
    link = welcomed(consumer)
    producer.doubt(10.0)
    ((_, first),) = told(producer)
    consumer.received(link, frames(first, 1, 2), 10.2)
    consumer.sessions[1].stream.said = 0.0
    consumer.tick(10.5)
    (answer,) = [said for _, said in told(consumer) if isinstance(said, Ping)]
    assert (answer.echo, answer.held) == (first.stamp, pytest.approx(300_000, abs=2))
    answer.owners, answer.queued = (1, 4), 3
    producer.received(7, frames(answer, 2, 1), 10.8)
    session = producer.sessions[2]
    assert session.vitals.round_trip == pytest.approx(0.5)
    assert (session.owners, session.vitals.queued) == ({1, 4}, 3)


def test_drain_is_answered_once_with_the_last_number() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    session.stream.post_tasks([a_task(1)], 1)
    for _ in range(2):
        producer.received(7, frames(Drain(0), 2, 1), 0.0)
        producer.flush(0.0)
    (first, second) = told(producer)
    assert type(first[1]) is Tasks
    assert second == (7, Drain(1))
    assert session.draining
    assert session.is_drained


def test_goodbye_is_answered_and_the_pair_is_over() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    producer.received(7, frames(Bye("done"), 2, 1), 0.0)
    assert told(producer) == [(7, Bye("goodbye")), HangUp(7)]
    assert list(producer.news) == [SessionLost(session, "it said goodbye", orderly=True)]


def test_an_answered_goodbye_is_not_answered_again() -> None:
    producer = a_producer()
    greeted(producer)
    producer.part(producer.sessions[2], 0.0)
    producer.take()
    producer.received(7, frames(Bye("goodbye"), 2, 1), 0.1)
    assert told(producer) == [HangUp(7)]
    assert not producer.sessions


def test_a_consumer_stays_until_its_answer_to_goodbye_has_gone() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    consumer.received(link, frames(Bye("done"), 1, 2), 1.0)
    assert told(consumer) == [(link, Bye("goodbye"))]
    assert not consumer.sessions
    assert consumer.received(link, frames(Who(), 1, 2), 1.1) is None
    consumer.tick(1.2)
    assert told(consumer) == []
    consumer.tick(1.3)
    assert told(consumer) == [HangUp(link)]
    greeting(consumer, 1.4)  # the address is still wanted


# --- two ends over a network ---------------------------------------------------------------------


def a_pair() -> tuple[World, Producer, Consumer]:
    world = World()
    producer, consumer = world.producer("p", 1), world.consumer("c", 2, "p")
    world.run(0.1)
    return world, producer, consumer


def test_a_name_that_the_network_forgot_comes_back_by_who() -> None:
    world, producer, consumer = a_pair()
    link = session_of(producer, consumer).link
    assert link is not None
    world.nodes["p"].network.hang_up(link)
    world.push(producer)
    world.run(2.0)
    assert {number for _, number in consumer.taken} | {t.number for t in producer.returned} == {1}
    assert_quiet(producer, consumer)


def test_two_addresses_of_one_process_are_one_session() -> None:
    world = World()
    producer = world.producer("p", 1)
    world.nodes["p"].network.listen("memory://also-p")
    consumer = world.consumer("c", 2, "p", "also-p")
    world.push(producer)
    world.run(100.0)
    assert len(producer.met) == len(consumer.met) == 1
    assert [number for _, number in consumer.taken] == [1]
    world.hub.refuse("memory://p")
    world.hub.cut("p", "c")
    world.run(60.0)  # the other way is found when it is tried again
    world.push(producer)
    world.run(1.0)
    assert [number for _, number in consumer.taken] == [1, 2]


def test_drain_is_repeated_after_a_cut() -> None:
    world, producer, consumer = a_pair()
    session = session_of(consumer, producer)
    session.drain()
    consumer.links.touch(session)
    world.run(0.0)
    world.hub.cut("p", "c", (99, 99))
    assert not session_of(producer, consumer).draining
    world.run(1.0)
    assert session_of(producer, consumer).draining
    assert session.is_drained
    assert session_of(producer, consumer).is_drained


def test_a_restarted_consumer_is_another() -> None:
    world, producer, _ = a_pair()
    world.kill("c")
    newcomer = world.consumer("c", 22, "p")
    world.run(1.0)
    world.push(producer)
    world.run(1.0)
    assert [news.session.peer for news in producer.met] == [2, 22]
    assert [news.session.peer for news in producer.lost] == [2]
    assert [number for _, number in newcomer.taken] == [1]


def test_a_restarted_producer_is_found_again_at_its_address() -> None:
    world, _, consumer = a_pair()
    world.kill("p")
    world.run(1.0)
    newcomer = world.producer("p", 11)
    world.run(5.0)
    assert [news.session.peer for news in consumer.lost] == [1]
    assert [news.session.peer for news in consumer.met] == [1, 11]
    assert_quiet(newcomer, consumer)


def test_one_whose_door_was_open_is_gone_when_its_kernel_refuses_us() -> None:
    producer = a_producer()
    producer.received(7, hello(feed="tcp://h:1"), 0.0)
    assert ProbePort(2, "tcp://h:1") in producer.take()
    producer.probed(2, True, 0.01)
    producer.probed(2, False, 0.02)  # it is connected: whatever that means
    producer.closed(7, 1.0)
    producer.probed(2, True, 1.01)  # it is dying
    producer.news.clear()
    producer.probed(2, False, 1.03)
    (lost,) = producer.news
    assert isinstance(lost, SessionLost)
    assert "no process listens" in lost.reason
    producer.probed(2, False, 1.04)
    assert not producer.sessions


def test_while_its_supervisor_is_there_the_death_notice_is_awaited() -> None:
    producer = a_producer()
    watched = {"feed": "tcp://h:1", "host": "h", "pid": 31, "parent": 3}
    producer.received(7, hello(**watched), 0.0)
    supervisor = Hello(Role.SUPERVISOR, 6, "mesh", (VERSION,), host="h", pid=30)
    producer.received(8, frames(supervisor, 3), 0.0)
    producer.probed(2, True, 0.01)
    producer.closed(7, 1.0)
    producer.probed(2, False, 1.01)
    assert set(producer.sessions) == {2, 3}
    producer.closed(8, 1.02)
    producer.probed(2, False, 1.03)
    assert set(producer.sessions) == {3}


def test_a_supervisor_is_known_by_the_number_that_it_gave_its_replicas() -> None:
    producer = a_producer()
    producer.received(7, hello(feed="tcp://h:1", host="h", pid=31, parent=3), 0.0)
    for peer in (4, 3):
        supervisor = Hello(Role.SUPERVISOR, 6, "mesh", (VERSION,), host="h", pid=30)
        producer.received(peer, frames(supervisor, peer), 0.0)
    producer.probed(2, True, 0.01)
    producer.closed(7, 1.0)
    producer.closed(4, 1.0)
    producer.probed(2, False, 1.01)
    assert 2 in producer.sessions
    producer.closed(3, 1.02)
    producer.probed(2, False, 1.03)
    assert 2 not in producer.sessions


def test_one_whose_door_was_never_open_is_given_its_time() -> None:
    producer = a_producer()
    producer.received(7, hello(feed="tcp://h:1"), 0.0)
    producer.probed(2, False, 0.01)
    producer.closed(7, 1.0)
    producer.probed(2, False, 1.01)
    assert producer.sessions


def test_one_of_them_that_slices_is_enough() -> None:
    producer = a_producer()
    producer.received(7, hello(feed="tcp://h:1"), 0.0)
    assert not producer.is_slicing()
    (session,) = producer.sessions.values()
    session.stream.post(Tasks([a_task(1, 1 << 22)]), 1 << 22)
    assert producer.is_slicing()


# --- what may be said ------------------------------------------------------------------------


def test_who_says_what_it_may_not_say_loses_its_session_and_nobody_else_theirs() -> None:
    producer = a_producer()
    greeted(producer)
    greeted(producer, link=8, peer=3)
    assert producer.received(7, frames(Cancel(1, [1]), 2, 1, sequence=1), 0.0) is None
    assert list(producer.sessions) == [3]
    assert [news.reason for news in producer.news if isinstance(news, SessionLost)] == [
        "it may not say CANCEL"
    ]
    assert producer.breaches == 1
    assert HangUp(7) in producer.take()


def test_who_was_expelled_is_told_so_and_refused_for_a_while() -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(7, frames(Cancel(1, [1]), 2, 1, sequence=1), 0.0)
    assert told(producer) == [
        (7, Err(0, "you are expelled for 1 s: it may not say CANCEL")),
        (7, Who()),
        HangUp(7),
    ]
    producer.received(8, hello(6), 0.5)
    assert producer.sessions == {}
    assert (8, Err(0, "you were expelled; come again in 0.5 s")) in told(producer)
    producer.received(9, hello(6, peer=3), 0.5)  # another is not
    producer.received(10, hello(6), 1.0)
    assert set(producer.sessions) == {2, 3}


def test_who_comes_with_a_new_number_each_time_is_known_by_where_it_comes_from() -> None:
    producer = a_producer()
    producer.source = lambda link: "key@10.0.0.9" if link < 90 else "key@10.0.0.8"
    greeted(producer, link=70, peer=60)  # one that keeps the rules, from the same place
    for number in range(3, 3 + SPARED_BREACHES + 1):
        greeted(producer, link=number, peer=number)
        producer.received(number, frames(Cancel(1, [1]), number, 1, sequence=1), 0.0)
    producer.received(50, hello(peer=50), 0.0)
    producer.received(91, hello(peer=51), 0.0)
    assert set(producer.sessions) == {60, 51}
    producer.closed(70, 0.1)
    producer.received(71, hello(peer=60), 0.1)  # a session that goes on is let in
    assert producer.sessions[60].link == 71


def test_one_source_has_no_more_sessions_than_it_may_and_takes_nobodys() -> None:
    producer = a_producer()
    producer.source = lambda link: "key@10.0.0.9" if link < 1000 else "key@10.0.0.8"
    for number in range(3, 3 + MOST_FROM_ONE_SOURCE):
        greeted(producer, link=number, peer=number)
    assert producer.sessions[3].source == "key@10.0.0.9"
    producer.received(900, hello(peer=900), 0.0)
    assert 900 not in producer.sessions
    ((link, err), hang_up) = told(producer)
    assert (link, hang_up) == (900, HangUp(900))
    assert err.reason == (
        "256 processes are connected with your key from your address, and no more may be"
    )
    assert producer.breaches == 0  # it has broken no rule: others have its key
    producer.received(1000, hello(peer=1000), 0.0)
    assert 1000 in producer.sessions
    producer.closed(3, 0.1)
    producer.received(901, hello(peer=3), 0.1)  # a session that goes on is let in
    producer.received(902, hello(6, peer=3), 0.1)  # not by two links at once
    assert producer.sessions[3].link == 901
    producer.closed(901, 0.2)
    producer.received(902, hello(6, peer=3), 0.2)  # who begins anew takes its own place
    assert producer.sessions[3].link == 902
    producer.lose(producer.sessions[4], "gone")
    producer.received(903, hello(peer=900), 0.2)
    assert 900 in producer.sessions


def test_where_nobody_can_tell_who_comes_from_where_there_is_no_such_limit() -> None:
    producer = a_producer()
    for number in range(3, 5 + MOST_FROM_ONE_SOURCE):
        greeted(producer, link=number, peer=number)
    assert len(producer.sessions) == MOST_FROM_ONE_SOURCE + 2


OUT_OF_RANGE = [
    ({"stage": FACTS._replace(batch=0)}, "batch is 0, not within 1 to 65536"),
    ({"feed": "tcp://" + "h" * 300}, "the feed address is too long or not printable"),
    ({"role": Role.GATEWAY, "stage": None}, "a gateway has nothing to say to a gateway"),
]


@pytest.mark.parametrize(("changed", "reason"), OUT_OF_RANGE)
def test_a_hello_out_of_its_ranges_is_a_breach_like_any(
    changed: dict[str, Any], reason: str
) -> None:
    producer = a_producer()
    lines: list[Any] = []
    producer.expelled = lambda *what: lines.append(what)
    producer.received(7, hello(host="h", pid=3, **changed), 0.0)
    assert told(producer) == [(7, Err(0, f"you are expelled for 1 s: {reason}")), HangUp(7)]
    assert producer.breaches == 1
    role = changed.get("role", Role.REPLICA)
    assert lines == [(Stranger(2, role, "h", 3), reason, None)]
    producer.received(8, hello(), 0.5)
    producer.received(9, hello(**changed), 0.5)  # why it is refused stays known
    held_off = "you were expelled; come again in 0.5 s"
    assert [each for each in told(producer) if type(each) is tuple] == [
        (8, Err(0, held_off)),
        (9, Err(0, f"{held_off}: {reason}")),
    ]
    assert (producer.breaches, len(lines)) == (1, 1)
    assert producer.sessions == {}
    producer.received(10, hello(), 1.0)
    assert list(producer.sessions) == [2]


def test_another_protocol_version_is_no_breach_whatever_else_is_said() -> None:
    producer = a_producer()
    producer.received(7, hello(versions=(9,), stage=FACTS._replace(batch=0)), 0.0)
    assert producer.breaches == 0
    producer.received(8, hello(), 0.0)
    assert list(producer.sessions) == [2]


def test_who_resumes_its_session_out_of_range_loses_it() -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(9, hello(5, stage=FACTS._replace(pool=0)), 0.0)
    assert producer.sessions == {}
    assert producer.breaches == 1
    assert (9, Err(0, "you are expelled for 1 s: pool is 0 bytes: no task fits into it")) in told(
        producer
    )


def test_a_breach_under_the_number_of_another_harms_only_its_source() -> None:
    producer = a_producer()
    producer.source = lambda link: "key@rogue" if link >= 90 else "key@honest"
    greeted(producer)
    session = producer.sessions[2]
    for link in range(90, 90 + SPARED_BREACHES + 1):
        producer.received(link, hello(6, stage=FACTS._replace(batch=0)), 0.0)
    assert producer.breaches == SPARED_BREACHES + 1
    assert producer.sessions == {2: session}
    producer.received(99, hello(peer=3), 0.0)  # it is held off, by whatever number
    producer.closed(7, 0.1)
    producer.received(98, hello(6), 0.1)
    assert producer.sessions == {2: session}
    producer.received(8, hello(6), 0.1)  # the number is not: its owner begins anew
    assert producer.sessions[2].link == 8


def test_a_number_is_not_taken_over_from_elsewhere() -> None:
    producer = a_producer()
    producer.source = lambda link: "key@b" if link >= 90 else "key@a"
    greeted(producer)
    session = producer.sessions[2]
    producer.closed(7, 0.1)
    producer.received(90, hello(6), 0.1)
    assert (90, Err(0, "another process bears this number")) in told(producer)
    assert producer.sessions == {2: session}
    producer.received(91, hello(5), 0.1)  # the nonce is known to that process alone
    assert (session.link, session.source) == (91, "key@b")


def test_a_producer_that_breaks_a_rule_is_not_dialled_at_once() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    consumer.received(link, frames(Cancel(9, [1]), 1, 2, sequence=1), 0.0)
    assert consumer.sessions == {}
    consumer.take()
    consumer.tick(0.9)
    assert not [each for each in consumer.take() if isinstance(each, Dial)]
    consumer.tick(1.0)
    assert [each for each in consumer.take() if isinstance(each, Dial)]


def test_who_was_expelled_is_no_producer_either_for_a_while() -> None:
    """It dialled us, broke a rule, and answers at an address that we dial meanwhile."""
    consumer = a_consumer()
    consumer.held_off.expelled(1, "", 0.0)
    welcomed(consumer, now=0.5)
    assert consumer.sessions == {}
    consumer.tick(0.9)
    assert not [each for each in consumer.take() if isinstance(each, Dial)]
    welcomed(consumer, now=1.0)
    assert set(consumer.sessions) == {1}


def test_where_a_process_came_from_is_no_objection_where_nobody_could_tell() -> None:
    producer = a_producer()
    greeted(producer)
    producer.closed(7, 0.1)
    producer.source = lambda link: "key@10.0.0.9"
    producer.received(8, hello(6), 0.1)
    assert producer.sessions[2].link == 8


def test_a_process_that_is_known_has_one_supervisor_all_its_life() -> None:
    """Nobody but gateways is told its number: whoever names another is another process."""
    producer = a_producer()
    assert producer.received(7, hello(parent=77), 0.0) is None
    producer.closed(7, 0.1)
    for parent in (0, 78):
        for nonce in (5, 6):
            producer.received(8, hello(nonce, parent=parent), 0.1)
            assert (8, Err(0, "another process bears this number")) in told(producer)
    assert producer.sessions[2].parent == 77
    producer.received(9, hello(parent=77), 0.1)
    assert producer.sessions[2].link == 9


def test_a_round_trip_is_believed_within_reason() -> None:
    producer = a_producer()
    greeted(producer)
    producer.received(7, frames(Ping(5, 1, 0), 2, 1), 90_000.0)
    assert producer.sessions[2].vitals.round_trip == 2.5


def test_a_gateway_that_names_more_addresses_than_it_may_loses_its_session() -> None:
    consumer = a_consumer()
    link = welcomed(consumer)
    feed = Peer("tcp://10.0.0.7:1", 9, Role.REPLICA, "embed", "r1")
    named = Peers(1, [feed] * (MAX_PEERS + 1))
    assert consumer.received(link, frames(named, 1, 2, sequence=1), 0.0) is None
    assert consumer.sessions == {}
    assert [news.reason for news in consumer.news if isinstance(news, SessionLost)] == [
        "513 addresses are more than 512"
    ]


@pytest.mark.parametrize("is_gateways", [True, False])
def test_only_where_gateways_are_our_supervisor_is_named_and_a_gateway_believed(
    is_gateways: bool,
) -> None:
    """A feed that a peer named can neither declare us dead, nor send PEERS."""
    consumer = a_consumer()
    consumer.identity.parent = 77
    consumer.gateways = frozenset(["memory://p"] if is_gateways else [])
    link, said = greeting(consumer)
    assert said.parent == (77 if is_gateways else 0)
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, False, 6.0)
    consumer.received(link, frames(welcome, 1), 0.0)
    assert bool(consumer.sessions) is is_gateways


def test_another_kind_of_process_cannot_take_a_number_over() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    producer.closed(7, 1.0)
    thief = hello(6, role=Role.CLIENT, stage=None)
    assert producer.received(8, thief, 1.0) is None
    assert producer.sessions == {2: session}
    producer.received(9, hello(6), 1.0)
    assert producer.sessions[2] is not session


def test_a_supervisor_that_begins_anew_is_no_impostor() -> None:
    producer = a_producer()
    producer.received(7, hello(5, role=Role.SUPERVISOR, stage=None), 0.0)
    former = producer.sessions[2]
    producer.closed(7, 1.0)
    producer.received(8, hello(6, role=Role.SUPERVISOR, stage=None), 1.0)
    assert producer.sessions[2] is not former
    assert producer.breaches == 0


def test_a_welcome_of_one_who_is_no_producer_is_dropped() -> None:
    consumer = Links(Identity(2, Role.SUPERVISOR), half)
    consumer.dial(["memory://p"], 0.0)
    consumer.tick(0.0)
    consumer.opened(-1, 0.0)
    (_, said) = [each for each in told(consumer) if isinstance(each, tuple)][-1]
    consumer.received(-1, frames(Welcome(said.nonce, VERSION, Role.REPLICA, 0, False, 3.0), 1), 0.0)
    assert consumer.sessions == {}


def test_who_is_dialled_cannot_take_the_number_of_another_kind_of_process_over() -> None:
    """A feed that calls itself by a gateway's number, while that one's link is down."""
    consumer = a_consumer()
    link = welcomed(consumer)
    session = consumer.sessions[1]
    consumer.closed(link, 0.0)
    consumer.dial(["memory://p", "memory://rogue"], 0.0)
    consumer.tick(0.0)
    dialled = {each.address: each.link for each in consumer.take() if isinstance(each, Dial)}
    rogue = dialled["memory://rogue"]
    consumer.opened(rogue, 0.0)
    (_, said) = [each for each in told(consumer) if isinstance(each, tuple)][-1]
    posing = Welcome(said.nonce, VERSION, Role.REPLICA, 0, False, 6.0)
    consumer.received(rogue, frames(posing, 1), 0.0)
    assert consumer.sessions == {1: session}


def test_who_was_expelled_does_not_come_back_by_answering_us() -> None:
    consumer = a_consumer()
    consumer.held_off.expelled(1, "", 0.0)
    link, said = greeting(consumer)
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, False, 6.0)
    consumer.received(link, frames(welcome, 1), 0.5)
    assert consumer.sessions == {}
    line = consumer._lines.of(link)
    assert line is None
    consumer.tick(1.0)
    link, said = greeting(consumer)
    welcome = Welcome(said.nonce, VERSION, Role.GATEWAY, 0, False, 6.0)
    consumer.received(link, frames(welcome, 1), 1.1)
    assert list(consumer.sessions) == [1]


def test_a_gateways_number_that_another_has_taken_is_given_back_to_the_gateway() -> None:
    """A feed calls itself by the number of a gateway that we have not met yet."""
    consumer = a_consumer()
    consumer.gateways = frozenset(["memory://p"])
    consumer.dial(["memory://p", "memory://rogue"], 0.0)
    consumer.tick(0.0)
    dialled = {each.address: each.link for each in consumer.take() if isinstance(each, Dial)}
    for address, role in (("memory://rogue", Role.REPLICA), ("memory://p", Role.GATEWAY)):
        consumer.opened(dialled[address], 0.0)
        (_, said) = [each for each in told(consumer) if isinstance(each, tuple)][-1]
        answer = Welcome(said.nonce, VERSION, role, 0, False, 6.0)
        consumer.received(dialled[address], frames(answer, 1), 0.0)
    assert [(each.role, each.link) for each in consumer.sessions.values()] == [
        (Role.GATEWAY, dialled["memory://p"])
    ]


def test_unfinished_payloads_have_a_gibibyte_or_two_pools() -> None:
    for pool, limit in (1 << 20, 1 << 30), (1 << 32, 1 << 33):
        links = Links(Identity(1, Role.GATEWAY, pool=pool), half)
        assert links._unfinished.limit == limit


def test_who_stops_waits_for_no_producer_at_whose_address_nobody_listens() -> None:
    consumer = a_consumer(address="tcp://10.0.0.7:1")
    link = welcomed(consumer)
    (session,) = consumer.sessions.values()
    consumer.need_not_wait(session)
    consumer.closed(link, 1.0)
    consumer.tick(1.0)
    assert ProbePort(session.peer, "tcp://10.0.0.7:1") in consumer.take()
    consumer.probed(session.peer, False, 1.01)
    assert consumer.sessions == {}


def test_a_producer_that_was_never_dialled_is_not_asked_for() -> None:
    producer = a_producer()
    greeted(producer)
    session = producer.sessions[2]
    producer.need_not_wait(session)
    assert (session.feed, session.vitals.listens) == ("", False)


def test_what_comes_in_slices_counts_for_all_sessions_together() -> None:
    producer = a_producer()
    greeted(producer, link=7, nonce=5, peer=2)
    greeted(producer, link=8, nonce=6, peer=3)
    for link, peer in ((7, 2), (8, 3)):
        part = Part(0, 1 << 20, 0, bytes(100_000))
        producer.sessions[peer].may_owe = True
        producer.received(link, frames(part, peer, producer.me, 1), 1.0)
    assert producer._unfinished.nbytes == 200_000
    producer.lose(producer.sessions[3], "gone")
    assert producer._unfinished.nbytes == 100_000
    producer.received(7, frames(Bye("done"), 2), 1.0)
    assert producer._unfinished.nbytes == 0


def sources(links: Links) -> dict[int, Any]:
    return {peer: session.stream._incoming.source for peer, session in links.sessions.items()}


def test_sessions_from_one_place_have_one_share_of_what_is_unfinished() -> None:
    producer = a_producer()
    producer.source = {7: "key@10.0.0.1", 8: "key@10.0.0.1", 9: ""}.__getitem__
    for link, peer in ((7, 2), (8, 3), (9, 4)):
        greeted(producer, link=link, nonce=link, peer=peer)
    assert sources(producer) == {2: "key@10.0.0.1", 3: "key@10.0.0.1", 4: 4}
    consumer = a_consumer(address="tcp://10.0.0.1:7001")
    welcomed(consumer, peer=1)
    assert sources(consumer) == {1: "tcp://10.0.0.1"}


def test_a_producer_that_was_expelled_is_not_met_again_at_once() -> None:
    consumer = a_consumer()
    welcomed(consumer, peer=1)
    consumer.expel(consumer.sessions[1], "it lies", 0.0)
    consumer.take()
    consumer.dial(["memory://another"], 0.1)  # where it listens as well
    assert consumer.sessions == {}
    welcomed(consumer, peer=1, now=0.1)
    assert consumer.sessions == {}
    welcomed(consumer, peer=1, now=2.0)
    assert list(consumer.sessions) == [1]


def test_there_is_room_for_what_was_granted_twice_and_a_gibibyte_at_least() -> None:
    assert a_producer(pool=1 << 20)._unfinished.limit == 1 << 30
    assert a_producer(pool=1 << 31)._unfinished.limit == 1 << 32


def test_whether_somebody_was_greeted_and_has_not_answered() -> None:
    consumer = a_consumer()
    assert not consumer.is_greeting()
    link, said = greeting(consumer)
    assert consumer.is_greeting()
    consumer.received(
        link, frames(Welcome(said.nonce, VERSION, Role.GATEWAY, 0, False, 6.0), 1), 0.0
    )
    assert not consumer.is_greeting()
