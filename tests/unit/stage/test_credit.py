"""Credit: an idle producer has a batch, a busy one takes what is free, nobody starves."""

from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.links.session import Session
from mesh.protocol.messages import Load, Role, Task
from stage.credit import (
    DELAY_S,
    MAX_STANDING,
    NEVER,
    NOTHING,
    CreditRenewal,
    HeldByProducer,
    ProducerHoldings,
    grant,
    is_low,
)

POOL = 1 << 20


def producer(number=1, taken=0, allowed=0):
    session = Session(9, number, Role.GATEWAY, POOL, now=0.0)
    session.stream.allowed.used_tasks, session.stream.allowed.tasks = taken, allowed
    return session


def task(source, nbytes=10):
    made = Task(1, 1, (("a", ""),), 0, 1, 9.0, [b"x" * nbytes], nbytes)
    made.source = source
    return made


def holdings(**counts):
    held = ProducerHoldings()
    for name, count in counts.items():
        held.add(int(name[1:]), [task(int(name[1:])) for _ in range(count)])
    return held


def free(session):
    return session.stream.allowed.tasks - session.stream.allowed.used_tasks


def test_a_producer_is_told_what_was_done_for_it_and_what_others_have_here():
    held, session = holdings(_1=3, _2=4), producer(1, taken=5)
    held.batch_us = 7
    assert held.load_for(session) == Load(2, 4, 7)
    assert held.load_for(producer(3)) == Load(0, 7, 7)
    assert held.load_for(producer(1, taken=2)) == Load(0, 4, 7)  # it began a session anew


def test_holdings_count_and_forget():
    held = ProducerHoldings()
    first, second = task(1, 10), task(1, 20)
    held.add(1, [first, second])
    assert (held.of(1), held.of(2), held.tasks, len(held)) == (HeldByProducer(2, 30), NOTHING, 2, 1)
    output = task(0, 5)
    held.swap(first, output)
    assert (output.source, held.of(1)) == (1, HeldByProducer(2, 25))
    held.release([output, second])
    assert (held.of(1), held.tasks, len(held)) == (NOTHING, 0, 0)


