"""What was posted and is not acked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mesh_world import SMALL, a_task, small_parts

from mesh.links.send_buffer import UNKNOWN_BYTES, SendBuffer, singly
from mesh.protocol.fields import MAX_TEXT_BYTES
from mesh.protocol.messages import (
    BatchStats,
    Cancel,
    HandoffNotice,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Tasks,
)


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


def large(number: int, parts: int) -> Tasks:
    return Tasks([a_task(number, parts * SMALL)])


def test_messages_are_numbered_from_one_and_kept_until_the_ack() -> None:
    send_buffer = SendBuffer()
    messages = [Cancel(1, [i]) for i in range(3)]
    for message in messages:
        send_buffer.post(message, 0)
    assert send_buffer.is_queued
    assert send_buffer.oldest == float("inf")
    taken = send_buffer.take(5.0)
    assert send_buffer.oldest == 5.0
    assert [(kept.sequence, kept.message, kept.at) for kept in taken] == [
        (i, message, 5.0) for i, message in enumerate(messages, 1)
    ]
    assert not send_buffer.is_queued
    assert not send_buffer.is_idle()
    assert send_buffer.ack(0) == ()
    assert send_buffer.ack(2) == messages[:2]
    assert send_buffer.ack(2) == ()
    assert [kept.sequence for kept in send_buffer.retained()] == [3]
    assert len(send_buffer) == 1
    assert send_buffer.ack(99) == messages[2:]
    assert send_buffer.is_idle()
    assert send_buffer.sequence == 3


def test_small_messages_go_before_slices_of_which_few_are_under_way() -> None:
    send_buffer = SendBuffer()
    whole = large(1, 12)
    send_buffer.post(whole, 12 * SMALL)
    send_buffer.post(Cancel(1, [1]), 0)
    first = send_buffer.take(0.0)
    assert [type(kept.message) for kept in first] == [Cancel] + [Part] * 8
    assert send_buffer.take(0.0) == []
    assert send_buffer.is_queued
    send_buffer.ack(first[3].sequence)
    assert len(send_buffer.take(0.0)) == 3
    send_buffer.ack(send_buffer.sequence)
    last = send_buffer.take(0.0)
    assert [kept.message for kept in last[-1:]] == [whole]
    assert send_buffer.ack(send_buffer.sequence)[-1] is whole
    assert send_buffer.is_idle()


def test_it_is_slicing_until_the_last_slice_is_acked() -> None:
    send_buffer = SendBuffer()
    send_buffer.post(Cancel(1, [1]), 0)
    send_buffer.take(0.0)
    assert not send_buffer.is_slicing()
    message = large(1, 2)
    send_buffer.post(message, 2 * SMALL)
    assert send_buffer.is_slicing()
    send_buffer.take(0.0)
    assert send_buffer.is_slicing()
    send_buffer.ack(99)
    assert not send_buffer.is_slicing()


def test_a_message_of_unknown_length_is_looked_into() -> None:
    send_buffer = SendBuffer()
    send_buffer.post(large(1, 2), UNKNOWN_BYTES)
    send_buffer.post(Tasks([a_task(2, 1)]), UNKNOWN_BYTES)
    kinds = [type(kept.message) for kept in send_buffer.take(0.0)]
    assert kinds == [Tasks, Part, Part, Tasks]


def test_what_cannot_be_encoded_bears_no_number() -> None:
    send_buffer = SendBuffer()
    task = a_task(1)
    task.trace = "x" * (MAX_TEXT_BYTES + 1)
    send_buffer.post(Tasks([task]), 1)
    send_buffer.post(Cancel(1, [1]), 0)
    assert [kept.sequence for kept in send_buffer.take(0.0)] == [1]
    ((message, reason),) = send_buffer.misfits
    assert message == Tasks([task])
    assert "a trace has 4097 characters" in reason


def test_a_refused_message_is_kept_no_longer() -> None:
    send_buffer = SendBuffer()
    cancel = Cancel(1, [1])
    send_buffer.post(cancel, 0)
    send_buffer.post(large(1, 9), UNKNOWN_BYTES)
    send_buffer.take(0.0)
    assert send_buffer.refused(1) is cancel
    assert send_buffer.refused(1) is None
    assert type(send_buffer.refused(2)) is Part
    assert len(send_buffer.take(0.0)) == 1  # its place under way is free again
    assert send_buffer.refused(77) is None


def test_unacked_names_each_message_once_and_whole() -> None:
    send_buffer = SendBuffer()
    done, begun, waiting = large(1, 2), large(2, 12), large(3, 2)
    small, later = Cancel(1, [1]), Cancel(1, [2])
    for message in done, begun, waiting, small:
        send_buffer.post(message, UNKNOWN_BYTES)
    send_buffer.take(0.0)
    send_buffer.post(later, 0)
    left = send_buffer.unacked()
    assert len(left) == 5
    assert all(any(one is other for other in left) for one in (done, begun, waiting, small, later))
    assert send_buffer.is_idle()
    assert send_buffer.unacked() == []
    send_buffer.post(large(4, 9), UNKNOWN_BYTES)
    assert len(send_buffer.take(0.0)) == 8  # nothing counts as under way any more


def test_unacked_leaves_out_what_the_last_step_already_named() -> None:
    send_buffer = SendBuffer()
    whole = large(1, 8)
    send_buffer.post(whole, UNKNOWN_BYTES)
    send_buffer.ack(send_buffer.take(0.0)[-1].sequence)
    assert [kept.message for kept in send_buffer.take(0.0)] == [whole]
    assert send_buffer.unacked() == [whole]


def test_rows_go_singly() -> None:
    tasks = [a_task(1), a_task(2)]
    assert singly(Tasks(tasks)) == [Tasks([tasks[0]]), Tasks([tasks[1]])]
    outcomes = [Outcome(i, 1, OutcomeKind.RESULT) for i in (1, 2)]
    notices, stats = [HandoffNotice(1, 1, 1, 5)], [BatchStats("a", 1, 1, 1, "idle")]
    assert singly(Outcomes(outcomes, notices, stats)) == [
        Outcomes([outcomes[0]]),
        Outcomes([outcomes[1]]),
        Outcomes([], notices, stats),
    ]
    assert singly(Outcomes(outcomes[:1])) == [Outcomes(outcomes[:1])]
    assert singly(Cancel(1, [1, 2])) == [Cancel(1, [1, 2])]


def test_a_cancel_does_not_overtake_what_it_names() -> None:
    send_buffer = SendBuffer()
    begun, waiting, other = (large(number, 12) for number in (1, 2, 3))
    both = Tasks([a_task(4, 12 * SMALL), a_task(5, 12 * SMALL)])
    for whole in begun, waiting, other, both:
        send_buffer.post(whole, 12 * SMALL)
    assert len(send_buffer.take(0.0)) == 8
    assert send_buffer.withdraw(Cancel(1, [9, 2, 5, 1])) == waiting.tasks
    assert send_buffer.withdraw(Cancel(1, [])) == []
    sent = []
    while send_buffer.is_queued:
        sent += [kept.message for kept in send_buffer.take(0.0) if type(kept.message) is not Part]
        send_buffer.ack(send_buffer.sequence)
    assert sent == [Cancel(1, [9]), begun, Cancel(1, [1]), other, both, Cancel(1, [5])]
