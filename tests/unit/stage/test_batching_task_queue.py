"""Tasks in the order of their turns."""

from __future__ import annotations

from math import inf

from mesh.protocol.messages import Flag, Task
from stage.batching.task_queue import TaskQueue


def entry(
    number: int, rank: float, *, size: int = 1, priority: int = 0, flags: int = 0, group: int = 0
) -> tuple[float, float, Task]:
    task = Task(1, number, (("s", ""),), 0, 1, rank, [bytes(size)], size, flags, priority)
    task.group = group
    return rank, 0.0, task


def numbers(entries: list[tuple[float, float, Task]]) -> list[int]:
    return [task.number for _, _, task in entries]


def filled(*entries: tuple[float, float, Task]) -> TaskQueue:
    line = TaskQueue()
    for one in entries:
        line.add(one)
    return line


def test_an_empty_line() -> None:
    line = TaskQueue()
    assert (line.count, line.nbytes, line.front, list(line)) == (0, 0, inf, [])
    assert line.pop(9, 9) == []
    assert line.pop_last(9) == []


def test_the_lowest_rank_comes_first_and_ties_in_order_of_arrival() -> None:
    line = filled(entry(1, 5.0), entry(2, 3.0), entry(3, 9.0), entry(4, 5.0))
    assert (line.count, line.nbytes, line.front) == (4, 4, 3.0)
    assert numbers(line.pop(3, 99)) == [2, 1, 4]
    assert (line.count, line.nbytes, line.front) == (1, 1, 9.0)
    assert numbers(line.pop(3, 99)) == [3]
    assert (line.count, line.nbytes) == (0, 0)


def test_bytes_bound_a_batch_but_one_task_always_goes() -> None:
    line = filled(entry(1, 1.0, size=50), entry(2, 2.0, size=3), entry(3, 3.0, size=3))
    assert numbers(line.pop(9, 5)) == [1]
    assert numbers(line.pop(9, 5)) == [2]
    assert numbers(line.pop(9, 5)) == [3]


def test_eight_of_high_priority_go_before_one_of_normal() -> None:
    high = [entry(100 + number, 5.0, priority=1) for number in range(20)]
    normal = [entry(number, 1.0) for number in range(3)]
    order = numbers(filled(*high, *normal).pop(99, 999))
    assert [order.index(number) for number in range(3)] == [8, 17, 22]
    assert order[:8] == list(range(100, 108))


def test_the_weights_hold_over_several_batches() -> None:
    line = filled(
        *[entry(100 + number, 5.0, priority=1) for number in range(20)],
        *[entry(number, 1.0) for number in range(3)],
    )
    order = [numbers(line.pop(1, 999))[0] for _ in range(18)]
    assert [order.index(number) for number in range(2)] == [8, 17]


def test_high_priority_alone_needs_no_weighing() -> None:
    line = filled(entry(1, 5.0, priority=1), entry(2, 4.0, priority=1))
    assert line.front == 4.0
    assert numbers(line.pop(9, 99)) == [2, 1]


def test_the_front_is_the_earliest_of_all_levels() -> None:
    line = filled(entry(1, 5.0), entry(2, 4.0, priority=1), entry(3, 6.0, flags=Flag.SOLO))
    assert line.front == 4.0


def test_a_suspect_goes_first_and_alone() -> None:
    line = filled(entry(1, 1.0), entry(2, 2.0, flags=Flag.SOLO | Flag.HEDGE), entry(3, 3.0))
    assert numbers(line.pop(9, 99)) == [2]
    assert numbers(line.pop(9, 99)) == [1, 3]


def test_suspects_of_a_group_run_together_in_turn_with_the_others() -> None:
    two = {"flags": int(Flag.SOLO), "group": 2}
    line = filled(
        entry(1, 1.0),
        entry(2, 2.0, **two),
        entry(3, 3.0, flags=Flag.SOLO, group=3),
        entry(4, 4.0, **two),
        entry(5, 5.0, **two),
        entry(6, 6.0, flags=Flag.SOLO),
    )
    assert numbers(line.pop(2, 99)) == [2, 4]
    line.add(entry(7, 7.0))
    assert numbers(line.pop(1, 99)) == [1]
    assert numbers(line.pop(9, 99)) == [3]
    assert numbers(line.pop(9, 99)) == [7]
    assert [numbers(line.pop(9, 99)) for _ in range(2)] == [[5], [6]]
    assert line.count == line.nbytes == 0


def test_a_group_of_suspects_keeps_the_limit_of_bytes() -> None:
    two = {"flags": int(Flag.SOLO), "group": 2}
    line = filled(*[entry(number, 1.0, **two) for number in (1, 2, 3)])
    assert numbers(line.pop(9, 2)) == [1, 2]
    assert numbers(line.pop(9, 0)) == [3]


def test_the_last_are_normal_ones_then_high_ones_then_suspects() -> None:
    line = filled(
        entry(1, 1.0),
        entry(2, 2.0),
        entry(3, 1.0, priority=1),
        entry(4, 9.0, priority=1),
        entry(5, 1.0, flags=Flag.SOLO),
    )
    assert [task.number for task in line.pop_last(1)] == [2]
    assert [task.number for task in line.pop_last(2)] == [1, 4]
    assert line.count == line.nbytes == 2
    assert [task.number for task in line.pop_last(-1)] == []
    assert [task.number for task in line.pop_last(9)] == [3, 5]


def test_removing_leaves_the_others_in_order() -> None:
    line = filled(entry(1, 1.0), entry(2, 2.0), entry(3, 3.0), entry(4, 1.0, priority=1))
    gone = line.remove(lambda task: task.number in (2, 4))
    assert sorted(task.number for task in gone) == [2, 4]
    assert (line.count, line.nbytes) == (2, 2)
    assert numbers(list(line)) == [1, 3]
