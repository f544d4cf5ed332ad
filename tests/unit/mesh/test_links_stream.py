"""Both ends of a stream: numbers, acks, credit, slices, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mesh_world import SMALL, a_task, small_parts

from mesh.errors import ProtocolError
from mesh.links.stream import ACK_AFTER_MESSAGES, ACK_DELAY_S, Gap, ReliableStream
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
    Tasks,
    Type,
)
from mesh.protocol.wire import decode


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


class Pair:
    """Both ends of a stream, joined without a network."""

    def __init__(self) -> None:
        self.producer = ReliableStream(1, 2, 10_000)
        self.consumer = ReliableStream(2, 1, 10_000)

    def carry(self, multiparts: list[list[Frame]], to: ReliableStream) -> list[Message]:
        """Deliver; returns what was news."""
        news = []
        for frames in multiparts:
            header, message = decode([bytes(frame) for frame in frames], 0.0)
            if to.accept(header, message, 0.0)[1]:
                news.append(message)
        return news

    def grant(self, tasks: int, nbytes: int = 1 << 20) -> None:
        self.consumer.allow(tasks, nbytes, 0.0)
        self.carry([self.consumer.frames_of(Credit(), 0.0)], self.producer)

    def ack(self) -> None:
        self.carry([self.consumer.frames_of(Credit(), 0.0)], self.producer)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def header(kind: Type, sequence: int = 0, ack: int = 0) -> Header:
    return Header(kind, 2, 1, sequence, ack)


def flushed(stream: ReliableStream, now: float = 0.0) -> list[tuple[int, Message]]:
    """What is sent now, with its sequence numbers."""
    sent = [decode([bytes(frame) for frame in frames], 0.0) for frames in stream.flush(now)]
    return [(said.sequence, message) for said, message in sent]


def acked(stream: ReliableStream, ack: int, now: float = 0.0) -> list[Message]:
    return list(stream.accept(header(Type.CREDIT, ack=ack), Credit(), now)[0])


def large(number: int, parts: int) -> Tasks:
    return Tasks([a_task(number, parts * SMALL)])


def test_messages_are_numbered_from_one_and_kept_until_the_ack() -> None:
    stream = ReliableStream(1, 2, 0)
    messages: list[Message] = [Cancel(1, [i]) for i in range(3)]
    for message in messages:
        stream.post(message, 0)
    assert stream.is_queued
    assert flushed(stream) == list(enumerate(messages, 1))
    assert not stream.is_queued
    assert not stream.is_idle()
    assert acked(stream, 0) == []
    assert acked(stream, 2) == messages[:2]
    assert acked(stream, 2) == []
    assert len(stream) == 1
    assert acked(stream, 99) == messages[2:]
    assert stream.is_idle()
    assert stream.sequence == 3


def test_small_messages_go_before_slices_of_which_few_are_under_way() -> None:
    stream = ReliableStream(1, 2, 0)
    whole = large(1, 12)
    stream.post(whole, 12 * SMALL)
    stream.post(Cancel(1, [1]), 0)
    first = flushed(stream)
    assert [type(message) for _, message in first] == [Cancel] + [Part] * 8
    assert flushed(stream) == []
    assert stream.is_queued
    acked(stream, first[3][0])
    assert len(flushed(stream)) == 3
    acked(stream, stream.sequence)
    assert [type(message) for _, message in flushed(stream)] == [Part, Tasks]
    assert acked(stream, stream.sequence)[-1] is whole
    assert stream.is_idle()


def test_a_message_of_unknown_length_is_looked_into() -> None:
    stream = ReliableStream(1, 2, 0)
    stream.post(large(1, 2))
    stream.post(Tasks([a_task(2, 1)]))
    assert [type(message) for _, message in flushed(stream)] == [Tasks, Part, Part, Tasks]


def test_credit_is_absolute_spent_and_taken(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    assert here.granted.free_tasks == here.granted.free_nbytes == 0
    pair.grant(4, 100)
    pair.grant(4, 100)
    assert (here.granted.free_tasks, here.granted.free_nbytes) == (4, 100)
    here.post_tasks([a_task(1, 10), a_task(2, 20)], 30)
    assert (here.granted.free_tasks, here.granted.free_nbytes) == (2, 70)
    (news,) = pair.carry(here.flush(0.0), there)
    assert isinstance(news, Tasks)
    assert (there.allowed.used_tasks, there.allowed.used_nbytes) == (2, 30)
    there.allow(3, 50, 0.0)  # less than before: a grant is never taken back
    assert (there.allowed.tasks, there.allowed.nbytes) == (4, 100)
    there.allow(3, 130, 0.0)
    assert (there.allowed.tasks, there.allowed.nbytes) == (4, 130)


def test_what_was_not_received_is_sent_again_and_a_repeat_is_no_news(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    for number in 1, 2, 3:
        here.post(Cancel(1, [number]))
    sent = here.flush(0.0)
    assert pair.carry(sent[:1], there) == [Cancel(1, [1])]
    assert pair.carry(sent[:1], there) == []
    covered, again = here.resend(there.resumes_after, 0.5)
    assert covered == [Cancel(1, [1])]
    assert pair.carry(again, there) == [Cancel(1, [2]), Cancel(1, [3])]
    pair.ack()
    assert here.is_idle()


def test_what_is_sent_again_says_how_old_it_is(pair: Pair) -> None:
    pair.producer.post(Cancel(1, [1]))
    pair.producer.flush(1.0)
    _, (frames,) = pair.producer.resend(0, 3.5)
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
    assert there.allowed.used_nbytes == 5 * SMALL


def test_in_a_message_of_small_payloads_no_slices_are_looked_for(pair: Pair) -> None:
    task, outcome = a_task(1), Outcome(1, 1, OutcomeKind.RESULT)
    task.buffers = [Transfer(3, 5)]  # type: ignore[list-item]  # is refused where it is seen
    outcome.buffers = [Transfer(3, 5)]  # type: ignore[list-item]
    here, there = pair.producer, pair.consumer
    bundles = [
        (there, Type.TASKS, Tasks([task], plain=True)),
        (here, Type.OUTCOMES, Outcomes([outcome], plain=True)),
    ]
    for stream, kind, message in bundles:
        assert stream.accept(header(kind, 1), message, 0.0)[1]
        message.plain = False
        with pytest.raises(ProtocolError, match="transfer 3"):
            stream.accept(header(kind, 2), message, 0.0)


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
        pair.carry([there.frames_of(Credit(), 0.0)], here)
    assert [message for message in news if type(message) is Cancel] == [Cancel(1, [1])]
    assert [m.tasks[0].number for m in news if type(m) is Tasks] == [1, 3]
    assert here.granted.used_tasks == there.allowed.used_tasks == 2
    assert here.granted.used_nbytes == there.allowed.used_nbytes == 40 * SMALL


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
    there.frames_of(Credit(), 0.01)
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
    there.frames_of(Credit(), 0.0)
    there.allow(9, 800, 0.0)
    assert there.owes_at == ACK_DELAY_S
    there.allow(16, 800, 0.0)
    assert there.owes_at == 0.0
    there.frames_of(Credit(), 0.0)
    there.allow(16, 900, 0.0)
    assert there.owes_at == ACK_DELAY_S
    there.allow(16, 1700, 0.0)
    assert there.owes_at == 0.0
    there.allow(17, 1701, 9.0)  # what is owed is owed since then
    assert there.owes_at == 0.0


def test_a_message_that_cannot_be_read_is_refused_and_its_credit_comes_back(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    pair.grant(4, 100)
    task = a_task(1, 30)
    here.post_tasks([task], 30)
    here.flush(0.0)
    assert there.refuse(1, "illegible")
    assert there.received == 1
    here.rejected(1, "illegible")
    assert here.refusals == [(Tasks([task]), "illegible")]
    assert (here.granted.free_tasks, here.granted.free_nbytes) == (4, 100)
    assert here.is_idle()
    here.rejected(1, "illegible")  # said again after a reconnect
    assert len(here.refusals) == 1


def test_a_refused_bundle_goes_again_one_by_one(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    pair.grant(4)
    here.post_tasks([a_task(1), a_task(2, 5)], 6)
    here.post(Outcomes([Outcome(1, 1, OutcomeKind.RESULT), Outcome(2, 1, OutcomeKind.RESULT)]))
    here.flush(0.0)
    for sequence in 1, 2:
        assert there.refuse(sequence, "illegible")
        here.rejected(sequence, "illegible")
    news = pair.carry(here.flush(0.0), there)
    assert [len(m.tasks) for m in news if isinstance(m, Tasks)] == [1, 1]
    assert [len(m.outcomes) for m in news if isinstance(m, Outcomes)] == [1, 1]
    assert (
        (here.granted.used_tasks, here.granted.used_nbytes)
        == (there.allowed.used_tasks, there.allowed.used_nbytes)
        == (2, 6)
    )
    assert not here.refusals


def test_a_refused_slice_is_no_refusal_of_its_own(pair: Pair) -> None:
    pair.producer.post(Tasks([a_task(1, 2 * SMALL)]))
    pair.producer.flush(0.0)
    pair.producer.rejected(1, "no room")
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
    assert here.granted.used_tasks == there.allowed.used_tasks == 1


def test_the_other_hears_of_a_refusal_although_the_connection_ended(pair: Pair) -> None:
    here, there = pair.producer, pair.consumer
    for number in 1, 2, 3:
        here.post(Cancel(1, [number]))
    sent = here.flush(0.0)
    pair.carry(sent[:1], there)
    assert there.refuse(2, "illegible")
    pair.carry(sent[2:], there)
    assert (there.received, there.resumes_after) == (3, 1)
    _, again = here.resend(there.resumes_after, 0.0)  # the ERR was lost with the connection
    assert len(again) == 2
    with pytest.raises(ProtocolError, match="illegible"):
        pair.carry(again[:1], there)
    assert pair.carry(again[1:], there) == []


def test_nothing_is_refused_beyond_a_gap(pair: Pair) -> None:
    assert not pair.consumer.refuse(2, "too far")
    assert pair.consumer.received == 0


@pytest.mark.parametrize(
    "message", [Part(0, 20_000, 0, b"x"), Tasks([a_task(1)])], ids=["over the limit", "no slices"]
)
def test_a_breach_of_a_limit_counts_nothing(pair: Pair, message: Message) -> None:
    there = pair.consumer
    if isinstance(message, Tasks):
        message.tasks[0].buffers = [Transfer(0, 99)]  # type: ignore[list-item]
    kind = Type.PART if isinstance(message, Part) else Type.TASKS
    with pytest.raises(ProtocolError, match="granted|not complete"):
        there.accept(header(kind, 1), message, 0.0)
    assert there.received == there.allowed.used_tasks == 0
    assert there.refuse(1, "as the error says")


def test_unreliable_messages_are_always_news_and_renew_ack_and_credit(pair: Pair) -> None:
    here = pair.producer
    here.post(Cancel(1, [1]))
    here.flush(0.0)
    ping = header(Type.PING, ack=1)._replace(tasks=3, bytes=30)
    assert here.accept(ping, Ping(1), 4.0) == ([Cancel(1, [1])], True)
    assert (here.heard, here.granted.free_tasks, here.granted.free_nbytes) == (4.0, 3, 30)
    old = header(Type.PING)._replace(tasks=2, bytes=20)
    assert here.accept(old, Ping(1), 4.0) == ((), True)
    assert (here.granted.free_tasks, here.granted.free_nbytes) == (3, 30)


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
    producer.resend(0, 2.0)
    producer.heard, producer.progress = 7.0, 3.0
    assert producer.quiet_since == 7.0
    producer.post(Cancel(1, [1]))
    producer.flush(5.0)
    assert producer.quiet_since == 5.0
    producer.progress = 6.0
    assert producer.quiet_since == 6.0


def test_unacked_names_each_message_once_and_whole() -> None:
    stream = ReliableStream(1, 2, 0)
    done, begun, waiting = large(1, 2), large(2, 12), large(3, 2)
    small, later = Cancel(1, [1]), Cancel(1, [2])
    for message in done, begun, waiting, small:
        stream.post(message)
    stream.flush(0.0)
    stream.post(later, 0)
    left = stream.unacked()
    assert len(left) == 5
    assert all(any(one is other for other in left) for one in (done, begun, waiting, small, later))
    assert stream.is_idle()
    assert stream.unacked() == []
    stream.post(large(4, 9))
    assert len(stream.flush(0.0)) == 8  # nothing counts as under way any more


def test_unacked_leaves_out_what_the_last_step_already_named() -> None:
    stream = ReliableStream(1, 2, 0)
    whole = large(1, 8)
    stream.post(whole)
    acked(stream, flushed(stream)[-1][0])
    assert [type(message) for _, message in flushed(stream)] == [Tasks]
    assert stream.unacked() == [whole]


def test_a_cancel_does_not_overtake_what_it_names() -> None:
    stream = ReliableStream(1, 2, 0)
    begun, waiting, other = (large(number, 12) for number in (1, 2, 3))
    both = Tasks([a_task(4, 12 * SMALL), a_task(5, 12 * SMALL)])
    for whole in begun, waiting, other, both:
        stream.post_tasks(whole.tasks, 12 * SMALL)
    assert len(stream.flush(0.0)) == 8
    stream.post_cancel(Cancel(1, [9, 2, 5, 1]))
    assert stream.granted.used_tasks == 4
    stream.post_cancel(Cancel(1, []))
    sent: list[Message] = []
    while stream.is_queued:
        sent += [message for _, message in flushed(stream)]
        acked(stream, stream.sequence)
    rest = [
        message if type(message) is Cancel else len(message.tasks)
        for message in sent
        if type(message) in (Cancel, Tasks)
    ]  # type: ignore[union-attr]
    assert rest == [Cancel(1, [9]), 1, Cancel(1, [1]), 1, 2, Cancel(1, [5])]


def test_a_rejected_message_is_kept_no_longer() -> None:
    stream = ReliableStream(1, 2, 0)
    stream.post(Cancel(1, [1]), 0)
    stream.post(large(1, 9))
    stream.flush(0.0)
    for sequence in 1, 1, 2, 77:
        stream.rejected(sequence, "illegible")
    assert stream.refusals == [(Cancel(1, [1]), "illegible")]
    assert len(stream.flush(0.0)) == 1  # its place under way is free again


def test_bytes_of_slices_that_have_come_are_counted() -> None:
    stream = ReliableStream(1, 2, 100)
    stream.accept(header(Type.PART, 1), Part(0, 10, 0, b"xxxx"), 0.0)
    assert stream.arrived >= 4  # memory is taken in steps
    assert stream._incoming.source == 2
    stream.give_up_slices(begun_before=0.0)
    assert stream.arrived
    stream.give_up_slices()
    assert not stream.arrived


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
        acked(here, there.received)
        for sent in here.flush(0.0):
            opened, message = decode(sent, 0.0)
            try:
                there.accept(opened, message, 0.0)
            except ProtocolError as error:
                there.refuse(opened.sequence, str(error))
                refused.append(opened.sequence)
                here.rejected(opened.sequence, str(error))
    assert len(refused) == 1
    assert [message for message, _ in here.refusals] == [Tasks([task])]
    assert (here.is_idle(), there.is_slicing()) == (True, False)


def test_what_each_message_says_is_owed_at_once_when_it_has_changed() -> None:
    stream = ReliableStream(1, 2, 100)
    stream.owe(3.0)
    assert stream.owes_at == 3.0
    stream.owe(5.0)
    assert stream.owes_at == 3.0
