"""The types that cross a socket: numbers that other versions rely on, defaults, identity."""

from __future__ import annotations

import doctest
from typing import get_args

import pytest

from mesh.protocol import messages
from mesh.protocol.messages import (
    RELIABLE,
    Flag,
    Header,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Role,
    Task,
    Type,
    total_bytes,
)


def test_the_numbers_on_the_wire_never_change() -> None:
    # Processes of several versions meet in one mesh: a number once given away stays.
    assert [one.name for one in Type] == (
        "HELLO WELCOME TASKS PART CREDIT OUTCOMES DEATH SUBMIT "
        "ANSWER CANCEL PEERS PING DRAIN BYE WHO ERR"
    ).split()
    assert [*Type] == [*range(1, 17)]
    assert {one.name: int(one) for one in Role} == {
        "GATEWAY": 0,
        "REPLICA": 1,
        "SUPERVISOR": 2,
        "CLIENT": 3,
    }
    assert [one.name for one in OutcomeKind] == "RESULT FAILURE UNSTARTED EVENT HANDBACK".split()
    assert [*OutcomeKind] == [*range(5)]


def test_flags_are_single_bits() -> None:
    assert {one.name: int(one) for one in Flag} == {"SOLO": 1, "HEDGE": 2, "STREAM": 4, "ONCE": 8}


def test_every_type_has_one_class_of_the_same_name() -> None:
    assert [one.__name__.upper() for one in get_args(Message)] == [one.name for one in Type]


def test_whatever_can_not_be_said_again_is_reliable() -> None:
    assert {one.name for one in RELIABLE} == {
        "TASKS",
        "PART",
        "OUTCOMES",
        "DEATH",
        "SUBMIT",
        "ANSWER",
        "CANCEL",
    }


def test_a_header_of_an_unnumbered_message_needs_only_its_ends() -> None:
    assert Header(Type.PING, 1, 2) == (Type.PING, 1, 2, 0, 0, 0, 0, 0)


def test_a_tasks_identity_is_its_owner_and_number() -> None:
    task = Task(7, 9, (("embed", "1"),), 0, 1, 0.0, [b"x"], 1)
    assert task.id == (7, 9)


def test_equal_rows_are_different_tasks_and_outcomes() -> None:
    # They are told apart by identity: two attempts of a request may look the same.
    assert Outcome(1, 1, OutcomeKind.RESULT) != Outcome(1, 1, OutcomeKind.RESULT)
    assert Task(1, 1, (), 0, 1, 0.0, [], 0) != Task(1, 1, (), 0, 1, 0.0, [], 0)


def test_no_two_messages_share_their_lists() -> None:
    assert Outcomes().outcomes is not Outcomes().outcomes
    assert (
        Outcome(1, 1, OutcomeKind.RESULT).buffers is not Outcome(1, 1, OutcomeKind.RESULT).buffers
    )


def test_no_message_takes_a_misspelt_attribute() -> None:
    with pytest.raises(AttributeError):
        Outcome(1, 1, OutcomeKind.RESULT).lable = "x"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("buffers", "length"),
    [([], 0), ([b"abc"], 3), ([b"", bytearray(2), memoryview(b"1234")], 6)],
)
def test_total_bytes_counts_every_buffer(
    buffers: list[bytes | bytearray | memoryview], length: int
) -> None:
    assert total_bytes(buffers) == length


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(messages) == (0, 1)
