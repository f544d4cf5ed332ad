"""Who may enter: counts of requests and bytes, and how fast they are known to leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.requests.admission import Admission, Sizes
from mesh.protocol.messages import BatchStats

KIB = 1024


def entered(admission: Admission, charge: int, now: float = 0.0) -> bool:
    """Let a request in if there is room."""
    if admission.objection(charge, now) is not None:
        return False
    admission.enter(charge)
    return True


def filled(inside: int, capacity: int = 10_000) -> Admission:
    admission = Admission(capacity, 1 << 30)
    for _ in range(inside):
        admission.enter(1)
    return admission


def serve(admission: Admission, number: int, now: float, crowded: bool = True) -> None:
    """Requests leave together, and as many enter."""
    for _ in range(number):
        admission.leave(1, served=True)
        admission.enter(1)
    admission.learn(crowded, now)


# --- room -----------------------------------------------------------------------------------------


def test_requests_enter_until_the_capacity_is_reached() -> None:
    admission = Admission(capacity=2, capacity_bytes=1000)
    assert entered(admission, 1)
    assert entered(admission, 1)
    refusal = admission.objection(1, 0.0)
    assert refusal is not None
    assert (refusal.code, refusal.message) == ("overloaded", "too many requests are in flight")
    admission.leave(1, served=True)
    assert entered(admission, 1)


def test_bytes_count_as_well() -> None:
    admission = Admission(capacity=10, capacity_bytes=100)
    assert entered(admission, 60)
    refusal = admission.objection(60, 0.0)
    assert refusal is not None
    assert "bytes" in refusal.message
    assert entered(admission, 40)


def test_a_request_larger_than_all_room_enters_alone() -> None:
    admission = Admission(capacity=10, capacity_bytes=100)
    assert entered(admission, 500)
    assert not entered(admission, 1)
    admission.leave(500, served=True)
    assert entered(admission, 1)
    assert not entered(admission, 500)


@given(st.lists(st.one_of(st.integers(0, 50), st.booleans()), max_size=60))
def test_what_is_inside_is_what_entered_and_did_not_leave(steps: list[int | bool]) -> None:
    admission = Admission(capacity=5, capacity_bytes=100)
    inside: list[int] = []
    for moment, step in enumerate(steps):
        if isinstance(step, bool):
            if inside:
                admission.leave(inside.pop(), served=step)
                admission.learn(step, float(moment))
        elif entered(admission, step, float(moment)):
            inside.append(step)
        assert (admission.inside, admission.nbytes) == (len(inside), sum(inside))
        assert len(inside) <= 5
        assert sum(inside) <= 100
        assert 1 <= admission.retry_after() <= 60


# --- how long it takes ----------------------------------------------------------------------------


def test_without_knowledge_nobody_is_too_late_and_the_wait_is_a_second() -> None:
    admission = filled(1000)
    assert (admission.rate, admission.wait(), admission.retry_after()) == (0.0, 0.0, 1)
    assert admission.lateness(budget=0.001) is None


def test_the_wait_is_what_is_inside_by_the_rate_at_which_it_leaves() -> None:
    admission = filled(500)
    for tick in range(20):
        serve(admission, 5, tick * 0.1)
    assert admission.rate == pytest.approx(50)
    assert admission.wait() == pytest.approx(10)
    assert admission.wait(overtaken=400) == pytest.approx(2)
    assert admission.wait(overtaken=600) == 0.0
    assert admission.retry_after() == 10


@pytest.mark.parametrize("spacing", [0.01, 0.3, 0.7, 2.0])
def test_requests_that_leave_many_at_a_time_are_counted_from_one_time_to_another(
    spacing: float,
) -> None:
    admission = filled(500)
    for tick in range(int(8 / spacing)):
        serve(admission, 100, tick * spacing)
    assert admission.rate == pytest.approx(100 / spacing, rel=0.01)


def test_the_wait_has_bounds() -> None:
    slow, fast = filled(1000), filled(10)
    for tick in range(10):
        serve(slow, 1, tick * 1.0)
        serve(fast, 1000, tick * 1.0)
    assert slow.retry_after() == 60
    assert fast.retry_after() == 1


def test_the_rate_follows_a_change() -> None:
    admission = filled(500)
    for tick in range(20):
        serve(admission, 100, tick * 0.5)
    for tick in range(20, 30):
        serve(admission, 5, tick * 0.5)
    assert admission.rate == pytest.approx(10, rel=0.05)


def test_who_needs_more_than_there_is_of_its_budget_is_too_late() -> None:
    admission = filled(100)
    for tick in range(20):
        serve(admission, 5, tick * 0.1)
    assert admission.lateness(budget=2.6) is None  # it takes 2 s
    refusal = admission.lateness(budget=2.4)
    assert refusal is not None
    assert (refusal.code, refusal.retry_after) == ("cannot_meet_deadline", 2)
    assert refusal.message == "the request would take about 2 s, and has 2.4 s"
    assert admission.lateness(budget=2.4, overtaken=50) is None


def test_while_there_is_little_to_do_nothing_is_learnt() -> None:
    admission = filled(1)
    for tick in range(20):
        serve(admission, 1, tick * 1.0, crowded=False)
    assert admission.rate == 0.0


def test_being_full_is_much_to_do_although_nobody_waits_for_credit() -> None:
    admission = filled(4, capacity=4)
    for tick in range(40):
        assert not entered(admission, 1, tick * 0.1)
        serve(admission, 2, tick * 0.1, crowded=False)
    assert admission.rate == pytest.approx(20)


def test_what_was_not_served_says_nothing_of_the_rate() -> None:
    admission = filled(100)
    for tick in range(20):
        admission.leave(1, served=False)
        admission.learn(True, tick * 0.1)
    assert (admission.inside, admission.rate) == (80, 0.0)


def test_a_burst_that_is_soon_over_shows_that_more_can_be_done() -> None:
    admission = filled(100)
    for tick in range(10):
        serve(admission, 1, tick * 1.0)
    assert admission.rate == pytest.approx(1)
    serve(admission, 10, 10.1)
    serve(admission, 20, 10.3, crowded=False)
    assert admission.rate == pytest.approx(100)
    serve(admission, 1, 20.0)
    serve(admission, 1, 20.2, crowded=False)  # it is not slower than it was
    assert admission.rate == pytest.approx(100)


def test_a_moment_proves_little() -> None:
    admission = filled(100)
    serve(admission, 1, 10.0)
    serve(admission, 50, 10.001, crowded=False)
    assert admission.rate == pytest.approx(500)


# --- sizes ----------------------------------------------------------------------------------------


def batch(stage: str, size: int, nbytes: int) -> BatchStats:
    return BatchStats(stage, size, 0, 0, "idle", nbytes=nbytes)


def test_the_largest_output_along_the_path_counts() -> None:
    sizes = Sizes()
    assert sizes.largest(["a", "b"]) == 0
    sizes.learn(11, [batch("a", 4, 4 * KIB), batch("b", 2, 20 * KIB), batch("c", 1, 90 * KIB)])
    assert sizes.largest(["a", "b"]) == 10 * KIB
    sizes.learn(11, [batch("b", 3, 5 * KIB)])
    assert sizes.largest(["a", "b"]) == 5 * KIB


def test_a_batch_of_nothing_has_no_size() -> None:
    sizes = Sizes()
    sizes.learn(11, [batch("a", 0, 0)])
    assert sizes.largest(["a"]) == 0


def test_what_was_long_ago_is_forgotten() -> None:
    sizes = Sizes()
    sizes.learn(11, [batch("a", 10, 10 << 20)] * 100)
    assert sizes.largest(["a"]) == 1 << 20
    sizes.learn(11, [batch("a", 10, 10 * KIB)] * 1000)
    assert sizes.largest(["a"]) < 2 * KIB


def test_one_replica_alone_does_not_move_what_others_say() -> None:
    sizes = Sizes()
    for replica in (11, 12):
        sizes.learn(replica, [batch("a", 1, 10 * KIB)] * replica)
    for liar in (1 << 36, 0):
        sizes.learn(13, [batch("a", 1, liar)])
        assert sizes.largest(["a"]) == 10 * KIB


def test_of_two_the_one_that_tells_less_counts() -> None:
    sizes = Sizes()
    sizes.learn(11, [batch("a", 1, 1 << 36)])
    assert sizes.largest(["a"]) == 1 << 36
    sizes.learn(12, [batch("a", 1, KIB)])
    assert sizes.largest(["a"]) == KIB


def test_what_a_replica_told_counts_no_longer_than_it_is_there() -> None:
    sizes = Sizes()
    sizes.learn(11, [batch("a", 1, KIB)])
    sizes.learn(12, [batch("a", 1, 8 * KIB)])
    sizes.forget(11)
    sizes.forget(99)
    assert sizes.largest(["a"]) == 8 * KIB
    sizes.forget(12)  # all of them restart: it is known still what they make
    assert sizes.largest(["a"]) == 8 * KIB
    sizes.learn(13, [batch("a", 1, 2 * KIB)])
    assert sizes.largest(["a"]) == 2 * KIB
    sizes.learn(14, [batch("b", 1, KIB)])
    sizes.forget(14)  # before anybody asked
    assert sizes.largest(["b"]) == 0


# --- bodies that are still to come ----------------------------------------------------------------


def reason(admission: Admission, charge: int, seated: bool) -> str:
    refusal = admission.reservation_objection(charge, seated, 0.0)
    return "" if refusal is None else refusal.message


def test_unfinished_bodies_have_half_of_all_bytes() -> None:
    admission = Admission(capacity=4, capacity_bytes=100)
    assert reason(admission, 1000, seated=False) == ""  # alone
    admission.reserve(30, seated=False)
    assert reason(admission, 20, seated=False) == ""
    assert (
        reason(admission, 21, seated=False) == "too many bytes of unfinished requests are in flight"
    )
    assert admission.objection(70, 0.0) is None
    admission.let_go(30, seated=False)
    assert (admission.unfinished, admission.unfinished_bytes, admission.nbytes) == (0, 0, 0)


def test_large_unfinished_bodies_have_half_of_all_places_and_small_ones_none() -> None:
    admission = Admission(capacity=4, capacity_bytes=1000)
    for _ in range(2):
        assert reason(admission, 1, seated=True) == ""
        admission.reserve(1, seated=True)
    assert reason(admission, 1, seated=True) == "too many unfinished requests are in flight"
    admission.reserve(1, seated=False)
    assert (admission.inside, admission.reserved, admission.unfinished) == (2, 2, 3)
    admission.enter(1)
    admission.enter(1)
    assert reason(admission, 1, seated=False) == "too many requests are in flight"
    admission.let_go(1, seated=True)
    assert (admission.inside, admission.reserved) == (3, 1)


def test_a_route_with_one_place_takes_a_large_body() -> None:
    admission = Admission(capacity=1, capacity_bytes=1000)
    assert reason(admission, 1, seated=True) == ""


def test_what_clients_have_not_taken_leaves_less_room() -> None:
    admission = Admission(capacity=4, capacity_bytes=100)
    admission.enter(10)
    admission.grow(80)
    assert admission.objection(11, 0.0) is not None
    admission.grow(-80)
    assert admission.objection(11, 0.0) is None


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(0, 5), st.integers(0, 30))
def test_to_admit_is_to_enter_what_nothing_speaks_against(
    charges: list[int], capacity: int, capacity_bytes: int
) -> None:
    both, once = Admission(capacity, capacity_bytes), Admission(capacity, capacity_bytes)
    for charge in charges:
        admitted = both.objection(charge, 0.0) is None
        if admitted:
            both.enter(charge)
        assert once.admit(charge) is admitted
        assert (once.inside, once.nbytes) == (both.inside, both.nbytes)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 0.4), st.integers(1, 9), st.booleans(), st.booleans()), max_size=60
    )
)
def test_who_calls_learn_only_where_there_is_something_to_learn_learns_the_same(
    turns: list[tuple[float, int, bool, bool]],
) -> None:
    always, sparing = filled(50, capacity=50), filled(50, capacity=50)
    now = 0.0
    for pause, number, crowded, refuses in turns:
        now += pause
        for admission in (always, sparing):
            if refuses:
                assert admission.objection(1, now) is not None
            for _ in range(number):
                admission.leave(1, served=True)
                admission.enter(1)
        always.learn(crowded, now)
        if crowded or sparing.is_measuring:
            sparing.learn(crowded, now)
        assert sparing.rate == always.rate
