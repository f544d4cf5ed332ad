"""Tasks that wait, the most urgent first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_world import a_task

from mesh.links.priority_queue import HIGH_WEIGHT, PriorityQueue
from mesh.protocol.messages import Task

made = st.builds(
    lambda number, deadline, priority, size: _task(number, deadline, priority, size),
    st.integers(0, 1000),
    st.integers(0, 9),
    st.integers(0, 1),
    st.integers(0, 5),
)


def _task(number: int, deadline: float = 9.0, priority: int = 0, size: int = 1) -> Task:
    task = a_task(number, size, deadline=deadline)
    task.priority = priority
    return task


def filled(*tasks: Task) -> PriorityQueue:
    backlog = PriorityQueue()
    for task in tasks:
        backlog.push(task)
    return backlog


@given(st.lists(made, max_size=30))
def test_within_a_level_the_oldest_deadline_goes_first_and_equals_keep_their_order(
    tasks: list[Task],
) -> None:
    backlog = filled(*tasks)
    assert (len(backlog), backlog.nbytes) == (len(tasks), sum(t.nbytes for t in tasks))
    assert {id(task) for task in backlog} == {id(task) for task in tasks}
    popped = []
    while backlog:
        ahead = backlog.peek()
        popped.append(backlog.pop())
        assert popped[-1] is ahead
    for level in 0, 1:
        expected = sorted((t for t in tasks if t.priority == level), key=lambda t: t.deadline)
        assert [id(t) for t in popped if t.priority == level] == [id(t) for t in expected]
    assert backlog.nbytes == 0
    assert backlog.peek() is None
    with pytest.raises(IndexError):
        backlog.pop()


def test_levels_share_so_that_neither_starves() -> None:
    high = [_task(n, priority=1) for n in range(3 * HIGH_WEIGHT)]
    backlog = filled(*high, *[_task(n) for n in range(3)])
    order = [backlog.pop().priority for _ in range(3 * HIGH_WEIGHT + 3)]
    assert order == ([1] * HIGH_WEIGHT + [0]) * 3


def test_high_priority_goes_on_while_nothing_else_waits() -> None:
    backlog = filled(*[_task(n, priority=1) for n in range(2 * HIGH_WEIGHT)])
    for _ in range(2 * HIGH_WEIGHT - 1):
        backlog.pop()
    backlog.push(_task(99))
    assert [backlog.pop().number, backlog.pop().number] == [99, 2 * HIGH_WEIGHT - 1]


def test_a_task_is_taken_out_by_itself_and_not_by_its_like() -> None:
    one, like, high = _task(1), _task(1), _task(2, priority=1)
    backlog = filled(one, high)
    assert not backlog.remove(like)
    assert not backlog.remove(_task(2, priority=1))
    assert backlog.remove(one)
    assert backlog.remove(high)
    assert (len(backlog), backlog.nbytes) == (0, 0)


def test_what_has_expired_is_taken_out_at_every_level() -> None:
    backlog = filled(_task(1, 3.0), _task(2, 5.0), _task(3, 4.0, priority=1), _task(4, 6.0, 1))
    assert sorted(task.number for task in backlog.expired(5.0)) == [1, 2, 3]
    assert [task.number for task in backlog] == [4]
    assert backlog.nbytes == 1
    assert backlog.expired(5.0) == []


@given(st.lists(made, max_size=20), st.integers(0, 9))
def test_those_behind_are_those_that_leave_after_it(tasks: list[Task], deadline: int) -> None:
    backlog = filled(*(task for task in tasks if not task.priority))
    one = _task(-1, deadline)
    behind = backlog.behind(0, deadline)
    backlog.push(one)
    order = [backlog.pop() for _ in range(len(backlog))]
    assert len(order) - 1 - order.index(one) == behind


def test_the_urgent_leave_all_normal_ones_behind_but_those_that_get_their_turn() -> None:
    high = [_task(n, 5.0, priority=1) for n in range(2 * HIGH_WEIGHT)]
    backlog = filled(*high, *[_task(n) for n in range(9)])
    assert backlog.behind(1, 4.0) == 2 * HIGH_WEIGHT + 9
    assert backlog.behind(1, 6.0) == 9 - 2
    assert backlog.behind(0, 9.0) == 0
    assert filled(*high).behind(1, 6.0) == 0


def numbers(tasks: list[Task]) -> list[int]:
    return [task.number for task in tasks]


def nowhere(task: Task) -> bool:
    raise AssertionError("only what was tried before is asked about")


@pytest.mark.parametrize("priority", [0, 1])
def test_several_are_taken_in_one_go(priority: int) -> None:
    backlog = PriorityQueue()
    for number in range(5):
        backlog.push(_task(number, float(number), priority))
    assert numbers(backlog.take(3, 100, nowhere)) == [0, 1, 2]
    assert (backlog.count, len(backlog), backlog.nbytes) == (2, 2, 2)
    assert numbers(backlog.take(3, 100, nowhere)) == [3, 4]
    assert backlog.take(3, 100, nowhere) == []


@pytest.mark.parametrize("priority", [0, 1])
def test_what_is_taken_fits_but_for_the_first(priority: int) -> None:
    backlog = PriorityQueue()
    for number, nbytes in enumerate((9, 4, 4, 4)):
        backlog.push(_task(number, float(number), priority, nbytes))
    assert numbers(backlog.take(9, 8, nowhere)) == [0]
    assert numbers(backlog.take(9, 8, nowhere)) == [1, 2]


@pytest.mark.parametrize("priority", [0, 1])
def test_what_belongs_elsewhere_ends_the_taking(priority: int) -> None:
    backlog = PriorityQueue()
    for number, tried in enumerate(((), (7,), (8,), ())):
        waits = _task(number, float(number), priority)
        waits.tried = tried
        backlog.push(waits)
    assert numbers(backlog.take(9, 99, lambda each: each.tried == (8,))) == [0, 1]
    assert numbers(backlog.take(9, 99, lambda each: False)) == [2, 3]
