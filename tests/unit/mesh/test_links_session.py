"""One pair of incarnations: numbers, acks, credit, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mesh_world import SMALL, a_task, small_parts

from mesh.errors import ProtocolError
from mesh.links.session import (
    ACK_AFTER_MESSAGES,
    ACK_DELAY_S,
    MAX_REMEMBERED_REFUSALS,
    Gap,
    Session,
)
from mesh.protocol.fields import MAX_TEXT_BYTES, Frame, Transfer
from mesh.protocol.messages import (
    Cancel,
    Credit,
    Header,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Ping,
    Role,
    Tasks,
    Type,
)
from mesh.protocol.wire import decode


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


class Pair:
    """Both ends of a pair, joined without a network."""

    def __init__(self) -> None:
        self.producer = Session(1, 2, Role.REPLICA, 10_000, nonce=5, now=0.0)
        self.consumer = Session(2, 1, Role.GATEWAY, 10_000, nonce=5, now=0.0)
        self.join()

    def join(self) -> None:
        """A new connection."""
        here, there = self.producer, self.consumer
        after_here, after_there = here.resumes_after, there.resumes_after
        self.carry(here.attach(7, after_there, 0.0)[1], there)
        self.carry(there.attach(-1, after_here, 0.0)[1], here)

    def carry(self, multiparts: list[list[Frame]], to: Session) -> list[Message]:
        """Deliver; returns what was news."""
        news = []
        for frames in multiparts:
            header, message = decode([bytes(frame) for frame in frames], 0.0)
            if to.accept(header, message, 0.0)[1]:
                news.append(message)
        return news

    def grant(self, tasks: int, nbytes: int = 1 << 20) -> None:
        self.consumer.allow(tasks, nbytes, 0.0)
        self.carry([self.consumer.say(Credit(), 0.0)], self.producer)

    def ack(self) -> None:
        self.carry([self.consumer.say(Credit(), 0.0)], self.producer)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def header(session: Session, kind: Type, sequence: int = 0, ack: int = 0) -> Header:
    return Header(kind, session.peer, session.me, sequence, ack)


def test_credit_is_absolute_spent_and_taken(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    assert here.free_tasks == here.free_bytes == 0
    pair.grant(4, 100)
    pair.grant(4, 100)
    assert (here.free_tasks, here.free_bytes) == (4, 100)
    here.post_tasks([a_task(1, 10), a_task(2, 20)], 30)
    assert (here.free_tasks, here.free_bytes) == (2, 70)
    (news,) = pair.carry(here.flush(0.0), there)
    assert isinstance(news, Tasks)
    assert (there.taken_tasks, there.taken_bytes) == (2, 30)
    there.allow(3, 50, 0.0)  # less than before: a grant is never taken back
    assert (there.allowed_tasks, there.allowed_bytes) == (4, 100)
    there.allow(3, 130, 0.0)
    assert (there.allowed_tasks, there.allowed_bytes) == (4, 130)


def test_nothing_is_sent_without_a_connection(pair: Pair) -> None:
    pair.producer.detach(3.0)
    pair.producer.post(Cancel(1, [1]))
    assert pair.producer.since == 3.0
    assert pair.producer.flush(3.0) == []
    assert "down" in repr(pair.producer)
    assert not pair.producer.is_idle()
    pair.join()
    assert "link 7" in repr(pair.producer)
    assert len(pair.producer.flush(3.0)) == 1


def test_what_was_not_received_is_sent_again_and_a_repeat_is_no_news(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    for number in 1, 2, 3:
        here.post(Cancel(1, [number]))
    sent = here.flush(0.0)
    assert pair.carry(sent[:1], there) == [Cancel(1, [1])]
    assert pair.carry(sent[:1], there) == []
    covered, again = here.attach(8, there.resumes_after, 0.5)
    assert covered == [Cancel(1, [1])]
    assert pair.carry(again, there) == [Cancel(1, [2]), Cancel(1, [3])]
    pair.ack()
    assert here.is_idle()


def test_what_is_sent_again_says_how_old_it_is(pair: Pair) -> None:
    pair.producer.post(Cancel(1, [1]))
    pair.producer.flush(1.0)
    _, (frames,) = pair.producer.attach(8, 0, 3.5)
    assert decode([bytes(f) for f in frames], 0.0)[0].age == 2500


def test_a_gap_is_noticed_and_counts_nothing(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    for number in 1, 2:
        here.post(Cancel(1, [number]))
    sent = here.flush(0.0)
    with pytest.raises(Gap, match="message 2 came where 1 is next"):
        pair.carry(sent[1:], there)
    assert there.received == 0
    assert len(pair.carry(sent, there)) == 2


def test_a_large_task_comes_in_slices_and_is_news_once(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    task = a_task(1, 5 * SMALL)
    here.post_tasks([task], task.nbytes)
    sent = here.flush(0.0)
    assert len(sent) == 6
    assert pair.carry(sent[:3], there) == []
    (news,) = pair.carry(sent[3:], there)
    assert isinstance(news, Tasks)
    assert bytes(news.tasks[0].buffers[0]) == task.buffers[0]
    assert there.taken_bytes == 5 * SMALL


def test_in_a_message_of_small_payloads_no_slices_are_looked_for(pair: Pair) -> None:
    task, outcome = a_task(1), Outcome(1, 1, OutcomeKind.RESULT)
    task.buffers = [Transfer(3, 5)]  # type: ignore[list-item]  # is refused where it is seen
    outcome.buffers = [Transfer(3, 5)]  # type: ignore[list-item]
    here, there = pair.producer, pair.consumer
    bundles = [
        (there, Type.TASKS, Tasks([task], plain=True)),
        (here, Type.OUTCOMES, Outcomes([outcome], plain=True)),
    ]
    for session, kind, message in bundles:
        assert session.accept(header(session, kind, 1), message, 0.0)[1]
        message.plain = False
        with pytest.raises(ProtocolError, match="transfer 3"):
            session.accept(header(session, kind, 2), message, 0.0)


def test_both_ends_know_that_something_large_is_under_way(pair: Pair) -> None:
    pair.grant(1)
    assert not pair.producer.is_slicing()
    pair.producer.post_tasks([a_task(1, 3 * SMALL)], 3 * SMALL)
    assert pair.producer.is_slicing()
    first, *rest = pair.producer.flush(0.0)
    pair.carry([first], pair.consumer)
    assert pair.consumer.is_slicing()
    pair.carry(rest, pair.consumer)
    assert not pair.consumer.is_slicing()


def test_what_is_cancelled_before_it_set_out_costs_no_credit(pair: Pair) -> None:
    pair.grant(9)
    here, there = pair.producer, pair.consumer
    for number in 1, 2, 3:
        here.post_tasks([a_task(number, 20 * SMALL)], 20 * SMALL)
    pair.carry(here.flush(0.0), there)
    here.post_cancel(Cancel(1, [1, 2]))
    news: list[Message] = []
    while not here.is_idle():
        news += pair.carry(here.flush(0.0), there)
        pair.carry([there.say(Credit(), 0.0)], here)
    assert [message for message in news if type(message) is Cancel] == [Cancel(1, [1])]
    assert [m.tasks[0].number for m in news if type(m) is Tasks] == [1, 3]
    assert here.spent_tasks == there.taken_tasks == 2
    assert here.spent_bytes == there.taken_bytes == 40 * SMALL


def test_a_ack_may_wait_but_not_for_long_and_not_for_many(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    assert there.owes_at == float("inf")
    for number in range(ACK_AFTER_MESSAGES):
        here.post(Cancel(1, [number]))
    sent = here.flush(0.0)
    pair.carry(sent[:1], there)
    assert there.owes_at == ACK_DELAY_S
    pair.carry(sent[1:], there)
    assert there.owes_at == 0.0
    there.say(Credit(), 0.01)
    assert there.owes_at == float("inf")
    assert there.said == 0.01


def test_slices_are_acked_before_the_other_must_stop(pair: Pair) -> None:
    pair.producer.post(Tasks([a_task(1, 8 * SMALL)]))
    pair.carry(pair.producer.flush(0.0)[:2], pair.consumer)
    assert pair.consumer.owes_at == 0.0


def test_credit_may_wait_while_the_other_has_half_of_it_left(pair: Pair) -> None:
    there = pair.consumer
    there.allow(8, 800, 0.0)
    assert there.owes_at == 0.0  # the other has nothing yet
    there.say(Credit(), 0.0)
    there.allow(9, 800, 0.0)
    assert there.owes_at == ACK_DELAY_S
    there.allow(16, 800, 0.0)
    assert there.owes_at == 0.0
    there.say(Credit(), 0.0)
    there.allow(16, 900, 0.0)
    assert there.owes_at == ACK_DELAY_S
    there.allow(16, 1700, 0.0)
    assert there.owes_at == 0.0
    there.allow(17, 1701, 9.0)  # what is owed is owed since then
    assert there.owes_at == 0.0
    there.detach(0.0)
    assert there.owes_at == 0.0  # on the next connection, too


def test_a_message_that_cannot_be_read_is_refused_and_its_credit_comes_back(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    pair.grant(4, 100)
    task = a_task(1, 30)
    here.post_tasks([task], 30)
    here.flush(0.0)
    assert there.refuse(1, "illegible")
    assert there.received == 1
    here.told_off(1, "illegible")
    assert here.refusals == [(Tasks([task]), "illegible")]
    assert (here.free_tasks, here.free_bytes) == (4, 100)
    assert here.is_idle()
    here.told_off(1, "illegible")  # said again after a reconnect
    assert len(here.refusals) == 1


def test_a_refused_bundle_goes_again_one_by_one(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    pair.grant(4)
    here.post_tasks([a_task(1), a_task(2, 5)], 6)
    here.post(Outcomes([Outcome(1, 1, OutcomeKind.RESULT), Outcome(2, 1, OutcomeKind.RESULT)]))
    here.flush(0.0)
    for sequence in 1, 2:
        assert there.refuse(sequence, "illegible")
        here.told_off(sequence, "illegible")
    news = pair.carry(here.flush(0.0), there)
    assert [len(m.tasks) for m in news if isinstance(m, Tasks)] == [1, 1]
    assert [len(m.outcomes) for m in news if isinstance(m, Outcomes)] == [1, 1]
    assert (here.spent_tasks, here.spent_bytes) == (there.taken_tasks, there.taken_bytes) == (2, 6)
    assert not here.refusals


def test_a_refused_slice_is_no_refusal_of_its_own(pair: Pair) -> None:
    pair.producer.post(Tasks([a_task(1, 2 * SMALL)]))
    pair.producer.flush(0.0)
    pair.producer.told_off(1, "no room")
    assert not pair.producer.refusals


def test_what_cannot_be_encoded_fails_alone(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    good, bad = a_task(1), a_task(2)
    bad.trace = "x" * (MAX_TEXT_BYTES + 1)
    here.post_tasks([good, bad], 2)
    (news,) = pair.carry(here.flush(0.0), there)
    assert isinstance(news, Tasks)
    assert [task.number for task in news.tasks] == [1]
    ((message, reason),) = here.refusals
    assert message == Tasks([bad])
    assert "trace" in reason
    assert here.spent_tasks == there.taken_tasks == 1


def test_the_other_hears_of_a_refusal_although_the_connection_ended(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    for number in 1, 2, 3:
        here.post(Cancel(1, [number]))
    sent = here.flush(0.0)
    pair.carry(sent[:1], there)
    assert there.refuse(2, "illegible")
    pair.carry(sent[2:], there)
    assert (there.received, there.resumes_after) == (3, 1)
    _, again = here.attach(8, there.resumes_after, 0.0)  # the ERR was lost with the connection
    assert len(again) == 2
    with pytest.raises(ProtocolError, match="illegible"):
        pair.carry(again[:1], there)
    assert pair.carry(again[1:], there) == []


def test_few_refusals_are_remembered_and_none_beyond_a_gap(pair: Pair) -> None:
    there = pair.consumer
    assert not there.refuse(2, "too far")
    for sequence in range(1, MAX_REMEMBERED_REFUSALS + 2):
        assert there.refuse(sequence, "illegible")
    assert there.resumes_after == 1
    assert there.received == MAX_REMEMBERED_REFUSALS + 1


@pytest.mark.parametrize(
    "message", [Part(0, 20_000, 0, b"x"), Tasks([a_task(1)])], ids=["over the limit", "no slices"]
)
def test_a_breach_of_a_limit_counts_nothing(pair: Pair, message: Message) -> None:
    there = pair.consumer
    if isinstance(message, Tasks):
        message.tasks[0].buffers = [Transfer(0, 99)]  # type: ignore[list-item]
    kind = Type.PART if isinstance(message, Part) else Type.TASKS
    with pytest.raises(ProtocolError, match="granted|not complete"):
        there.accept(header(there, kind, 1), message, 0.0)
    assert there.received == there.taken_tasks == 0
    assert there.refuse(1, "as the error says")


def test_unreliable_messages_are_always_news_and_renew_ack_and_credit(pair: Pair) -> None:
    here = pair.producer
    here.post(Cancel(1, [1]))
    here.flush(0.0)
    ping = header(here, Type.PING, ack=1)._replace(tasks=3, bytes=30)
    assert here.accept(ping, Ping(1), 4.0) == ([Cancel(1, [1])], True)
    assert (here.heard, here.free_tasks, here.free_bytes) == (4.0, 3, 30)
    old = header(here, Type.PING)._replace(tasks=2, bytes=20)
    assert here.accept(old, Ping(1), 4.0) == ((), True)
    assert (here.free_tasks, here.free_bytes) == (3, 30)


def test_drain_is_said_when_all_that_was_posted_has_been_sent(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    assert not here.may_say_drain
    here.post(Tasks([a_task(1, 12 * SMALL)]))
    here.drain()
    assert here.draining
    sent = here.flush(0.0)
    assert not here.may_say_drain
    assert not there.is_drained
    pair.carry(sent, there)
    pair.ack()
    rest = here.flush(0.0)
    assert here.may_say_drain
    there.last = here.sequence
    assert not there.is_drained
    pair.carry(rest, there)
    assert there.is_drained


def test_parting_is_known_by_its_time(pair: Pair) -> None:
    assert not pair.producer.is_parting
    pair.producer.parting = 3.0
    assert pair.producer.is_parting


def test_unacked_says_what_was_lost(pair: Pair) -> None:
    pair.producer.post(Cancel(1, [1]))
    pair.producer.flush(0.0)
    pair.producer.post(Cancel(1, [2]))
    assert pair.producer.pending() == [Cancel(1, [1]), Cancel(1, [2])]
    assert pair.producer.unacked() == [Cancel(1, [1]), Cancel(1, [2])]
    assert pair.producer.pending() == []
    assert pair.producer.is_idle()


def test_who_has_nothing_to_ack_is_not_quiet(pair: Pair) -> None:
    producer = pair.producer
    producer.attach(1, 0, 2.0)
    producer.heard, producer.progress = 7.0, 3.0
    assert producer.quiet_since == 7.0
    producer.post(Cancel(1, [1]))
    producer.flush(5.0)
    assert producer.quiet_since == 5.0
    producer.progress = 6.0
    assert producer.quiet_since == 6.0


# --- what the other is to us ---------------------------------------------------------------------


def test_a_producer_owes_what_it_has_credit_for_and_a_consumer_what_the_core_says() -> None:
    producer = Session(1, 2, Role.GATEWAY, 100)
    producer.may_say = frozenset({Type.TASKS})
    assert not producer.owes_payload
    producer.allow(1, 10, 0.0)
    assert producer.owes_payload
    producer.taken_tasks = 1
    producer.may_owe = True
    assert not producer.owes_payload
    consumer = Session(1, 2, Role.REPLICA, 100)
    assert not consumer.owes_payload
    consumer.may_owe = True
    assert consumer.owes_payload


def test_whose_parent_a_supervisor_is() -> None:
    supervisor = Session(1, 77, Role.SUPERVISOR, 100)
    supervisor.pid = 30
    assert supervisor.is_parent_of(77)
    assert not supervisor.is_parent_of(30)  # a process id can be claimed by anybody
    supervisor.pid = 0
    assert not supervisor.is_parent_of(0)
    replica = Session(1, 77, Role.REPLICA, 100)
    assert not replica.is_parent_of(77)


def test_bytes_of_slices_that_have_come_are_counted() -> None:
    session = Session(1, 2, Role.REPLICA, 100)
    session.accept(Header(Type.PART, 2, 1, 1), Part(0, 10, 0, b"xxxx"), 0.0)
    assert session.arrived >= 4  # memory is taken in steps
    assert session._incoming.source == 2
    session.give_up_slices(begun_before=0.0)
    assert session.arrived
    session.give_up_slices()
    assert not session.arrived


def test_of_a_payload_that_was_given_up_the_sender_hears_once_and_gives_it_up(pair: Pair) -> None:
    """As of any message that cannot be read: whoever waits for it is told."""
    here, there = pair.producer, pair.consumer
    task = a_task(1, 12 * SMALL)
    here.post(Tasks([task]))
    pair.carry(here.flush(0.0), there)
    assert there.arrived
    there.give_up_slices()
    refused = []
    for _ in range(9):
        here.accept(header(there, Type.CREDIT, ack=there.received), Credit(), 0.0)
        for sent in here.flush(0.0):
            opened, message = decode(sent, 0.0)
            try:
                there.accept(opened, message, 0.0)
            except ProtocolError as error:
                there.refuse(opened.sequence, str(error))
                refused.append(opened.sequence)
                here.told_off(opened.sequence, str(error))
    assert len(refused) == 1
    assert [message for message, _ in here.refusals] == [Tasks([task])]
    assert (here.is_idle(), there.is_slicing()) == (True, False)
