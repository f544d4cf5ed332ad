"""When a batch starts, with whom, and that no task is lost or run too late."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from mesh.protocol.messages import Flag, Task
from stage.batching.batcher import DEADLINE_MARGIN_S, Batch, Batcher

MANY = 1 << 30


def task(
    number: int, *, deadline: float = 99.0, size: int = 1, priority: int = 0, flags: int = 0
) -> Task:
    return Task(7, number, (("s", ""),), 0, 1, deadline, [bytes(size)], size, flags, priority)


def batcher(size: int = 8, wait: float = 0.010, max_bytes: int = MANY) -> Batcher:
    return Batcher(size, wait, max_bytes)


def due(one: Batcher, now: float) -> Batch:
    batch = one.due(now)
    assert batch is not None
    return batch


def numbers(tasks: Iterable[Task]) -> list[int]:
    return [one.number for one in tasks]


def test_nothing_waits() -> None:
    empty = batcher()
    assert empty.due(1.0) is None
    assert empty.next_due() == inf
    assert (len(empty), empty.nbytes, empty.window) == (0, 0, 8)


def test_without_a_wait_time_it_starts_at_once() -> None:
    eager = batcher(wait=0.0)
    eager.add([task(1)], 1.0)
    assert eager.next_due() == 1.0
    batch = due(eager, 1.5)
    assert (numbers(batch.tasks), batch.reason, batch.waited) == ([1], "idle", 0.5)


def test_a_full_batch_starts_at_once() -> None:
    one = batcher(size=3)
    for number in range(5):
        one.add([task(number)], 1.0 + number)
        assert one.next_due() == 1.0
    batch = due(one, 6.0)
    assert numbers(batch.tasks) == [0, 1, 2]
    assert (batch.reason, batch.waited, batch.single) == ("size", 5.0, False)
    assert len(one) == 2


def test_bytes_fill_a_batch_too() -> None:
    one = batcher(max_bytes=10)
    one.add([task(1, size=6)], 1.0)
    assert one.due(1.0) is None
    one.add([task(2, size=6)], 1.001)
    assert one.nbytes == 12
    assert one.next_due() == 1.0
    batch = due(one, 1.001)
    assert (numbers(batch.tasks), batch.reason) == ([1], "bytes")
    assert one.nbytes == 6


def test_the_wait_counts_from_the_arrival_of_the_oldest() -> None:
    one = batcher()
    one.add([task(1)], 1.0)
    one.add([task(2)], 1.008)
    assert one.due(1.008) is None
    assert one.next_due() == pytest.approx(1.010)
    batch = due(one, 1.010)
    assert (batch.reason, batch.waited) == ("wait", pytest.approx(0.010))


def test_a_wait_that_was_over_before_the_replica_was_free_is_not_repeated() -> None:
    one = batcher()
    one.add([task(1)], 1.0)
    assert due(one, 5.0).reason == "wait"


def test_it_starts_early_enough_for_the_earliest_deadline() -> None:
    one = batcher(wait=1.0)
    one.add([task(1)], 0.0)
    due(one, 2.0)
    one.finished(1, 0.100)
    assert one.predict(1) == pytest.approx(0.100)
    one.add([task(2, deadline=3.0)], 2.5)
    one.add([task(3, deadline=2.9)], 2.5)
    one.finished(2, 0.100)
    assert one.due(2.7) is None
    assert one.next_due() == pytest.approx(2.9 - 0.100 - DEADLINE_MARGIN_S)
    batch = due(one, 2.8)
    assert (batch.reason, numbers(batch.tasks)) == ("deadline", [3, 2])


def test_draining_waits_for_nothing() -> None:
    one = batcher()
    one.add([task(1)], 1.0)
    assert one.due(1.0) is None
    one.drain()
    assert one.next_due() == 1.0
    assert due(one, 1.0).reason == "drain"
    assert "draining" in repr(one)


def test_an_expired_task_takes_no_place() -> None:
    one = batcher(size=2)
    one.add([task(1, deadline=1.0)], 0.995)
    one.add([task(2, deadline=2.0)], 0.996)
    assert one.due(1.0) is None
    assert one.next_due() == pytest.approx(1.006)
    expired, cancelled = one.take_drops()
    assert (numbers(expired), cancelled) == ([1], 0)
    assert one.take_drops() == ([], 0)
    assert one.due(2.0) is None
    assert numbers(one.take_drops()[0]) == [2]


def test_a_late_deadline_does_not_wait_behind_ever_new_early_ones() -> None:
    one = Batcher(2, 0.0, MANY, patience=3.0)
    one.add([task(1, deadline=99.0)], 0.0)
    for number in range(2, 6):
        one.add([task(number, deadline=5.0)], 2.5)
    assert numbers(due(one, 4.0).tasks) == [1, 2]


def test_cancelled_tasks_leave_and_are_counted() -> None:
    one = batcher()
    for number in range(3):
        one.add([task(number)], 1.0 + number / 1000)
    assert numbers(one.cancel([(7, 0), (7, 9), (8, 1)])) == [0]
    assert one.cancel([]) == []
    assert one.due(1.002) is None
    assert one.next_due() == pytest.approx(1.011)
    assert one.take_drops() == ([], 1)
    assert numbers(one.cancel([(7, 1), (7, 2)])) == [1, 2]
    assert one.due(1.002) is None
    assert len(one) == one.nbytes == 0


def test_what_is_beyond_need_is_taken_back_from_the_end() -> None:
    one = batcher()
    for number in range(5):
        one.add([task(number, deadline=3.0 - number / 10)], 1.0 + number / 1000)
    assert numbers(one.take_back(3)) == [1, 0]
    assert len(one) == 3
    assert one.take_back(3) == []
    assert one.due(1.005) is None
    assert one.next_due() == pytest.approx(1.012)


def test_what_was_not_begun_waits_again_where_it_stood() -> None:
    batcher = Batcher(2, 1.0, 1 << 20)
    batcher.put_back([], 1.0)
    assert batcher.next_due() == inf
    first, second = task(1), task(2)
    batcher.add([first], 5.0)
    batcher.put_back([second], 4.0)
    assert batcher.next_due() == 4.0
    assert batcher.due(5.0) == Batch([second, first], "size", 1.0, False)


def test_a_suspect_runs_alone_and_at_once() -> None:
    one = batcher()
    one.add([task(1)], 1.0)
    one.add([task(2, flags=Flag.SOLO)], 1.001)
    batch = due(one, 1.001)
    assert (numbers(batch.tasks), batch.reason) == ([2], "size")
    assert one.due(1.001) is None


def test_single_tasks_leave_in_bundles_once_they_are_known_to_be_short() -> None:
    one = batcher(size=1)
    for number in range(99):
        one.add([task(number)], 1.0)
    batch = due(one, 1.0)
    assert (numbers(batch.tasks), batch.reason, batch.single) == ([0], "size", True)
    one.finished(1, 0.0001)
    assert one.window == 20
    assert numbers(due(one, 1.0).tasks) == list(range(1, 21))
    one.finished(20, 20 * 0.010)
    assert one.window == 1


def test_single_tasks_do_not_wait_for_a_bundle() -> None:
    one = batcher(size=1)
    one.add([task(1)], 1.0)
    due(one, 1.0)
    one.finished(1, 0.0001)
    one.add([task(2)], 1.1)
    batch = due(one, 1.1)
    assert (batch.reason, batch.single) == ("idle", True)


def test_tasks_that_must_not_be_begun_twice_are_not_bundled() -> None:
    one = Batcher(1, 0.0, MANY, repeatable=False)
    one.add([task(1)], 1.0)
    due(one, 1.0)
    one.finished(1, 0.0001)
    assert one.window == 1


# What waiting brings: whole loads, on a simulated clock.


class Ran(NamedTuple):
    start: float
    size: int
    reason: str
    waited: float


class Load:
    """Clients and one replica, second by second.

    Args:
        one: what is tested.
        forward: seconds that a batch takes, whatever its size.
        arrivals: when tasks come that wait for nobody's answer.
        clients: how many send their next task a round trip after each answer.
        threaded: arrivals are noticed while a batch runs, not only after it.
    """

    TRIP = 0.0005

    def __init__(
        self,
        one: Batcher,
        forward: float,
        *,
        arrivals: Iterable[float] = (),
        clients: int = 0,
        threaded: bool = True,
    ) -> None:
        self.one = one
        self.forward = forward
        self.threaded = threaded
        self.closed = clients > 0
        self.chance = random.Random(1)
        self.coming = [*arrivals, *(self._trip(0.0) for _ in range(clients))]
        heapq.heapify(self.coming)
        self.sent = 0
        self.ran: list[Ran] = []

    def _trip(self, now: float) -> float:
        return now + self.TRIP * (0.5 + self.chance.random())

    def run(self, end: float) -> list[Ran]:
        now = 0.0
        while now < end and (self.coming or len(self.one)):
            self._receive(now)
            batch = self.one.due(now)
            now = self._compute(batch, now) if batch else self._sleep(now)
        return self.ran

    def _receive(self, now: float) -> None:
        while self.coming and self.coming[0] <= now:
            arrived = heapq.heappop(self.coming)
            self.sent += 1
            self.one.add([task(self.sent, deadline=now + 60.0)], arrived if self.threaded else now)

    def _compute(self, batch: Batch, now: float) -> float:
        size = len(batch.tasks)
        self.ran.append(Ran(now, size, batch.reason, batch.waited))
        end = now + self.forward
        if self.threaded:
            self._receive(end)
        self.one.finished(size, self.forward)
        if self.closed:
            for _ in range(size):
                heapq.heappush(self.coming, self._trip(end))
        return end

    def _sleep(self, now: float) -> float:
        wake = self.one.next_due()
        times = [*self.coming[:1], max(wake, now)]
        return min(times)


def poisson(rate: float, end: float) -> list[float]:
    chance = random.Random(2)
    times, now = [], 0.0
    while now < end:
        now += chance.expovariate(rate)
        times.append(now)
    return times


both = pytest.mark.parametrize("threaded", [True, False], ids=["threaded", "alone"])


@both
@pytest.mark.parametrize(("forward", "seconds"), [(0.0002, 1.0), (0.005, 5.0)])
def test_one_request_at_a_time_never_waits_after_two(
    forward: float, seconds: float, threaded: bool
) -> None:
    ran = Load(batcher(32), forward, clients=1, threaded=threaded).run(seconds)
    assert len(ran) > 500
    assert [one.waited > 0.0 for one in ran] == [True, True] + [False] * (len(ran) - 2)


@both
@pytest.mark.parametrize(("forward", "seconds"), [(0.0002, 1.0), (0.005, 5.0)])
def test_sixteen_clients_are_not_waited_for_as_if_they_were_thirty_two(
    forward: float, seconds: float, threaded: bool
) -> None:
    ran = Load(batcher(32), forward, clients=16, threaded=threaded).run(seconds)
    settled = ran[20:]
    assert len(settled) > 500
    assert sum(one.size for one in settled) / len(settled) > 15.0
    assert sum(one.waited for one in settled) / len(settled) < 2 * Load.TRIP
    assert Counter(one.reason for one in settled)["wait"] < 10


@both
def test_more_clients_than_fit_fill_every_batch(threaded: bool) -> None:
    ran = Load(batcher(32), 0.001, clients=64, threaded=threaded).run(1.0)
    assert {one.size for one in ran[5:]} == {32}


@both
def test_open_arrivals_that_waiting_brings_are_waited_for(threaded: bool) -> None:
    """At 500 a second, 10 ms bring five more."""
    ran = Load(batcher(32), 0.001, arrivals=poisson(500, 10.0), threaded=threaded).run(10.0)
    sizes = sum(one.size for one in ran) / len(ran)
    assert sizes > 4.5
    assert sum(one.waited for one in ran) / len(ran) > 0.008


@both
def test_open_arrivals_that_waiting_does_not_bring_go_at_once(threaded: bool) -> None:
    ran = Load(batcher(32), 0.001, arrivals=poisson(20, 20.0), threaded=threaded).run(20.0)
    assert sum(one.waited for one in ran) / len(ran) < 0.001


def test_a_lone_client_that_gets_company_is_batched() -> None:
    one = batcher(32)
    Load(one, 0.005, clients=1).run(1.0)
    for left in one.take_back(0):
        assert left
    ran = Load(one, 0.005, clients=16).run(2.0)
    assert sum(batch.size for batch in ran[20:]) / len(ran[20:]) > 15.0


# Every task leaves exactly once.


class Life(RuleBasedStateMachine):
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0
        self.inside: dict[int, Task] = {}
        self.one = Batcher(4, 0.010, 40)

    def leave(self, gone: Iterable[Task]) -> None:
        for one in gone:
            assert self.inside.pop(one.number) is one

    def sort_out_drops(self, cancelled: int = 0) -> None:
        expired, count = self.one.take_drops()
        assert count == cancelled
        assert all(one.deadline <= self.now for one in expired)
        self.leave(expired)

    @rule(
        target=tasks,
        budget=st.floats(-0.01, 8.0),
        size=st.integers(0, 60),
        priority=st.sampled_from([0, 0, 0, 1]),
        flags=st.sampled_from([0, 0, 0, 0, Flag.SOLO, Flag.HEDGE]),
        group=st.integers(0, 2),
    )
    def add(self, budget: float, size: int, priority: int, flags: int, group: int) -> int:
        self.number += 1
        self.inside[self.number] = task(
            self.number, deadline=self.now + budget, size=size, priority=priority, flags=flags
        )
        self.inside[self.number].group = group if flags & Flag.SOLO else 0
        self.one.add([self.inside[self.number]], self.now)
        return self.number

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.010, 0.5, 4.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(numbers=st.lists(consumes(tasks), max_size=3))
    def cancel(self, numbers: list[int]) -> None:
        there = {number for number in numbers if number in self.inside}
        gone = self.one.cancel([(7, number) for number in numbers])
        assert {one.number for one in gone} == there
        self.leave(gone)
        self.sort_out_drops(len(there))

    @rule(keep=st.integers(0, 5))
    def take_back(self, keep: int) -> None:
        before = len(self.one)
        gone = self.one.take_back(keep)
        assert len(gone) == max(0, before - keep)
        self.leave(gone)

    @rule(seconds=st.floats(0.0, 1.0), begun=st.integers(1, 5))
    def run(self, seconds: float, begun: int) -> None:
        batch = self.one.due(self.now)
        self.sort_out_drops()
        assert all(one.deadline > self.now for one in self.inside.values())
        if batch is None:
            wake = self.one.next_due()
            assert (wake == inf) == (not self.inside)
            assert wake == inf or self.now < wake <= self.now + 0.010
            return
        self.leave(batch.tasks[:begun])
        self.one.put_back(batch.tasks[begun:], self.now - batch.waited)
        assert 1 <= len(batch.tasks) <= 4
        assert len(batch.tasks) == 1 or sum(one.nbytes for one in batch.tasks) <= 40
        groups = {one.group for one in batch.tasks}
        assert len(groups) == 1
        assert len(batch.tasks) == 1 or all(
            bool(one.flags & Flag.SOLO) == bool(one.group) for one in batch.tasks
        )
        self.one.finished(len(batch.tasks), seconds)
        self.now += seconds

    @rule()
    def drain(self) -> None:
        self.one.drain()

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.one) == len(self.inside)
        assert self.one.nbytes == sum(one.nbytes for one in self.inside.values())
        assert (self.one.next_due() == inf) == (not self.inside)


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=40, deadline=None)
