"""Whatever happens to a link, what was posted on it arrives once; whatever happens to a pair,
what was posted on it is accounted for.

Histories of a producer and a consumer over a memory network: pushes, answers, cuts that lose what
was under way, partitions, restarts; tasks that nobody wants any more, that come back, that cannot
be read; consumers that leave in order. Each message is encoded and decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_world import SMALL, Consumer, Producer, World, assert_quiet, session_of, small_parts

from mesh.protocol.messages import Tasks

SIZES = st.sampled_from([0, 1, 30, SMALL, SMALL + 1, 5 * SMALL, 40 * SMALL])
ROOM = 50 * SMALL  # what may be under way to a consumer
UNREADABLE = 60 * SMALL
PAUSES = st.sampled_from([0.0, 0.0005, 0.002, 0.02])
LOSSES = st.tuples(st.integers(0, 12), st.integers(0, 12))
SIMPLE = st.one_of(
    st.tuples(st.just("push"), SIZES),
    st.tuples(st.just("answer"), st.integers(1, 4)),
    st.tuples(st.just("pass"), PAUSES),
    st.tuples(st.just("cut"), LOSSES),
)
STEPS = st.one_of(
    st.tuples(st.just("push"), SIZES),
    st.tuples(st.just("push"), SIZES),
    st.tuples(st.just("answer"), st.integers(1, 4)),
    st.tuples(st.just("cancel"), st.integers(0, 6)),
    st.tuples(st.just("give back"), st.integers(1, 4)),
    st.tuples(st.just("pass"), PAUSES),
    st.tuples(st.just("cut"), LOSSES),
)
FAULTS = st.one_of(
    STEPS,
    STEPS,
    st.tuples(st.just("block"), st.sampled_from(["there", "back", "both"])),
    st.tuples(st.just("unblock"), st.none()),
    st.tuples(st.just("pass"), st.sampled_from([0.05, 0.15, 1.0, 12.0])),
    st.tuples(st.just("push"), st.just(UNREADABLE)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("leave"), st.none()),
    st.tuples(st.just("forget name"), st.none()),
    st.tuples(st.just("lose"), st.sampled_from(["producer", "consumer"])),
)


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with small_parts():
        yield


@pytest.fixture
def patient() -> Iterator[None]:
    """However often a link is cut while HELLO is on its way, the pair does not end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mesh.links.liveness.RESUME_S", 100.0)
        patch.setattr("mesh.links.liveness.PRODUCER_ABSENCE_S", 100.0)
        yield


class History:
    """A world, and what is done to it."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.producer = self.world.producer("p", 1)
        self.consumers: list[Consumer] = []
        self.join()
        self.world.run(0.05)

    @property
    def consumer(self) -> Consumer:
        return self.consumers[-1]

    def join(self) -> None:
        incarnation = 100 + len(self.consumers)
        self.consumers.append(self.world.consumer("c", incarnation, "p", pool=ROOM))

    def play(self, steps: list[tuple[str, Any]]) -> None:
        for step, argument in steps:
            self.step(step, argument)
            self.world.run(0.0)

    def step(self, step: str, argument: Any) -> None:
        getattr(self, "do_" + step.replace(" ", "_"))(argument)

    def do_push(self, size: int) -> None:
        self.world.push(self.producer, size)

    def do_answer(self, count: int) -> None:
        self.consumer.answer(count)

    def do_cancel(self, back: int) -> None:
        if self.world.number > back:
            self.producer.cancel(self.world.number - back)

    def do_give_back(self, count: int) -> None:
        self.consumer.give_back(count)

    def do_leave(self, _: None) -> None:
        """A consumer leaves in order, if its link lets it; another comes."""
        self.consumer.leave()
        self.world.run(0.3)
        if self.consumer.is_done():
            self.consumer.links.dial((), self.world.clock())
            for session in list(self.consumer.links.sessions.values()):
                self.consumer.links.part(session, self.world.clock())
            self.world.run(0.1)
        self.do_restart(None)

    def do_pass(self, seconds: float) -> None:
        self.world.run(seconds)

    def do_cut(self, lost: tuple[int, int]) -> None:
        self.world.hub.cut("p", "c", lost)

    def do_block(self, way: str) -> None:
        if way != "back":
            self.world.hub.block("p", "c")
        if way != "there":
            self.world.hub.block("c", "p")

    def do_unblock(self, _: None) -> None:
        self.heal()

    def do_restart(self, _: None) -> None:
        self.world.kill("c")
        self.join()

    def do_forget_name(self, _: None) -> None:
        """The producer's network loses its name for a link that lives on."""
        for session in self.producer.links.sessions.values():
            if session.link is not None:
                self.world.nodes["p"].network.hang_up(session.link)

    def do_lose(self, end: str) -> None:
        links = self.producer.links if end == "producer" else self.consumer.links
        for session in list(links.sessions.values()):
            links.lose(session, "a test says so")

    def heal(self) -> None:
        self.world.hub.unblock("p", "c")
        self.world.hub.unblock("c", "p")

    def end(self) -> None:
        """Let everything come to rest."""
        self.heal()
        for _ in range(60):
            self.world.run(0.5)
            self.consumer.answer(1000)
            if not self.producer.dispatcher.waiting and self._is_idle():
                break
        self.world.run(1.0)

    def _is_idle(self) -> bool:
        ends = [self.producer.links.sessions, self.consumer.links.sessions]
        return all(end and all(s.stream.is_idle() for s in end.values()) for end in ends)


