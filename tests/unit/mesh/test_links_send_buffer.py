"""What was posted and is not receipted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mesh_world import SMALL, a_task, small_parts

from mesh.links.send_buffer import UNKNOWN, Outbox, singly
from mesh.protocol.fields import MAX_TEXT
from mesh.protocol.messages import Cancel, Figures, Kind, Note, Outcome, Outcomes, Part, Tasks


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


def large(number: int, parts: int) -> Tasks:
    return Tasks([a_task(number, parts * SMALL)])


def test_messages_are_numbered_from_one_and_kept_until_the_receipt() -> None:
    outbox = Outbox()
    messages = [Cancel(1, [i]) for i in range(3)]
    for message in messages:
        outbox.post(message, 0)
    assert outbox.is_queued()
    assert outbox.oldest == float("inf")
    taken = outbox.take(5.0)
    assert outbox.oldest == 5.0
    assert [(kept.sequence, kept.message, kept.at) for kept in taken] == [
        (i, message, 5.0) for i, message in enumerate(messages, 1)
    ]
    assert not outbox.is_queued()
    assert not outbox.is_idle()
    assert outbox.receipt(0) == ()
    assert outbox.receipt(2) == messages[:2]
    assert outbox.receipt(2) == ()
    assert [kept.sequence for kept in outbox.retained()] == [3]
    assert len(outbox) == 1
    assert outbox.receipt(99) == messages[2:]
    assert outbox.is_idle()
    assert outbox.sequence == 3


def test_small_messages_go_before_slices_of_which_few_are_under_way() -> None:
    outbox = Outbox()
    whole = large(1, 12)
    outbox.post(whole, 12 * SMALL)
    outbox.post(Cancel(1, [1]), 0)
    first = outbox.take(0.0)
    assert [type(kept.message) for kept in first] == [Cancel] + [Part] * 8
    assert outbox.take(0.0) == []
    assert outbox.is_queued()
    outbox.receipt(first[3].sequence)
    assert len(outbox.take(0.0)) == 3
    outbox.receipt(outbox.sequence)
    last = outbox.take(0.0)
    assert [kept.message for kept in last[-1:]] == [whole]
    assert outbox.receipt(outbox.sequence)[-1] is whole
    assert outbox.is_idle()


def test_it_is_slicing_until_the_last_slice_is_receipted() -> None:
    outbox = Outbox()
    outbox.post(Cancel(1, [1]), 0)
    outbox.take(0.0)
    assert not outbox.is_slicing()
    message = large(1, 2)
    outbox.post(message, 2 * SMALL)
    assert outbox.is_slicing()
    outbox.take(0.0)
    assert outbox.is_slicing()
    outbox.receipt(99)
    assert not outbox.is_slicing()


def test_a_message_of_unknown_length_is_looked_into() -> None:
    outbox = Outbox()
    outbox.post(large(1, 2), UNKNOWN)
    outbox.post(Tasks([a_task(2, 1)]), UNKNOWN)
    kinds = [type(kept.message) for kept in outbox.take(0.0)]
    assert kinds == [Tasks, Part, Part, Tasks]


def test_what_cannot_be_encoded_bears_no_number() -> None:
    outbox = Outbox()
    task = a_task(1)
    task.trace = "x" * (MAX_TEXT + 1)
    outbox.post(Tasks([task]), 1)
    outbox.post(Cancel(1, [1]), 0)
    assert [kept.sequence for kept in outbox.take(0.0)] == [1]
    ((message, reason),) = outbox.misfits
    assert message == Tasks([task])
    assert "a trace has 4097 characters" in reason


def test_a_refused_message_is_kept_no_longer() -> None:
    outbox = Outbox()
    cancel = Cancel(1, [1])
    outbox.post(cancel, 0)
    outbox.post(large(1, 9), UNKNOWN)
    outbox.take(0.0)
    assert outbox.refused(1) is cancel
    assert outbox.refused(1) is None
    assert type(outbox.refused(2)) is Part
    assert len(outbox.take(0.0)) == 1  # its place under way is free again
    assert outbox.refused(77) is None


def test_unreceipted_names_each_message_once_and_whole() -> None:
    outbox = Outbox()
    done, begun, waiting = large(1, 2), large(2, 12), large(3, 2)
    small, later = Cancel(1, [1]), Cancel(1, [2])
    for message in done, begun, waiting, small:
        outbox.post(message, UNKNOWN)
    outbox.take(0.0)
    outbox.post(later, 0)
    left = outbox.unreceipted()
    assert len(left) == 5
    assert all(any(one is other for other in left) for one in (done, begun, waiting, small, later))
    assert outbox.is_idle()
    assert outbox.unreceipted() == []
    outbox.post(large(4, 9), UNKNOWN)
    assert len(outbox.take(0.0)) == 8  # nothing counts as under way any more


def test_unreceipted_leaves_out_what_the_last_step_already_named() -> None:
    outbox = Outbox()
    whole = large(1, 8)
    outbox.post(whole, UNKNOWN)
    outbox.receipt(outbox.take(0.0)[-1].sequence)
    assert [kept.message for kept in outbox.take(0.0)] == [whole]
    assert outbox.unreceipted() == [whole]


def test_rows_go_singly() -> None:
    tasks = [a_task(1), a_task(2)]
    assert singly(Tasks(tasks)) == [Tasks([tasks[0]]), Tasks([tasks[1]])]
    outcomes = [Outcome(i, 1, Kind.RESULT) for i in (1, 2)]
    notes, figures = [Note(1, 1, 1, 5)], [Figures("a", 1, 1, 1, "idle")]
    assert singly(Outcomes(outcomes, notes, figures)) == [
        Outcomes([outcomes[0]]),
        Outcomes([outcomes[1]]),
        Outcomes([], notes, figures),
    ]
    assert singly(Outcomes(outcomes[:1])) == [Outcomes(outcomes[:1])]
    assert singly(Cancel(1, [1, 2])) == [Cancel(1, [1, 2])]


def test_a_cancel_does_not_overtake_what_it_names() -> None:
    outbox = Outbox()
    begun, waiting, other = (large(number, 12) for number in (1, 2, 3))
    both = Tasks([a_task(4, 12 * SMALL), a_task(5, 12 * SMALL)])
    for whole in begun, waiting, other, both:
        outbox.post(whole, 12 * SMALL)
    assert len(outbox.take(0.0)) == 8
    assert outbox.withdraw(Cancel(1, [9, 2, 5, 1])) == waiting.tasks
    assert outbox.withdraw(Cancel(1, [])) == []
    sent = []
    while outbox.is_queued():
        sent += [kept.message for kept in outbox.take(0.0) if type(kept.message) is not Part]
        outbox.receipt(outbox.sequence)
    assert sent == [Cancel(1, [9]), begun, Cancel(1, [1]), other, both, Cancel(1, [5])]
