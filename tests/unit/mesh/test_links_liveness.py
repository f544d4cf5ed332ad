"""What a process owes its links, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_world import FACTS, World, session_of

from mesh.links.dialer import BYE_LINGER_S, FIRST_ATTEMPT_S, HELLO_LIMIT_S
from mesh.links.events import (
    Dial,
    HangUp,
    Identity,
    MessageReceived,
    MessageRefused,
    ProbePort,
    Send,
    SessionLost,
    SessionSilent,
    SessionStarted,
    Stranger,
)
from mesh.links.heartbeat import LEAST_PAYLOAD_S, MOST_PAYLOAD_S, PING_INTERVAL_S
from mesh.links.links import Links
from mesh.links.liveness import BYE_LIMIT_S, PRODUCER_ABSENCE_S, RESUME_S
from mesh.links.session import Session
from mesh.links.stream import ACK_DELAY_S
from mesh.links.vital_signs import PROBE_INTERVAL_S
from mesh.protocol.hold_off import FIRST_PAUSE_S
from mesh.protocol.messages import (
    Bye,
    Cancel,
    Credit,
    Drain,
    Header,
    Message,
    Part,
    Peers,
    Ping,
    Role,
    Type,
    Who,
)
from mesh.protocol.permissions import Breach
from mesh.protocol.wire import decode


def some_links(timeout: float = 60.0) -> Links:
    """Links whose consumers dialled; time is 0."""
    return Links(Identity(1, Role.GATEWAY, timeout=timeout), lambda: 0.5)


def joined(links: Links, peer: int = 2, link: int = 7) -> Session:
    """A session that is up."""
    session = Session(links.me, peer, Role.REPLICA, 100)
    session.stage = FACTS if link > 0 else None
    links.sessions[peer] = session
    links._attach(session, link, 0, False, 0.0)
    links.flush(0.0)
    links.take()
    links.news.clear()
    return session


def test_that_some_are_not_dialled_is_said_once() -> None:
    links, told = some_links(), []
    links.most_named, links.left_out = 2, told.append
    links.dial(["tcp://g:1"], 0.0, ["tcp://a:1", "tcp://b:1"])
    assert told == []
    for _ in range(3):
        links.dial(["tcp://g:1"], 0.0, ["tcp://a:1", "tcp://b:1", "tcp://c:1"])
    assert told == [1]
    links.tick(0.0)
    dialled = {each.address for each in links.take() if isinstance(each, Dial)}
    assert dialled == {"tcp://g:1", "tcp://a:1", "tcp://b:1"}


def test_where_a_role_was_dialled_is_known_while_it_is_connected() -> None:
    links = some_links()
    links.dial(["tcp://g:1", "tcp://h:1"], 0.0)
    links.tick(0.0)
    dialled = {each.address: each.link for each in links.take() if isinstance(each, Dial)}
    joined(links, 2, dialled["tcp://h:1"]).role = Role.GATEWAY
    joined(links, 3, 7).role = Role.GATEWAY  # who dialled us
    joined(links, 4, dialled["tcp://g:1"])
    assert links.addresses_of(Role.GATEWAY) == ["tcp://h:1"]
    links.closed(dialled["tcp://h:1"], 1.0)
    assert links.addresses_of(Role.GATEWAY) == []


def said(links: Links) -> list[tuple[int, Message]]:
    """The messages among the instructions so far."""
    return [
        (instruction.link, decode([bytes(f) for f in instruction.frames], 0.0)[1])
        for instruction in links.take()
        if isinstance(instruction, Send)
    ]


def kinds(links: Links) -> list[tuple[int, type[Message]]]:
    return [(link, type(message)) for link, message in said(links)]


def probes(links: Links, now: float) -> list[ProbePort]:
    links.tick(now)
    return [each for each in links.take() if isinstance(each, ProbePort)]


def test_while_its_link_is_closed_its_kernel_is_asked_whether_it_lives() -> None:
    links = some_links()
    session = joined(links)
    session.feed, session.vitals.listens = "tcp://h:1", True
    assert probes(links, 0.5) == []
    links.closed(7, 1.0)
    assert probes(links, 1.0) == [ProbePort(2, "tcp://h:1")]
    assert links.next_due() == 1.0 + PROBE_INTERVAL_S
    links._see_to(session, 1.001)  # something else is to be done
    assert probes(links, 1.0 + PROBE_INTERVAL_S / 2) == []
    assert probes(links, 1.0 + PROBE_INTERVAL_S) == [ProbePort(2, "tcp://h:1")]


def test_one_that_never_answered_there_is_not_asked() -> None:
    links = some_links()
    joined(links).feed = "tcp://h:1"
    links.closed(7, 1.0)
    assert probes(links, 1.0) == []


# --- payloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "life"), [(3.0, LEAST_PAYLOAD_S), (50.0, 50.0), (1e9, MOST_PAYLOAD_S)]
)
def test_a_payload_that_is_not_whole_when_no_request_wants_it_is_given_up(
    timeout: float, life: float
) -> None:
    links = some_links(timeout=timeout)
    session = joined(links)
    session.stream.accept(Header(Type.PART, 2, 1, 1), Part(0, 100, 0, b"x"), 2.0)
    session.stream.accept(Header(Type.PART, 2, 1, 2), Part(0, 100, 1, b"x"), life)  # it goes on
    links.tick(2.0 + life)
    assert session.stream.arrived
    links.tick(2.0 + life + PING_INTERVAL_S)
    assert (session.stream.arrived, session.stream.is_slicing()) == (0, False)
    assert links.sessions == {2: session}


# --- dialling ------------------------------------------------------------------------------------


def test_an_address_is_dialled_when_it_is_due_and_given_up_when_it_does_not_open() -> None:
    links = some_links()
    links.dial(["a"], 5.0)
    assert links.next_due() == 5.0
    links.tick(4.9)
    assert links.take() == []
    links.tick(5.0)
    assert links.take() == [Dial(-1, "a")]
    assert links.next_due() == 5.0 + FIRST_ATTEMPT_S
    links.tick(5.0 + FIRST_ATTEMPT_S)
    assert links.take() == [HangUp(-1)]
    links.tick(5.0 + FIRST_ATTEMPT_S)  # the first new attempt is made at once
    assert links.take() == [Dial(-2, "a")]


def test_an_unanswered_hello_gives_the_link_up() -> None:
    links = some_links()
    links.dial(["a"], 0.0)
    links.tick(0.0)
    links.opened(-1, 0.1)
    links.take()
    assert links.next_due() == FIRST_ATTEMPT_S  # what was due before; it does no harm
    links.tick(FIRST_ATTEMPT_S)
    assert links.take() == []
    assert links.next_due() == 0.1 + HELLO_LIMIT_S
    links.tick(0.1 + HELLO_LIMIT_S)
    assert links.take() == [HangUp(-1)]


def test_an_address_that_nobody_wants_is_hung_up() -> None:
    links = some_links()
    links.dial(["a"], 0.0)
    links.tick(0.0)
    links.take()
    links.dial([], 0.0)
    assert links.take() == [HangUp(-1)]
    links.tick(9.0)
    assert links.take() == []
    assert links.next_due() == float("inf")


# --- what is owed --------------------------------------------------------------------------------


def test_what_was_posted_goes_with_the_next_flush_if_it_was_touched() -> None:
    links = some_links()
    session = joined(links)
    session.stream.post(Cancel(1, [1]))
    links.flush(0.0)
    assert said(links) == []
    links.touch(session)
    links.flush(0.0)
    assert said(links) == [(7, Cancel(1, [1]))]
    links.flush(0.0)
    assert said(links) == []


def test_sessions_are_flushed_in_the_order_in_which_they_were_touched() -> None:
    links = some_links()
    sessions = [joined(links, peer, link=peer) for peer in (5, 3, 9, 4)]
    for session in sessions:
        session.stream.post(Cancel(1, [1]))
        links.touch(session)
    links.flush(0.0)
    assert [link for link, _ in said(links)] == [5, 3, 9, 4]


def test_credit_goes_by_itself_when_it_has_waited_long_enough() -> None:
    links = some_links()
    session = joined(links)
    session.stream.allow(10, 0, 0.0)
    links.touch(session)
    links.flush(0.0)
    assert said(links) == [(7, Credit())]  # the other had none
    links.tick(1.0)
    said(links)
    assert links.next_due() > 1.0 + ACK_DELAY_S
    session.stream.allow(11, 0, 1.0)
    links.touch(session)
    links.flush(1.0)
    assert said(links) == []
    assert links.next_due() == 1.0 + ACK_DELAY_S
    links.tick(1.0 + ACK_DELAY_S)
    assert said(links)[0] == (7, Credit())


def test_credit_that_rode_on_something_is_owed_no_more() -> None:
    links = some_links()
    session = joined(links)
    session.stream.allow(10, 0, 0.0)
    session.stream.frames_of(Credit(), 0.0)
    session.stream.allow(11, 0, 0.0)
    links.touch(session)
    links.flush(0.0)
    session.stream.post(Cancel(1, [1]))
    links.touch(session)
    links.flush(0.01)
    assert said(links) == [(7, Cancel(1, [1]))]
    links.tick(ACK_DELAY_S)
    assert said(links) == []


def test_a_session_that_is_down_is_flushed_when_it_is_up_again() -> None:
    links = some_links()
    session = joined(links)
    links.closed(7, 0.0)
    session.stream.post(Cancel(1, [1]))
    links.touch(session)
    links.flush(0.0)
    links.send_now(session, Peers(1, []), 0.0)
    assert links.take() == []
    links._attach(session, 8, 0, True, 0.05)
    links.flush(0.05)
    assert said(links) == [(8, Cancel(1, [1]))]


def test_a_refusal_becomes_news_that_is_due_at_once() -> None:
    links = some_links()
    session = joined(links)
    session.stream.refusals.append((Cancel(1, [1]), "illegible"))
    links.touch(session)
    links.flush(0.0)
    assert links.next_due() == 0.0
    assert list(links.news) == [MessageRefused(session, Cancel(1, [1]), "illegible")]
    assert not session.stream.refusals


def test_drain_is_said_after_what_was_posted() -> None:
    links = some_links()
    session = joined(links)
    session.stream.post(Cancel(1, [1]))
    session.drain()
    links.touch(session)
    links.flush(0.0)
    assert said(links) == [(7, Cancel(1, [1])), (7, Drain(1))]
    links.touch(session)
    links.flush(0.0)
    assert said(links) == []


def test_instructions_that_were_not_taken_are_due() -> None:
    links = some_links()
    session = joined(links)
    links.tick(0.0)
    assert links.next_due() > 0.0
    links.send_now(session, Peers(1, []), 0.0)
    assert links.next_due() == 0.0
    links.take()
    assert links.next_due() > 0.0


# --- heartbeats ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "every"), [(60.0, PING_INTERVAL_S), (3.0, 0.25), (0.001, 0.0625)]
)
def test_a_silent_session_is_pinged(timeout: float, every: float) -> None:
    links = some_links(timeout)
    joined(links)
    assert links.heartbeat.ping_every == every
    links.tick(0.0)
    assert links.next_due() == every
    links.tick(every)
    assert kinds(links) == [(7, Ping)]
    assert links.next_due() == 2 * every


def test_a_ping_tells_the_load_and_who_may_send_it_tasks() -> None:
    links = some_links()
    links.load = lambda now: (3, int(now), 5)
    joined(links)
    joined(links, peer=4, link=-8)
    links._producers = links.producers()
    assert links.reachable(Role.REPLICA) == (2, 4)
    links.tick(2.0)
    ((_, ping), _) = said(links)
    assert isinstance(ping, Ping)
    assert (ping.queued, ping.running, ping.allowed, ping.owners) == (3, 2, 5, (4,))


def test_who_says_something_needs_no_ping() -> None:
    links = some_links()
    session = joined(links)
    links.send_now(session, Peers(1, []), 0.6)
    links.take()
    links.tick(1.0)
    assert said(links) == []
    assert links.next_due() == 1.6


@given(st.floats(0, 1e7), st.floats(0.01, 100.0))
def test_a_deadline_that_has_come_is_acted_upon(start: float, timeout: float) -> None:
    """Whatever floating point makes of the times: no turn without a deed, no deed skipped."""
    links = some_links(timeout)
    session = joined(links)
    session.stream.said = start
    links.tick(start)
    now = start
    for _ in range(5):
        assert links.next_due() > now
        now = session.stream.heard = links.next_due()
        links.tick(now)
        assert kinds(links) == [(7, Ping)]
    links.closed(7, now)
    links.tick(now)
    now = links.next_due()
    links.tick(now)
    assert not links.sessions


# --- ends ----------------------------------------------------------------------------------------


def test_a_consumer_that_does_not_come_back_is_lost() -> None:
    links = some_links()
    session = joined(links)
    links.closed(7, 1.0)
    links.tick(1.0)
    assert links.next_due() == 1.0 + RESUME_S
    links.tick(1.0 + RESUME_S)
    assert list(links.news) == [SessionLost(session, "its link closed and was not resumed")]
    assert not links.sessions
    assert links.take() == []


def test_one_that_is_far_away_has_more_time() -> None:
    links = some_links()
    joined(links).vitals.round_trip = 0.2
    links.closed(7, 0.0)
    links.tick(0.79)
    assert links.sessions
    links.tick(0.8)
    assert not links.sessions


def test_one_that_we_dial_has_most() -> None:
    world = World()
    world.producer("p", 1)
    consumer = world.consumer("c", 2, "p")
    world.run(0.1)
    world.kill("p")
    world.run(PRODUCER_ABSENCE_S - 0.1)
    assert not consumer.lost
    world.run(0.3)
    assert len(consumer.lost) == 1


def test_losing_who_dialled_us_asks_it_to_say_hello() -> None:
    links = some_links()
    session = joined(links)
    session.stream.post(Cancel(1, [1]))
    links.touch(session)
    links._owing[session] = None
    links.lose(session, "a test says so")
    assert session.link is None
    assert list(links.news) == [SessionLost(session, "a test says so")]
    links.flush(0.0)
    out = links.take()
    assert out[1:] == [HangUp(7)]
    assert len(out) == 2
    links.lose(session, "again")  # of one that is lost, nothing is left to do
    assert links.take() == []


def test_losing_whom_we_dialled_dials_again_at_once() -> None:
    world = World()
    producer = world.producer("p", 1)
    consumer = world.consumer("c", 2, "p")
    world.run(0.1)
    consumer.links.lose(session_of(consumer, producer), "a test says so")
    world.run(0.2)
    assert [type(news) for news in consumer.met] == [SessionStarted, SessionStarted]
    assert session_of(consumer, producer).nonce == session_of(producer, consumer).nonce


def test_losing_a_session_spares_the_one_that_took_its_place() -> None:
    links = some_links()
    old = joined(links)
    links.closed(7, 0.0)
    new = joined(links, link=8)
    links.lose(old, "late")
    assert links.sessions[2] is new


def test_goodbye_waits_for_its_answer_but_not_for_ever() -> None:
    links = some_links()
    session = joined(links)
    links.part(session, 1.0)
    assert said(links) == [(7, Bye("done"))]
    links.tick(1.0)
    assert links.next_due() <= 1.0 + BYE_LIMIT_S
    links.tick(1.0 + BYE_LIMIT_S)
    assert list(links.news) == [SessionLost(session, "it did not answer our goodbye")]
    assert kinds(links) == [(7, Who)]


def test_goodbye_to_one_whose_link_is_gone_does_not_outlast_its_grace() -> None:
    links = some_links()
    session = joined(links)
    session.vitals.round_trip = 100.0
    links.closed(7, 0.0)
    links.part(session, 0.0)
    assert links.take() == []
    links.tick(0.0)
    assert links.next_due() == BYE_LIMIT_S
    links.tick(BYE_LIMIT_S)
    assert not links.sessions


def test_goodbyes_over_a_network_leave_nothing() -> None:
    world = World()
    producer = world.producer("p", 1)
    consumer = world.consumer("c", 2, "p")
    world.run(0.1)
    consumer.links.dial((), world.clock())
    consumer.links.part(session_of(consumer, producer), world.clock())
    world.run(BYE_LINGER_S)
    assert not producer.links.sessions
    assert not consumer.links.sessions
    assert [news.reason for news in producer.lost + consumer.lost] == ["it said goodbye"] * 2
    world.run(5.0)
    assert len(consumer.met) == 1


def test_the_producer_may_say_goodbye_first() -> None:
    world = World(seed=3)
    producer = world.producer("p", 1)
    consumer = world.consumer("c", 2, "p")
    world.run(0.1)
    producer.links.part(session_of(producer, consumer), world.clock())
    world.run(BYE_LINGER_S / 2)
    assert [news.reason for news in producer.lost + consumer.lost] == ["it said goodbye"] * 2
    world.run(1.0)
    assert len(consumer.met) == 2  # it still wants that address


def test_a_fresh_process_has_something_to_do_at_once() -> None:
    links = Links(Identity(2, Role.REPLICA, stage=FACTS), lambda: 0.5)
    assert links.next_due() == 0.0
    links.tick(0.0)
    assert links.next_due() == float("inf")


def test_all_are_looked_at_again_when_signs_of_life_are_due_at_another_time() -> None:
    links = some_links(timeout=60.0)
    gateway = joined(links, peer=2, link=-7)
    joined(links, peer=3, link=8)
    links.heartbeat.welcomed(2, 6.0)
    links.tick(0.0)
    links.lose(gateway, "gone")
    assert links.heartbeat.ping_every == PING_INTERVAL_S
    assert links.next_due() == 0.0
    links.take()
    links.news.clear()
    links.tick(0.1)
    assert 0.1 < links.next_due() <= PING_INTERVAL_S


def test_producers_are_told_at_once_who_is_in_reach() -> None:
    links = some_links()
    producer = joined(links, peer=2, link=-7)
    links.tick(0.0)
    links.take()
    gateway = Session(links.me, 3, Role.GATEWAY, 100)
    links.sessions[3] = gateway
    links._attach(gateway, -8, 0, False, 1.0)
    links.tick(1.0)
    pings = [(link, m.owners) for link, m in said(links) if isinstance(m, Ping)]
    assert pings == [(-7, (2, 3)), (-8, (2, 3))]
    links.closed(-8, 2.0)
    links.tick(2.0)
    assert [m.owners for link, m in said(links) if isinstance(m, Ping)] == [(2,)]
    assert producer.link == -7


# --- who is silent --------------------------------------------------------------------------------


def silences(links: Links) -> list[type]:
    said, links.news = [type(news) for news in links.news], type(links.news)()
    return said


def test_who_says_nothing_for_long_is_silent_until_he_speaks() -> None:
    links = some_links(timeout=3.0)
    session = joined(links)
    for tick in range(4):
        links.tick(tick * 0.25)
        assert silences(links) == []
    links.tick(1.0)
    assert silences(links) == [SessionSilent]
    links.tick(1.25)
    assert silences(links) == []
    session.stream.heard = 1.3
    links.tick(1.5)
    assert silences(links) == [MessageReceived]


def test_who_was_computing_when_he_last_spoke_is_given_twice_as_long() -> None:
    links = some_links(timeout=3.0)
    session = joined(links)
    links._pinged(session, Ping(1, running=10, allowed=3000), 0.0)
    for tick in range(8):
        links.tick(tick * 0.25)
        assert silences(links) == []
    links.tick(2.0)
    assert silences(links) == [SessionSilent]
    links._pinged(session, Ping(1), 2.1)
    assert session.vitals.busy_until == 2.1


def test_who_speaks_but_acks_nothing_is_silent_too() -> None:
    links = some_links(timeout=3.0)
    session = joined(links)
    session.stream.post(Cancel(1, [1]))
    for tick in range(4):
        links.touch(session)
        links.tick(tick * 0.25)
        session.stream.heard = tick * 0.25
    links.tick(1.0)
    assert silences(links) == [SessionSilent]
    session.stream.accept(Header(Type.CREDIT, 2, 1, ack=1), Credit(), 1.1)
    links.tick(1.25)
    assert silences(links) == [MessageReceived]


def test_who_slept_himself_judges_nobody_before_he_has_heard_what_came_meanwhile() -> None:
    links = some_links(timeout=3.0)
    joined(links)
    links.tick(0.25)
    links.tick(5.0)
    assert silences(links) == []
    links.tick(5.25)
    assert silences(links) == [SessionSilent]


# --- who breaks a rule ---------------------------------------------------------------------------


def test_a_breach_is_counted_and_told_with_its_reason() -> None:
    links = some_links()
    told: list[object] = []
    links.expelled = lambda *what: told.append(what)
    session, other = joined(links), joined(links, 3, 8)
    links.choked(7, Breach("it may not"), 5.0)
    assert links.sessions == {3: other}
    assert list(links.news) == [SessionLost(session, "it may not")]
    assert (told, links.breaches) == ([(session, "it may not", None)], 1)
    assert links.held_off.left(2, "", 5.0) == FIRST_PAUSE_S


def test_what_we_could_not_handle_costs_its_sender_the_same_and_is_told_as_ours() -> None:
    links = some_links()
    told: list[object] = []
    links.expelled = lambda *what: told.append(what)
    session, fault = joined(links), ZeroDivisionError("batch")
    links.choked(7, fault, 5.0)
    said = "it could not be handled: ZeroDivisionError"
    assert told == [(session, said, fault)]
    assert list(links.news) == [SessionLost(session, said)]


def test_nobody_need_ask_who_was_expelled() -> None:
    links = some_links()
    joined(links)
    links.choked(7, Breach("no"), 5.0)
    assert links.sessions == {}


def test_who_was_dialled_is_not_dialled_again_at_once() -> None:
    links = some_links()
    links.dial(["memory://p"], 0.0)
    links.tick(0.0)
    session = joined(links, link=-1)
    links.expel(session, "no", 5.0)
    links.tick(5.0)
    assert not [each for each in links.take() if isinstance(each, Dial)]
    links.tick(5.0 + FIRST_PAUSE_S)
    assert [each for each in links.take() if isinstance(each, Dial)]


def test_a_stranger_that_chokes_us_is_dropped() -> None:
    links = some_links()
    links.choked(9, KeyError("x"), 5.0)
    assert links.take() == [HangUp(9)]
    assert links.breaches == 1


def test_news_of_a_session_may_choke_us_too() -> None:
    links = some_links()
    session = joined(links)
    links.choked(0, KeyError("x"), 5.0, session)
    assert links.sessions == {}
    links.take()
    links.choked(0, KeyError("x"), 5.0, session)  # by the news of its end, and nothing is left
    assert links.take() == []
    assert links.breaches == 2
    assert len(links.news) == 1


def test_who_breaks_a_rule_before_it_has_a_session_is_held_off_if_its_number_is_new() -> None:
    links, told = some_links(), []
    links.expelled = lambda *what: told.append(what)
    stranger = Stranger(9, Role.REPLICA, "h", 3)
    assert links.turn_away(stranger, "", False, "no", 5.0) == 0.0
    assert links.held_off.left(9, "", 5.0) == 0.0
    assert links.turn_away(stranger, "", True, "no", 5.0) == FIRST_PAUSE_S
    assert links.held_off.left(9, "", 5.0) == FIRST_PAUSE_S
    assert links.breaches == 2
    assert told == [(stranger, "no", None)] * 2