@pytest.mark.parametrize("count", [1, 2, MAX_STANDING])
def test_each_of_a_few_new_producers_gets_a_standing_batch(count):
    producers = [producer(n) for n in range(count)]
    assert grant(producers, ProducerHoldings(), 8, POOL, 0.0) == producers
    assert {free(session) for session in producers} == {8}
    assert {session.stream.allowed.nbytes for session in producers} == {POOL // count}
    assert grant(producers, ProducerHoldings(), 8, POOL, 0.0) == []


@given(st.integers(1, 300), st.integers(1, 64))
def test_the_standing_credit_of_all_producers_together_is_bounded(count, window):
    producers = [producer(n) for n in range(count)]
    made = CreditRenewal(ProducerHoldings(), POOL)
    made.renew(producers, window, 0.0)
    assert all(free(session) >= 1 for session in producers)
    assert sum(map(free, producers)) <= MAX_STANDING * window + count
    assert not made.is_due(window, 0.0, computing=True)


@given(st.integers(1, 100), st.integers(1, 64))
def test_standing_credit_grows_slowly_while_producers_join_one_by_one(count, window):
    producers = []
    for number in range(count):
        producers.append(producer(number))
        grant(producers, ProducerHoldings(), window, POOL, 0.0)
    bound = MAX_STANDING * window * (1 + log(max(1, count / MAX_STANDING))) + count + window
    assert sum(map(free, producers)) <= bound


def test_a_lone_producer_has_two_batches_less_what_is_held():
    one = producer(1, taken=16, allowed=16)
    grant([one], holdings(_1=10), 8, POOL, 0.0)
    assert free(one) == 6


def test_what_is_free_is_shared_by_those_that_used_up_theirs():
    busy, other, idle = producer(1, 20, 20), producer(2, 10, 10), producer(3, 4, 12)
    grant([busy, other, idle], holdings(_1=8, _2=2), 8, POOL, 0.0)
    assert (free(busy), free(other), free(idle)) == (3, 3, 8)


def test_one_that_holds_nothing_gets_one_even_while_all_is_full():
    busy, starved = producer(1, 20, 20), producer(2, 10, 10)
    grant([busy, starved], holdings(_1=16), 8, POOL, 0.0)
    assert (free(busy), free(starved)) == (0, 1)


def test_one_that_was_given_tasks_back_gets_one_more_in_any_case():
    full, credit_paused, used = producer(1, 10, 90), producer(2, 10, 90), producer(3, 90, 90)
    grant([full, credit_paused, used], ProducerHoldings(), 8, POOL, 0.0, credit_paused={2, 3})
    assert (
        full.stream.allowed.tasks,
        credit_paused.stream.allowed.tasks,
        used.stream.allowed.tasks,
    ) == (90, 91, 106)


def test_when_all_is_quiet_everybody_has_a_batch_again():
    producers = [producer(n, taken=50, allowed=51) for n in range(MAX_STANDING)]
    grant(producers, ProducerHoldings(), 8, POOL, 0.0)
    assert {free(session) for session in producers} == {8}


def test_bytes_are_an_equal_slice_of_the_pool():
    one, two = producer(1), producer(2)
    held = ProducerHoldings()
    held.add(1, [task(1, 1000)])
    one.stream.allowed.used_nbytes = 5000
    grant([one, two], held, 8, POOL, 0.0)
    assert one.stream.allowed.nbytes == 5000 + POOL // 2 - 1000
    assert two.stream.allowed.nbytes == POOL // 2


def test_a_window_that_shrinks_takes_nothing_back():
    one = producer(1)
    grant([one], ProducerHoldings(), 30, POOL, 0.0)
    assert free(one) == 30
    one.stream.allowed.used_tasks = 20
    grant([one], holdings(_1=20), 1, POOL, 0.0)
    assert one.stream.allowed.tasks == 30
    one.stream.allowed.used_tasks = 30
    grant([one], holdings(_1=30), 1, POOL, 0.0)
    assert free(one) == 0
    grant([one], holdings(_1=1), 1, POOL, 0.0)
    assert free(one) == 1


def test_no_producers_no_grants():
    assert grant([], ProducerHoldings(), 8, POOL, 0.0) == []


class Exchange:
    """Producers that send what they may, and a replica that finishes what it holds."""

    def __init__(self, producers):
        self.producers = [producer(n) for n in range(producers)]
        self.held = ProducerHoldings()
        self.inside = []

    def renew(self, window):
        before = [(s.stream.allowed.tasks, s.stream.allowed.nbytes) for s in self.producers]
        grant(self.producers, self.held, window, POOL, 0.0)
        after = [(s.stream.allowed.tasks, s.stream.allowed.nbytes) for s in self.producers]
        assert all(
            new >= old
            for olds, news in zip(before, after, strict=True)
            for old, new in zip(olds, news, strict=True)
        )

    def send(self, which, count):
        session = self.producers[which % len(self.producers)]
        tasks = [task(session.peer) for _ in range(min(count, free(session)))]
        session.stream.allowed.used_tasks += len(tasks)
        session.stream.allowed.used_nbytes += 10 * len(tasks)
        self.held.add(session.peer, tasks)
        self.inside += tasks

    def finish(self, count):
        self.held.release(self.inside[:count])
        del self.inside[:count]


steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "finish"]),
        st.integers(0, 5),
        st.integers(1, 40),
        st.sampled_from([1, 4, 8, 32]),
    ),
    max_size=50,
)


@given(st.integers(1, 6), steps)
def test_credit_never_starves_anybody_and_is_whole_again_when_all_is_quiet(count, history):
    rig = Exchange(count)
    rig.renew(8)
    for name, which, number, window in history:
        if name == "send":
            rig.send(which, number)
        else:
            rig.finish(number)
        rig.renew(window)
        for session in rig.producers:
            assert free(session) >= 0
            assert rig.held.of(session.peer).tasks or free(session)
    rig.finish(len(rig.inside))
    rig.renew(8)
    assert len(rig.held) == 0
    assert all(free(session) >= 8 for session in rig.producers)


def test_credit_is_low_when_half_of_it_is_used_up():
    session = Session(1, 2, Role.GATEWAY, 1000, 0.0)
    session.stream.allow(8, 1000, 0.0)
    assert not is_low([session], 4, 500)
    session.stream.allowed.used_tasks = 4
    assert is_low([session], 4, 500)
    session.stream.allowed.used_tasks, session.stream.allowed.used_nbytes = 0, 500
    assert is_low([session], 4, 500)
    assert not is_low([], 4, 500)


def test_a_producer_that_does_not_use_what_it_has_takes_nothing_from_the_others():
    idle, *busy = [producer(n, taken=4, allowed=4) for n in range(5)]
    idle.stream.allowed.tasks = 8
    grant([idle, *busy], holdings(_1=2, _2=2, _3=2, _4=2), 8, POOL, 0.0)
    assert [free(session) for session in (idle, *busy)] == [4, 2, 2, 2, 2]


