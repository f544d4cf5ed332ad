"""Addresses that are dialled, and how each attempt stands."""

from __future__ import annotations

import pytest

from mesh.links.dialer import (
    BYE_LINGER_S,
    DUPLICATE_RETRY_S,
    FIRST_ATTEMPT_S,
    HELLO_LIMIT_S,
    MAX_ATTEMPT_S,
    DialedAddress,
    Dialer,
    DialState,
)


def always_half() -> float:
    return 0.5


@pytest.fixture
def lines() -> Dialer:
    made = Dialer(always_half)
    made.want({"a", "b"}, 1.0)
    return made


def dialled(lines: Dialer, address: str = "a", now: float = 1.0) -> DialedAddress:
    (line,) = [line for line in lines.overdue(now) if line.address == address]
    lines.dial(line, now)
    return line


def test_an_address_is_due_at_once(lines: Dialer) -> None:
    assert lines.next_due() == 1.0
    assert [line.address for line in lines.overdue(1.0)] == ["a", "b"]
    assert not list(lines.overdue(0.9))
    assert Dialer(always_half).next_due() == float("inf")


def test_each_attempt_has_a_number_of_its_own_below_zero(lines: Dialer) -> None:
    a, b = dialled(lines, "a"), dialled(lines, "b")
    assert (a.link, b.link) == (-1, -2)
    assert (lines.of(-1), lines.of(-2), lines.of(-3)) == (a, b, None)
    assert a.state is DialState.OPENING
    assert a.due == 1.0 + FIRST_ATTEMPT_S
    lines.ended(-1, 2.0)
    assert lines.of(-1) is None
    assert lines.dial(a, 2.0) == -3


def test_an_attempt_goes_through_its_states(lines: Dialer) -> None:
    line = dialled(lines)
    assert not lines.is_greeting()
    line.greeting(77, 2.0)
    assert lines.is_greeting()
    assert (line.state, line.nonce, line.due) == (DialState.GREETING, 77, 2.0 + HELLO_LIMIT_S)
    line.up(5)
    assert (line.state, line.peer, line.due) == (DialState.UP, 5, float("inf"))
    assert repr(line) == "<DialedAddress a up 0000000000000005>"
    assert lines.leads_to(5)
    assert not lines.leads_to(6)
    line.leaving(3.0)
    assert (line.state, line.due) == (DialState.LEAVING, 3.0 + BYE_LINGER_S)


def test_the_first_new_attempt_is_made_at_once_and_later_ones_ever_later(lines: Dialer) -> None:
    line = dialled(lines)
    pauses, patience = [], []
    for _ in range(12):
        lines.ended(line.link, 10.0)
        assert (line.state, line.link) == (DialState.IDLE, 0)
        pauses.append(line.due - 10.0)
        lines.dial(line, 10.0)
        patience.append(line.due - 10.0)
    assert pauses[:4] == pytest.approx([0.0, 0.1, 0.2, 0.4])
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(MAX_ATTEMPT_S)
    assert patience[:3] == pytest.approx([0.5, 1.0, 2.0])
    assert patience[-1] == pytest.approx(MAX_ATTEMPT_S)
    line.up(5)
    lines.ended(line.link, 20.0)
    assert line.due == 20.0


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 0.05), (1.0, 0.15)])
def test_pauses_are_jittered(chance: float, pause: float) -> None:
    line = DialedAddress("a", 0.0)
    line.failed(0.0, lambda: chance)
    line.failed(0.0, lambda: chance)
    assert line.due == pytest.approx(pause)


def test_an_unwanted_address_goes_with_its_link(lines: Dialer) -> None:
    up, opening = dialled(lines, "a"), dialled(lines, "b")
    up.up(5)
    assert lines.want({"c"}, 2.0) == [opening.link]
    assert lines.of(opening.link) is None
    assert lines.of(up.link) is up
    lines.ended(up.link, 3.0)
    assert [line.address for line in lines.overdue(9.0)] == ["c"]
    assert lines.want((), 3.0) == []  # it has no link yet
    assert not list(lines.overdue(9.0))


def test_an_address_wanted_again_is_kept(lines: Dialer) -> None:
    line = dialled(lines)
    line.up(5)
    lines.want({"b"}, 2.0)
    lines.want({"a", "b"}, 2.0)
    lines.ended(line.link, 3.0)
    assert line in list(lines.overdue(3.0))


def test_a_duplicate_is_tried_much_later(lines: Dialer) -> None:
    line = dialled(lines)
    link = line.link
    lines.duplicate(line, 5, 2.0)
    assert lines.of(link) is None
    assert (line.state, line.peer, line.due) == (DialState.IDLE, 5, 2.0 + DUPLICATE_RETRY_S)


def test_the_end_of_a_link_that_nobody_knows_is_none(lines: Dialer) -> None:
    lines.ended(-99, 1.0)
    assert lines.next_due() == 1.0


NAMED = [f"n{n}" for n in range(9)]


def addresses(lines: Dialer) -> list[str]:
    return [line.address for line in lines.overdue(float("inf"))]


def test_of_too_many_that_are_named_the_first_are_dialled() -> None:
    lines = Dialer(always_half)
    lines.want(["a", "b"], 1.0, ["a", *NAMED, *NAMED], 4)
    assert addresses(lines) == ["a", "b", "n0", "n1", "n2", "n3"]
    assert lines.left_out == 5
    lines.want(["a", "b"], 2.0, NAMED[6:], 4)  # others may be named instead
    assert addresses(lines) == ["a", "b", "n6", "n7", "n8"]
    assert lines.left_out == 0


def test_what_lives_on_unlisted_counts_too() -> None:
    """Else who names others each time has a process dial without end."""
    lines = Dialer(always_half)
    lines.want(["a"], 1.0, NAMED[:4], 4)
    for line in list(lines.overdue(1.0)):
        lines.dial(line, 1.0)
        line.up(len(line.address))
    for start in (4, 0, 5):
        lines.want(["a"], 2.0, NAMED[start:], 4)
        assert set(addresses(lines)) == {"a", *NAMED[:4]}
    assert lines.left_out == 4
    (first,) = [line for line in lines.overdue(float("inf")) if line.address == "n0"]
    lines.ended(first.link, 3.0)
    lines.want(["a"], 3.0, NAMED[5:], 4)
    assert set(addresses(lines)) == {"a", "n1", "n2", "n3", "n5"}


def test_our_own_addresses_are_never_left_out() -> None:
    lines = Dialer(always_half)
    lines.want(NAMED[:6], 1.0, NAMED, 0)
    assert addresses(lines) == NAMED[:6]
    assert lines.left_out == 3


def test_who_has_failed_twice_is_refused(lines: Dialer) -> None:
    line = dialled(lines)
    assert not line.is_refused
    line.failed(1.0, always_half)
    assert not line.is_refused
    line.failed(2.0, always_half)
    assert line.is_refused
