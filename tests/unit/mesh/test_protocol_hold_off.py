"""How long who broke a rule is refused."""

from __future__ import annotations

from mesh.protocol.hold_off import (
    FIRST_PAUSE_S,
    FORGIVEN_AFTER_S,
    MAX_PAUSE_S,
    MAX_REMEMBERED,
    SPARED_BREACHES,
    HoldOff,
)


def test_the_pause_doubles_up_to_a_limit() -> None:
    held_off, now, pauses = HoldOff(), 100.0, []
    for _ in range(9):
        pauses.append(held_off.expelled(7, "", now))
        assert held_off.left(7, "", now) == pauses[-1]
        now += pauses[-1]
        assert held_off.left(7, "", now) == 0.0
    assert pauses == [
        FIRST_PAUSE_S,
        2.0,
        4.0,
        8.0,
        16.0,
        32.0,
        MAX_PAUSE_S,
        MAX_PAUSE_S,
        MAX_PAUSE_S,
    ]
    for _ in range(2000):  # no power becomes too large
        assert held_off.expelled(7, "", now) == MAX_PAUSE_S


def test_who_keeps_the_rules_for_long_begins_anew() -> None:
    held_off = HoldOff()
    held_off.expelled(7, "", 0.0)
    held_off.expelled(7, "", 1.0)
    assert held_off.expelled(7, "", 3.0 + FORGIVEN_AFTER_S) == FIRST_PAUSE_S


def test_others_are_not_held_off_for_it() -> None:
    held_off = HoldOff()
    assert held_off.left(8, "key@host", 0.0) == 0.0
    held_off.expelled(7, "key@host", 0.0)
    assert held_off.left(8, "key@host", 0.0) == 0.0
    assert held_off.left(8, "", 0.0) == 0.0
    assert held_off.left(7, "key@host", 0.5) == FIRST_PAUSE_S / 2


def test_a_number_is_held_off_as_it_comes_from_there() -> None:
    """Else whoever says HELLO with the number of one that keeps the rules shuts that one out."""
    held_off = HoldOff()
    held_off.expelled(7, "key@rogue", 0.0)
    assert held_off.left(7, "key@honest", 0.0) == 0.0


def test_a_number_that_may_be_anothers_is_not_held_off() -> None:
    held_off = HoldOff()
    assert held_off.expelled(0, "", 0.0) == 0.0
    assert len(held_off) == 0
    pauses = [held_off.expelled(0, "key@host", 0.0) for _ in range(SPARED_BREACHES + 1)]
    assert pauses == [0.0, 0.0, 0.0, FIRST_PAUSE_S]
    assert held_off.left(7, "key@host", 0.0) == FIRST_PAUSE_S


def test_a_source_that_changes_its_number_each_time_is_held_off_itself() -> None:
    held_off = HoldOff()
    for number in range(1, 1 + SPARED_BREACHES):
        assert held_off.expelled(number, "key@host", 0.0) == FIRST_PAUSE_S
    assert held_off.left(99, "key@host", 0.0) == 0.0
    assert [held_off.expelled(n, "key@host", 0.0) for n in (10, 11, 12)] == [1.0, 2.0, 4.0]
    assert held_off.left(99, "key@host", 1.0) == 3.0
    assert held_off.left(99, "key@another", 1.0) == 0.0


def test_it_remembers_so_many_and_the_source_longest() -> None:
    held_off = HoldOff()
    for number in range(1, 3 * MAX_REMEMBERED):
        held_off.expelled(number, "key@host", 0.0)
    assert len(held_off) == MAX_REMEMBERED
    assert held_off.left(1, "", 0.0) == 0.0
    assert held_off.left(1, "key@host", 0.0) == MAX_PAUSE_S