@pytest.mark.usefixtures("patient")
@given(seed=st.integers(0, 2**32), steps=st.lists(STEPS, max_size=40))
def test_a_link_that_breaks_costs_time_and_nothing_else(
    seed: int, steps: list[tuple[str, Any]]
) -> None:
    history = History(seed)
    history.play(steps)
    history.end()
    producer, consumer = history.producer, history.consumer
    everything = list(range(1, history.world.number + 1))
    back = Counter(producer.given_back)
    sizes = [size for step, size in steps if step == "push"]
    large = {n for n, size in zip(everything, sizes, strict=True) if size > SMALL}
    numbers = [number for _, number in consumer.taken]
    assert not producer.lost
    assert not consumer.lost
    # Each comes once, and again as often as it was given back; unless it was cancelled in time.
    dropped = set(producer.dropped)
    for number in everything:
        times, again = numbers.count(number), back[number]
        if number in dropped:
            assert times == again
        else:
            assert max(1, again + (number not in producer.unwanted)) <= times <= again + 1
    assert not set(consumer.overtaken) & set(consumer.taken)
    if not back:  # Small ones overtake slices; among themselves each kind keeps its order.
        for kind in (large, set(everything) - large):
            assert [n for n in numbers if n in kind] == sorted(kind - dropped)
    ends = Counter(producer.answers) + Counter(dropped) + Counter(consumer.cancelled)
    unasked = {number for number in back if number in producer.unwanted}
    assert set(ends) | unasked == set(everything)
    assert max(ends.values(), default=1) == 1
    assert sorted(producer.covered) == sorted(numbers)
    for number, size in zip(everything, sizes, strict=True):
        if number in numbers:
            assert consumer.payloads[number] == bytes([number % 251]) * size
    assert_quiet(producer, consumer)


@given(seed=st.integers(0, 2**32), steps=st.lists(FAULTS, max_size=40))
def test_nothing_is_lost_unaccounted_and_credit_does_not_leak(
    seed: int, steps: list[tuple[str, Any]]
) -> None:
    history = History(seed)
    history.play(steps)
    history.end()
    producer = history.producer
    taken: list[int] = []
    back = Counter(producer.given_back)
    for consumer in history.consumers:
        # Within one session nothing arrives twice, unless it was given back.
        for (_, number), times in Counter(consumer.taken).items():
            assert times <= 1 + back[number]
        assert not set(consumer.overtaken) & set(consumer.taken)
        taken += [number for _, number in consumer.taken]
    everything = set(range(1, history.world.number + 1))
    returned = [task.number for task in producer.returned]
    assert max(Counter(returned).values(), default=1) == 1
    refused = [task.number for message in told_off(producer) for task in message.tasks]
    assert set(taken) | set(returned) | set(producer.dropped) | set(refused) == everything
    assert not set(refused) & set(taken)
    # An ack means that it did arrive: what was covered was never also returned.
    assert set(producer.covered) <= set(taken)
    assert set(producer.covered) & set(returned) <= set(back)
    for number, times in Counter(producer.covered).items():
        assert times <= 1 + back[number]
    assert_quiet(producer, history.consumer)


def told_off(producer: Producer) -> list[Tasks]:
    """What a consumer could not read."""
    return [news.message for news in producer.refused if isinstance(news.message, Tasks)]


def test_one_that_leaves_in_order_gives_everything_back() -> None:
    history = History(3)
    for _ in range(6):
        history.do_push(3 * SMALL)
    history.world.run(0.05)
    history.do_leave(None)
    history.end()
    producer = history.producer
    assert [lost.orderly for lost in producer.lost] == [True]
    assert producer.returned == []
    assert sorted(producer.given_back) == [1, 2, 3, 4, 5, 6]
    assert sorted(producer.answers) == [1, 2, 3, 4, 5, 6]


def test_what_cannot_be_read_fails_alone() -> None:
    history = History(4)
    for size in 5, UNREADABLE, 7, 40 * SMALL:
        history.do_push(size)
    history.end()
    assert [task.number for message in told_off(history.producer) for task in message.tasks] == [2]
    assert sorted(history.producer.answers) == [1, 3, 4]
    assert_quiet(history.producer, history.consumer)


@pytest.mark.usefixtures("patient")
@given(seed=st.integers(0, 2**32), steps=st.lists(SIMPLE, max_size=15))
def test_two_consumers_take_each_task_once(seed: int, steps: list[tuple[str, Any]]) -> None:
    history = History(seed)
    other = history.world.consumer("d", 50, "p")
    history.world.run(0.05)
    for step, argument in steps:
        history.step(step, argument)
        history.world.hub.cut("p", "d")
        other.answer(1)
    for _ in range(30):
        history.world.run(0.5)
        other.answer(1000)
        history.consumer.answer(1000)
    history.world.run(0.2)
    taken = [number for _, number in history.consumer.taken + other.taken]
    assert sorted(taken) == list(range(1, history.world.number + 1))
    assert_quiet(history.producer, history.consumer)
    assert_quiet(history.producer, other)


def test_the_same_seed_gives_the_same_history() -> None:
    steps: list[tuple[str, Any]] = [
        ("push", 3000),
        ("cut", (2, 1)),
        ("push", 5),
        ("pass", 0.02),
        ("restart", None),
        ("push", 9),
    ]

    def told() -> tuple[Any, ...]:
        history = History(7)
        history.play(steps)
        history.end()
        taken = [consumer.taken for consumer in history.consumers]
        producer: Producer = history.producer
        session = session_of(producer, history.consumer)
        return taken, producer.answers, history.world.clock(), repr(session)

    assert told() == told()
