"""Slices are sent in order, few at a time, and no CANCEL overtakes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mesh_world import SMALL, a_task, small_parts

from mesh.links.large_messages import LargeMessages
from mesh.protocol.messages import Cancel, Message, Part, Tasks


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


def large(number: int, parts: int) -> Tasks:
    return Tasks([a_task(number, parts * SMALL)])


def taken(messages: LargeMessages) -> list[Message]:
    """What may be sent now: slices, and each large message where its last part is."""
    return [step.message for step in messages.steps()]


def landed(messages: LargeMessages, sent: list[Message]) -> None:
    for message in sent:
        if isinstance(message, Part):
            messages.landed(message)


def test_few_slices_are_under_way() -> None:
    messages = LargeMessages()
    messages.post(large(1, 12))
    first = taken(messages)
    assert [type(message) for message in first] == [Part] * 8
    assert taken(messages) == []
    landed(messages, first[:3])
    assert len(taken(messages)) == 3
    assert messages.queue


def test_it_is_slicing_until_the_last_slice_has_landed() -> None:
    messages = LargeMessages()
    assert not messages.is_slicing()
    messages.post(large(1, 2))
    assert messages.is_slicing()
    sent = taken(messages)
    assert not messages.queue
    assert messages.is_slicing()
    landed(messages, sent)
    assert not messages.is_slicing()


def test_a_cancel_does_not_overtake_what_it_names() -> None:
    messages = LargeMessages()
    begun, waiting, other = (large(number, 12) for number in (1, 2, 3))
    both = Tasks([a_task(4, 12 * SMALL), a_task(5, 12 * SMALL)])
    for whole in begun, waiting, other, both:
        messages.post(whole)
    sent = taken(messages)
    left = dict.fromkeys([9, 2, 5, 1])
    assert messages.withdraw(Cancel(1, [9, 2, 5, 1]), left) == waiting.tasks
    assert list(left) == [9]
    assert messages.withdraw(Cancel(1, []), {}) == []
    while messages.queue:
        landed(messages, sent[-8:])
        sent += taken(messages)
    named = [message for message in sent if type(message) is Cancel]
    assert named == [Cancel(1, [1]), Cancel(1, [5])]
    kinds = [type(message) for message in sent if type(message) is not Part]
    assert kinds == [Tasks, Cancel, Tasks, Tasks, Cancel]


def test_pending_are_those_whose_last_part_was_not_sent() -> None:
    messages = LargeMessages()
    done, begun = large(1, 2), large(2, 12)
    messages.post(done)
    messages.post(begun)
    taken(messages)
    assert messages.pending() == [begun]
    messages.clear()
    assert not messages.is_slicing()
    assert messages.pending() == []
    messages.post(large(3, 9))
    assert len(taken(messages)) == 8  # nothing counts as under way any more
