"""Tasks that wait, meeting sessions with credit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mesh_world import FACTS, HOP, a_task

from mesh.links.dispatcher import LONG_BATCH_S, MAX_TOLD, MUCH_SLOWER, TRIED_EVERY, Dispatcher
from mesh.links.session import Session
from mesh.protocol.fields import MAX_BUFFERS, PART_BYTES
from mesh.protocol.messages import Load, Meta, Role, Tasks


def a_session(peer: int, tasks: int, nbytes: int = 1 << 30, batch: int = 4) -> Session:
    session = Session(1, peer, Role.REPLICA, 0)
    session.stage = FACTS._replace(batch=batch, pool=1 << 30) if batch else None
    session.link = peer
    session.stream.granted.tasks, session.stream.granted.nbytes = tasks, nbytes
    return session


def a_dispatcher(count: int, *sessions: Session) -> Dispatcher:
    dispatcher = Dispatcher(HOP, 1)
    for session in sessions:
        dispatcher.join(session)
    for number in range(count):
        dispatcher.push(a_task(number))
    return dispatcher


def numbers(tasks: Sequence[object]) -> list[int]:
    return [task.number for task in tasks]  # type: ignore[attr-defined]


def test_without_credit_or_tasks_nothing_goes() -> None:
    assert a_dispatcher(0, a_session(2, 9)).dispatch() == []
    assert a_dispatcher(3).dispatch() == []
    dispatcher = a_dispatcher(3, a_session(2, 0))
    assert dispatcher.dispatch() == []
    assert len(dispatcher.waiting) == 3
    assert repr(dispatcher) == "<Dispatcher embed waiting 3 for 1>"


def test_an_owners_tasks_go_only_to_who_can_answer_it() -> None:
    stranger, mute, friend = (a_session(peer, 9) for peer in (2, 3, 4))
    friend.owners = mute.owners = frozenset((7, 8))
    mute.link = None
    dispatcher = Dispatcher(HOP, 1, owner=7)
    for session in (stranger, mute):
        dispatcher.join(session)
    dispatcher.push(a_task(1))
    assert not dispatcher.has_takers()
    assert dispatcher.dispatch() == []
    dispatcher.join(friend)
    assert dispatcher.has_takers()
    assert [bundle.session for bundle in dispatcher.dispatch()] == [friend]
    friend.draining = True
    assert not dispatcher.has_takers()
    assert not Dispatcher(HOP, 1).has_takers()


def test_what_waits_goes_in_one_bundle_and_is_posted() -> None:
    session = a_session(2, 9)
    dispatcher = a_dispatcher(3, session)
    ((to, tasks, nbytes),) = dispatcher.dispatch()
    assert (to, numbers(tasks), nbytes) == (session, [0, 1, 2], 3)
    assert not dispatcher.waiting
    assert (session.stream.granted.free_tasks, session.stream.granted.used_nbytes) == (6, 3)
    assert session.stream.unacked() == [Tasks(tasks)]


def says(session: Session, settled: int = 0, others: int = 0, batch_s: float = 0.0) -> Session:
    """The replica tells its load."""
    session.stream.granted.learn_load(Load(settled, others, int(batch_s * 1e6)))
    return session


def chosen(dispatcher: Dispatcher) -> list[int]:
    return [bundle.session.peer for bundle in dispatcher.dispatch()]


def test_work_goes_to_an_idle_replica_whoever_is_faster_or_has_more_credit() -> None:
    busy, idle = says(a_session(2, 99), others=1, batch_s=0.01), a_session(3, 4)
    says(idle, batch_s=0.1)
    dispatcher = a_dispatcher(1, busy, idle)
    assert chosen(dispatcher) == [3]
    dispatcher.push(a_task(1))
    assert chosen(dispatcher) == [2]  # both are busy, and it is done first


def test_idle_replicas_share_what_waits_and_busy_ones_get_batches() -> None:
    sessions = [a_session(peer, 8) for peer in (2, 3, 4)]
    bundles = a_dispatcher(5, *sessions).dispatch()
    assert [(b.session.peer, len(b.tasks)) for b in bundles] == [(2, 2), (3, 2), (4, 1)]
    for session in sessions:
        says(session, others=1)
    bundles = a_dispatcher(5, *sessions).dispatch()
    assert [len(b.tasks) for b in bundles] == [4, 1]


def test_of_idle_ones_it_is_the_turn_of_the_one_that_had_nothing_for_longest() -> None:
    sessions = [a_session(peer, 99) for peer in (2, 3, 4)]
    dispatcher, turns = a_dispatcher(0, *sessions), []
    for number in range(6):
        dispatcher.push(a_task(number))
        turns += chosen(dispatcher)
        for session in sessions:
            says(session, settled=session.stream.granted.used_tasks)
    assert turns == [2, 3, 4, 2, 3, 4]


def test_of_idle_ones_our_homes_go_first() -> None:
    sessions = [a_session(peer, 1) for peer in (2, 3, 4, 5)]
    for session in sessions:
        session.owners = frozenset((0, 1))
    assert chosen(a_dispatcher(4, *sessions)) == [3, 5, 2, 4]


def test_an_idle_one_that_is_much_slower_is_passed_over_but_now_and_then() -> None:
    slow, fast = says(a_session(2, 999), batch_s=0.5), says(a_session(3, 999), batch_s=0.01)
    dispatcher, turns = a_dispatcher(0, slow, fast), []
    for number in range(2 * (TRIED_EVERY + 1)):
        dispatcher.push(a_task(number))
        turns += chosen(dispatcher)
        says(slow, settled=999, batch_s=0.5)
        says(fast, settled=999, batch_s=0.01)
    assert turns.count(2) == 2
    says(slow, batch_s=MUCH_SLOWER * 0.01, settled=999)
    dispatcher.push(a_task(0))
    assert chosen(dispatcher) == [2]  # not so slow


def test_differences_too_slight_to_matter_are_none() -> None:
    first, second = a_session(2, 4), a_session(3, 4)
    says(first, others=2, batch_s=0.0001)
    says(second, others=1, batch_s=0.0009)
    assert chosen(a_dispatcher(1, first, second)) == [3]


def test_while_a_replica_computes_a_long_batch_of_ours_it_gets_no_other() -> None:
    sessions = [says(a_session(peer, 8), batch_s=LONG_BATCH_S) for peer in (2, 3)]
    dispatcher = a_dispatcher(8, *sessions)
    assert chosen(dispatcher) == [2, 3]
    dispatcher.push(a_task(5))
    assert chosen(dispatcher) == []
    for number in range(8):
        dispatcher.push(a_task(number))
    assert chosen(dispatcher) == [2, 3]  # what waits is more than a batch for each of them
    assert len(dispatcher.waiting) == 1  # no more credit
    says(sessions[0], settled=4, batch_s=LONG_BATCH_S)
    sessions[0].stream.granted.tasks += 8
    assert chosen(dispatcher) == []  # it still has four of ours
    says(sessions[0], settled=7, batch_s=LONG_BATCH_S)
    assert chosen(dispatcher) == [2]


def test_behind_a_long_batch_of_the_only_replica_the_next_batch_gathers_there() -> None:
    one = says(a_session(2, 8), batch_s=LONG_BATCH_S)
    dispatcher = a_dispatcher(1, one)
    assert chosen(dispatcher) == [2]
    for number in range(4):
        dispatcher.push(a_task(number))
    assert [len(bundle.tasks) for bundle in dispatcher.dispatch()] == [4]


def test_what_was_tried_goes_behind_a_long_batch_rather_than_back() -> None:
    sessions = [says(a_session(peer, 8, batch=1), batch_s=LONG_BATCH_S) for peer in (2, 3)]
    dispatcher = a_dispatcher(1, *sessions)
    assert chosen(dispatcher) == [2]
    tried = a_task(7)
    tried.tried = (3,)
    dispatcher.push(tried)
    assert chosen(dispatcher) == [2]


def test_where_others_have_tasks_a_producer_waits_but_at_its_homes() -> None:
    homes = {1: 3, 0: 2}  # of whom which is the home
    for me, home in homes.items():
        sessions = [says(a_session(peer, 8), others=1, batch_s=LONG_BATCH_S) for peer in (2, 3)]
        for session in sessions:
            session.owners = frozenset((0, 1))
        dispatcher = Dispatcher(HOP, me)
        for session in sessions:
            dispatcher.join(session)
        dispatcher.push(a_task(1))
        assert chosen(dispatcher) == [home]
        for session in sessions:
            session.owners = frozenset(range(MAX_TOLD + 1))
        dispatcher.push(a_task(2))
        assert len(chosen(dispatcher)) == 1  # of so many producers none is told


def test_small_batches_are_shared_out() -> None:
    sessions = [a_session(peer, 100, batch=1) for peer in (2, 3, 4, 5)]
    bundles = a_dispatcher(40, *sessions).dispatch()
    assert [len(bundle.tasks) for bundle in bundles] == [10, 10, 10, 10]
    assert len({bundle.session.peer for bundle in bundles}) == 4


def test_one_of_unknown_stage_gets_one_at_a_time() -> None:
    nobody, known = a_session(2, 2, batch=0), a_session(3, 4)
    bundles = a_dispatcher(6, nobody, known).dispatch()
    assert sum(len(b.tasks) for b in bundles) == 6


def test_bytes_are_credit_too() -> None:
    session = a_session(2, 9, nbytes=10)
    dispatcher = Dispatcher(HOP, 1)
    dispatcher.join(session)
    for number, size in enumerate([4, 5, 2, 0]):
        dispatcher.push(a_task(number, size))
    assert [numbers(bundle.tasks) for bundle in dispatcher.dispatch()] == [[0, 1], [2]]
    assert session.stream.granted.free_nbytes == -1  # the last one may be larger than what is left
    session.stream.granted.nbytes += 1
    assert dispatcher.dispatch() == []
    session.stream.granted.nbytes += 1
    assert [numbers(bundle.tasks) for bundle in dispatcher.dispatch()] == [[3]]


def test_a_task_that_no_replica_ever_takes_is_set_aside() -> None:
    session = a_session(2, 9)
    assert session.stage is not None
    session.stage = session.stage._replace(pool=10)
    dispatcher = Dispatcher(HOP, 1)
    dispatcher.join(session)
    for number, size in enumerate([11, 10]):
        dispatcher.push(a_task(number, size))
    assert [numbers(bundle.tasks) for bundle in dispatcher.dispatch()] == [[1]]
    ((task, reason),) = dispatcher.unfit
    assert (task.number, reason) == (0, "it has 11 bytes, and a replica of stage embed takes 10")


def test_what_one_replica_never_takes_another_may() -> None:
    small, large = a_session(2, 9), a_session(3, 0)
    assert small.stage is not None
    small.stage = small.stage._replace(pool=1)
    dispatcher = a_dispatcher(0, small, large)
    dispatcher.push(a_task(5, 11))
    assert dispatcher.dispatch() == []
    assert dispatcher.give_one(small) == []
    assert dispatcher.unfit == []
    large.stream.granted.tasks += 1
    assert [(b.session.peer, numbers(b.tasks)) for b in dispatcher.dispatch()] == [(3, [5])]


def test_one_that_is_tried_for_itself_counts_among_those_that_take_a_task() -> None:
    alone = a_session(2, 9)
    assert alone.stage is not None
    alone.stage = alone.stage._replace(pool=10)
    dispatcher = Dispatcher(HOP, 1)
    dispatcher.push(a_task(5, 11))
    assert dispatcher.give_one(alone) == []
    assert "takes 10" in dispatcher.unfit[0][1]


def test_a_bundle_is_cut_at_its_size_but_one_task_may_be_larger() -> None:
    dispatcher = Dispatcher(HOP, 1)
    dispatcher.join(a_session(2, 9, batch=8))
    for number, size in enumerate([PART_BYTES // 2, PART_BYTES // 2, 1, 3 * PART_BYTES, 1]):
        dispatcher.push(a_task(number, size))
    assert [numbers(bundle.tasks) for bundle in dispatcher.dispatch()] == [[0, 1], [2], [3], [4]]


def test_a_task_does_not_go_back_while_another_is_free() -> None:
    dispatcher = a_dispatcher(0, a_session(2, 9), a_session(3, 1))
    tried = a_task(7)
    tried.tried = (2,)
    dispatcher.push(tried)
    ((to, _, _),) = dispatcher.dispatch()
    assert to.peer == 3
    dispatcher.push(tried)
    ((to, _, _),) = dispatcher.dispatch()  # nobody else has credit
    assert to.peer == 2


def test_who_gave_tasks_back_gets_no_other_until_it_grants_more() -> None:
    session = a_session(2, 9)
    session.stream.granted.paused = 9
    dispatcher = a_dispatcher(1, session)
    assert dispatcher.dispatch() == []
    session.stream.granted.tasks = 10
    assert len(dispatcher.dispatch()) == 1


def test_one_that_was_tried_everywhere_goes_anywhere() -> None:
    dispatcher = a_dispatcher(0, a_session(2, 9), a_session(3, 8))
    tried = a_task(7)
    tried.tried = (2, 3)
    dispatcher.push(tried)
    ((_, tasks, _),) = dispatcher.dispatch()
    assert tasks == [tried]


def test_a_tried_task_ends_the_bundle_of_the_one_it_was_tried_at() -> None:
    dispatcher = a_dispatcher(1, a_session(2, 9), a_session(3, 1))
    tried = a_task(7)
    tried.tried = (2,)
    dispatcher.push(tried)
    bundles = dispatcher.dispatch()
    assert [(b.session.peer, numbers(b.tasks)) for b in bundles] == [(2, [0]), (3, [7])]


def test_who_drains_has_no_link_or_has_left_gets_nothing() -> None:
    draining, down, left = (a_session(peer, 9) for peer in (2, 3, 4))
    dispatcher = a_dispatcher(3, draining, down, left)
    assert len(dispatcher.sessions) == 3
    draining.draining = True
    down.link = None
    dispatcher.leave(left)
    dispatcher.leave(left)
    assert dispatcher.sessions == []
    assert dispatcher.dispatch() == []


@pytest.mark.parametrize("fault", ["buffers", "header"])
def test_a_task_that_no_message_can_carry_is_set_aside(fault: str) -> None:
    dispatcher = a_dispatcher(0, a_session(2, 9))
    task = a_task(7)
    if fault == "buffers":
        task.buffers = [b"x"] * (MAX_BUFFERS + 1)
    else:
        task.meta = Meta("POST", "/", "", (("x" * 5000, "y"),))
    dispatcher.push(task)
    assert not dispatcher.waiting
    ((unfit, reason),) = dispatcher.unfit
    assert unfit is task
    assert "limit" in reason


@example([(1, 1, 1), (2, 0, 1)], [(1, set()), (0, set())])
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 60), st.integers(1, 8)), max_size=4),
    st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(2, 5))), max_size=40),
)
def test_every_task_leaves_once_and_credit_is_overdrawn_by_a_task_at_most(
    grants: list[tuple[int, int, int]], rows: list[tuple[int, set[int]]]
) -> None:
    sessions = [a_session(2 + i, *grant) for i, grant in enumerate(grants)]
    dispatcher = a_dispatcher(0, *sessions)
    for number, (size, tried) in enumerate(rows):
        task = a_task(number, size)
        task.tried = tuple(tried)
        dispatcher.push(task)
    bundles = dispatcher.dispatch()
    gone = [task.number for bundle in bundles for task in bundle.tasks]
    assert Counter(gone + numbers(list(dispatcher.waiting))) == Counter(range(len(rows)))
    for session in sessions:
        assert session.stream.granted.free_tasks >= 0
        assert session.stream.granted.free_nbytes >= min(
            0, 1 - max((size for size, _ in rows), default=1)
        )
        own = [b for b in bundles if b.session is session]
        assert session.stream.granted.used_tasks == sum(len(b.tasks) for b in own)
        assert session.stream.granted.used_nbytes == sum(b.nbytes for b in own)
        assert all(b.tasks and b.nbytes == sum(t.nbytes for t in b.tasks) for b in own)
    head = dispatcher.waiting.peek()
    if head is not None:  # nobody who could have taken it was left out
        assert not any(
            s.stream.granted.free_tasks and s.stream.granted.free_nbytes > 0 for s in sessions
        )


def test_one_task_goes_to_whom_it_is_given() -> None:
    dispatcher, session = Dispatcher(HOP, 1), a_session(2, 10)
    assert dispatcher.give_one(session) == []
    for number in 1, 2:
        dispatcher.push(a_task(number))
    ((_, tasks, nbytes),) = dispatcher.give_one(session)
    assert ([task.number for task in tasks], nbytes) == ([1], 1)
    assert len(dispatcher.waiting) == 1
    session.draining = True
    assert dispatcher.give_one(session) == []
