"""What a batcher learns from the past."""

from __future__ import annotations

from itertools import pairwise

import pytest

from stage.batching.estimates import MAX_BUNDLE, SHORT_BUNDLE_S, BatchTimes, WaitBenefit


def test_nothing_is_predicted_before_anything_ran() -> None:
    times = BatchTimes()
    assert times.predict(32) == 0.0
    assert times.bundle == 1


def test_a_batch_takes_what_batches_of_its_size_took() -> None:
    times = BatchTimes()
    for _ in range(20):
        times.learn(32, 0.040)
        times.learn(1, 0.010)
    assert times.predict(20) == pytest.approx(0.040)
    assert times.predict(1) == pytest.approx(0.010)
    for _ in range(20):
        times.learn(32, 0.080)
    assert times.predict(32) == pytest.approx(0.080, rel=0.01)


def test_a_size_that_never_ran_is_taken_for_slow() -> None:
    times = BatchTimes()
    times.learn(4, 0.004)
    assert times.predict(2) == pytest.approx(0.004)
    assert times.predict(16) == pytest.approx(0.016)


def test_short_tasks_are_bundled_and_long_ones_are_not() -> None:
    times = BatchTimes()
    times.learn(1, SHORT_BUNDLE_S / 10.5)
    assert times.bundle == 10
    times.learn(1, SHORT_BUNDLE_S * 3)
    assert times.bundle == 1


def test_one_hiccup_in_many_does_not_end_the_bundles() -> None:
    times = BatchTimes()
    for _ in range(40):
        times.learn(10, 1e-6)
    for _ in range(7):  # less than a quarter of the last 32
        times.learn(1, 1.0)
    assert times.bundle == MAX_BUNDLE
    for _ in range(8):
        times.learn(1, 1.0)
    assert times.bundle == 1


def test_a_clock_too_coarse_to_see_a_task_means_a_full_bundle() -> None:
    for seconds in (0.0, 5e-324):
        times = BatchTimes()
        times.learn(1, seconds)
        assert times.bundle == MAX_BUNDLE


def gather(habit: WaitBenefit, first: int, more: int, *, company: bool = True) -> int:
    """One wait that begins with `first` tasks, to which at most `more` come; how it was set out."""
    goal = habit.goal(first, company=company)
    if goal > first:
        habit.learn(first, min(goal, first + more), in_full=first + more < goal)
    return goal


def test_two_waits_in_vain_end_the_habit() -> None:
    habit = WaitBenefit(32)
    assert [gather(habit, 1, 0, company=False) for _ in range(999)] == [32, 32] + [1] * 997


def test_company_brings_it_back_ever_more_rarely() -> None:
    habit = WaitBenefit(32)
    goals = [gather(habit, 1, 0) for _ in range(3000)]
    waits = [index for index, goal in enumerate(goals) if goal > 1]
    gaps = [later - earlier for earlier, later in pairwise(waits)]
    assert gaps == [1, 5, 9, 17, 33, 65, 129, 257, 513, 1025]


def test_the_pause_does_not_grow_for_ever() -> None:
    habit = WaitBenefit(32)
    waits = [index for index in range(9000) if gather(habit, 1, 0) > 1]
    assert waits[-1] - waits[-2] == 1025


def test_company_that_waiting_brings_restores_the_habit() -> None:
    habit = WaitBenefit(32)
    goals = [gather(habit, 1, 0) for _ in range(5)] + [gather(habit, 1, 3) for _ in range(5)]
    assert goals == [32, 32, 1, 1, 1, 1, 32, 32, 32, 4]


def test_the_goal_is_what_waits_come_to() -> None:
    habit = WaitBenefit(32)
    assert [gather(habit, 2, 14) for _ in range(9)] == [32, 32, 32] + [16] * 6


def test_the_goal_follows_a_population_that_shrinks() -> None:
    habit = WaitBenefit(32)
    goals = [gather(habit, 2, 14) for _ in range(9)] + [gather(habit, 2, 4) for _ in range(9)]
    assert goals[-1] == 6


def test_the_goal_follows_a_population_that_has_outgrown_it() -> None:
    habit = WaitBenefit(32)
    for _ in range(9):
        gather(habit, 2, 4)
    assert gather(habit, 20, 0) == 6
    assert gather(habit, 2, 99) == 20


def probes(habit: WaitBenefit, first: int, more: int, waits: int) -> list[int]:
    return [index for index in range(waits) if gather(habit, first, more) == 32]


def test_now_and_then_it_looks_whether_more_would_come() -> None:
    habit = WaitBenefit(32)
    found = probes(habit, 2, 14, 20_000)
    assert found[:3] == [0, 1, 2]
    gaps = [later - earlier for earlier, later in pairwise(found[2:])]
    assert gaps == [65, 129, 257, 513, 1025, 2049, 4097, 4097, 4097]


def test_a_look_that_finds_more_raises_the_goal() -> None:
    habit = WaitBenefit(32)
    for _ in range(3):
        gather(habit, 2, 2)
    goals = [gather(habit, 2, 20) for _ in range(70)]
    assert goals == [4] * 64 + [32] + [22] * 5
    # Having found more, it looks again just as soon.
    assert probes(habit, 2, 20, 200)[0] == 64 - 5


def test_a_look_may_find_a_full_batch() -> None:
    habit = WaitBenefit(32)
    for _ in range(3):
        gather(habit, 2, 2)
    assert [gather(habit, 2, 99) for _ in range(66)][-2:] == [32, 32]
