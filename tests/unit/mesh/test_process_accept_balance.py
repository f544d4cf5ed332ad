"""Processes that take connections from one queue, each its share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.process.accept_balance import AcceptBalance, AcceptShare


def accept_balance(*counts: int | None) -> AcceptBalance:
    """Processes with so many connections; None takes none."""
    made = AcceptBalance(bytearray(AcceptBalance.size(len(counts))))
    for number, connections in enumerate(counts, 1):
        if connections is not None:
            made.count(number, connections)
    return made


def test_at_first_nobody_is_there() -> None:
    made = accept_balance(None, None)
    assert made.is_alone(1)
    assert made.room(1) is None


def test_one_that_is_alone_takes_all() -> None:
    made = accept_balance(1000, None, None)
    assert made.is_alone(1)
    assert made.room(1) is None
    assert not made.is_alone(2)


@pytest.mark.parametrize(
    ("mine", "others", "room"),
    [
        (0, [0], 1),
        (1, [0], 0),
        (9, [0, 50], 0),
        (0, [9, 4], 6),
        (5, [4], 1),
        (6, [4], 0),
        (100, [100], 26),
        (125, [100], 1),
    ],
)
def test_nobody_gets_far_ahead(mine: int, others: list[int], room: int) -> None:
    assert accept_balance(mine, *others).room(1) == room


def test_one_that_is_away_is_no_measure_and_gets_its_share_when_it_is_back() -> None:
    made = accept_balance(40, 0)
    assert made.room(1) == 0
    made.away(2)
    assert made.room(1) is None
    made.count(2, 0)
    assert (made.room(1), made.room(2)) == (0, 51)


def test_one_that_has_not_counted_itself_yet_has_none() -> None:
    assert accept_balance(None, 3).room(1) == 4


@given(st.lists(st.integers(0, 30), min_size=2, max_size=5), st.data())
def test_somebody_may_always_take_the_next(counts: list[int], data: st.DataObject) -> None:
    """Else a connection would wait although all turn."""
    made, having = accept_balance(*counts), list(counts)
    for _ in range(200):
        rooms = [made.room(number) or 0 for number in range(1, len(having) + 1)]
        assert any(rooms)
        taker = data.draw(st.sampled_from([at for at, room in enumerate(rooms) if room]))
        having[taker] += 1
        made.count(taker + 1, having[taker])
    assert max(having) <= min(having) * 1.25 + 1 or max(having) in counts


def test_one_that_leaves_is_counted_no_more_and_takes_what_nobody_else_does() -> None:
    made = AcceptBalance(bytearray(AcceptBalance.size(2)))
    first, second = AcceptShare(made, 1), AcceptShare(made, 2)
    first.count(0)
    second.count(7)
    assert (first.room(), second.room()) == (9, 0)
    first.leave()
    first.count(3)
    assert not first.is_alone
    assert second.is_alone
    assert (first.room(), second.room()) == (None, None)
    second.leave()
    assert first.is_alone