def test_what_does_not_divide_is_not_kept_back():
    busy = [producer(n, taken=4, allowed=4) for n in range(3)]
    grant(busy, holdings(_0=4, _1=2, _2=2), 8, POOL, 0.0)
    assert [free(session) for session in busy] == [3, 3, 3]


def test_a_silent_producer_is_granted_nothing_until_it_is_heard_again():
    silent, other = producer(1, taken=8, allowed=8), producer(2, taken=8, allowed=8)
    silent.vitals.silent = True
    assert grant([silent, other], ProducerHoldings(), 4, POOL, 0.0) == [other]
    assert not is_low([silent], 2, POOL // 2)
    assert (free(silent), silent.stream.allowed.nbytes, other.stream.allowed.nbytes) == (
        0,
        0,
        POOL // 2,
    )
    silent.vitals.silent = False
    assert is_low([silent], 2, POOL // 2)
    assert silent in grant([silent, other], ProducerHoldings(), 4, POOL, 0.0)


def test_an_output_under_way_is_no_work_but_its_bytes_are_here():
    held = ProducerHoldings()
    first, second = task(1, 10), task(1, 20)
    held.add(1, [first, second])
    held.set_out([first, second])
    assert (held.of(1), held.tasks, len(held)) == (HeldByProducer(0, 30), 0, 1)
    held.come_back(second)
    assert (held.of(1), held.tasks) == (HeldByProducer(1, 30), 1)
    held.release([first])
    assert (held.of(1), held.tasks) == (HeldByProducer(1, 20), 1)
    held.release([second])
    assert (held.of(1), held.tasks, len(held)) == (NOTHING, 0, 0)


def test_a_producer_that_does_not_know_of_others_tasks_is_to_be_told():
    held, one = holdings(_1=1), producer(1)
    assert not held.is_news(1)
    assert held.is_news(2)
    held.add(2, [task(2)])
    assert held.is_news(1)
    held.load_for(one)
    assert not held.is_news(1)


def renewal(session):
    """A renewal that is not due: the producer has just been granted its standing credit."""
    made = CreditRenewal(ProducerHoldings(), POOL)
    made.request_now()
    assert made.is_due(8, 0.0, computing=False)
    assert made.renew([session], 8, 0.0) == [session]
    assert (made.owed, made.due) == (False, NEVER)
    return made


def test_a_renewal_waits_while_producers_have_enough():
    one = producer()
    made = renewal(one)
    one.stream.allowed.used_tasks = 3
    made.used(one)
    assert not made.is_due(8, 1.0, computing=True)
    made.used(one)
    assert (made.owed, made.due) == (False, 1.0 + DELAY_S)
    assert made.is_due(8, 1.0 + DELAY_S, computing=True)


def test_a_producer_that_used_half_of_its_credit_does_not_wait():
    one = producer()
    made = renewal(one)
    one.stream.allowed.used_tasks = one.stream.allowed.tasks - 4
    made.used(one)
    assert made.is_due(8, 1.0, computing=True)


def test_of_many_producers_one_that_used_little_of_its_small_credit_waits():
    producers = [producer(n) for n in range(32)]
    made = CreditRenewal(ProducerHoldings(), POOL)
    made.renew(producers, 32, 0.0)
    assert free(producers[0]) == 8
    producers[0].stream.allowed.used_tasks = 1
    made.used(producers[0])
    assert not made.is_due(32, 1.0, computing=True)


def test_a_producer_that_used_half_of_its_bytes_does_not_wait():
    one = producer()
    made = renewal(one)
    one.stream.allowed.used_nbytes = POOL // 2
    made.used(one)
    assert made.is_due(8, 1.0, computing=True)


def test_larger_batches_do_not_wait_for_credit():
    made = renewal(producer())
    assert made.is_due(9, 1.0, computing=True)


def test_who_got_tasks_back_is_granted_more_when_the_forward_has_ended():
    one = producer()
    made = renewal(one)
    made.pause([one.peer])
    made.request_now()
    assert not made.is_due(8, 1.0, computing=True)
    assert made.due == NEVER
    assert made.is_due(8, 1.0, computing=False)
    assert made.renew([one], 8, 1.0) == [one]
    assert not made.is_due(8, 1.0, computing=False)


def test_a_draining_replica_has_no_renewal_due():
    one = producer()
    made = renewal(one)
    made.used(one)
    made.is_due(8, 1.0, computing=True)
    made.stop()
    assert made.due == NEVER
