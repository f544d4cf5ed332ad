"""Who is begun again: after a death, a silence, a crash; and who is not."""

import pytest
from rig import ME, A, B, Rig

from gateway.requests.retries import (
    LEAST_BUDGET,
    MAX_DEAD,
    MAX_GROUP,
    NO_BUDGET,
    NOT_TWICE,
    RetryBudget,
    Suspicion,
    blame_of,
)
from mesh.protocol.messages import Death, Flag


class Retrying(Rig):
    """Two replicas of stage a, 11 and 12, and two of b, 21 and 22."""

    def __init__(self, **more):
        super().__init__({11: A, 12: A, 21: B, 22: B}, **more)

    def request(self, holder=11, at=0):
        request = self.entered()
        request.holder, request.at = holder, at
        return request

    def silence(self, peer):
        session = self.replicas.sessions[peer]
        self.retries.fell_silent(session, self.replicas.hop_of(session))

    def hear(self, peer):
        session = self.replicas.sessions[peer]
        self.retries.is_back(session, self.replicas.hop_of(session))


@pytest.fixture
def rig():
    return Retrying()


def test_a_success_pays_for_a_tenth_of_an_attempt():
    budget = RetryBudget()
    assert sum(budget.spend(1) for _ in range(1000)) == LEAST_BUDGET
    budget.earn(9)
    assert not budget.spend(1)
    budget.earn(2)
    assert budget.spend(1)
    assert not budget.spend(1)
    budget.earn(10**9)
    assert budget.spent == 0.0


def test_all_that_is_in_flight_may_be_retried_once():
    budget = RetryBudget()
    assert sum(budget.spend(20_000) for _ in range(50_000)) == 20_000
    assert not budget.spend(20_000)


def test_a_death_uses_up_an_attempt_and_a_parting_does_not(rig):
    request = rig.request()
    assert rig.retries.retry(request, 11, parted=True) == ""
    assert (request.attempt, request.deaths, request.holder) == (1, 0, 0)
    for deaths in (1, 2):
        assert rig.retries.retry(request, 11, parted=False) == ""
        assert (request.attempt, request.deaths) == (1 + deaths, deaths)
    assert rig.retries.retry(request, 11, parted=False).startswith("3 replicas were lost")


def test_what_had_left_the_first_stage_begins_in_an_attempt_of_its_own(rig):
    """Who had it there could speak of it otherwise, as if he still did."""
    request = rig.request(21, at=1)
    assert rig.retries.retry(request, 21, parted=True) == ""
    assert (request.attempt, request.deaths, request.at) == (2, 0, 0)


def test_what_must_not_run_twice_is_not_begun_again():
    rig = Retrying(repeatable=False)
    request = rig.request(21, at=1)
    assert rig.retries.retry(request, 21, parted=True) == NOT_TWICE
    rig.silence(21)
    assert list(rig.retries.hedges()) == []
    assert rig.retries.retry(rig.request(11), 11, parted=False) == ""


def test_without_a_budget_nothing_is_begun_again(rig):
    rig.retries.budget.spent = LEAST_BUDGET - 0.5
    assert rig.retries.retry(rig.request(), 11, parted=False) == NO_BUDGET
    rig.request(12)
    rig.silence(12)
    assert list(rig.retries.hedges()) == []
    rig.retries.budget.earn(5)
    assert len(list(rig.retries.hedges())) == 1


def test_what_a_silent_replica_holds_is_hedged_once_and_it_gets_nothing_new(rig):
    request, other = rig.request(11), rig.request(12)
    rig.silence(11)
    assert rig.takers(A) == [12]
    assert list(rig.retries.hedges()) == [request]
    assert (request.attempt, request.deaths, request.earlier, request.holder) == (2, 0, (11,), 0)
    assert request.tried == (11,)
    assert list(rig.retries.hedges()) == []
    assert other.attempt == 1
    rig.hear(11)
    assert rig.takers(A) == [11, 12]
    rig.hear(11)
    assert rig.retries.silent == {}


@pytest.mark.parametrize(("silent", "holder", "at"), [((11, 12), 11, 0), ((21, 22), 21, 1)])
def test_nothing_is_hedged_where_there_is_nobody_else(rig, silent, holder, at):
    request = rig.request(holder, at)
    for peer in silent:
        rig.silence(peer)
    assert list(rig.retries.hedges()) == []
    rig.hear(silent[1])
    assert list(rig.retries.hedges()) == [request]


def crash(incarnation, *numbers, owner=ME):
    return Death(incarnation, "a", 11, 0, [(owner, number) for number in numbers])


def test_suspects_run_alone_and_the_one_that_crashes_alone_is_not_tried_again(rig):
    one, two = rig.request(), rig.request()
    assert rig.retries.suspect(crash(31, one.number, two.number)) == []
    assert one.flags & two.flags & Flag.SOLO
    assert rig.retries.suspect(crash(32, one.number, two.number)) == []  # not alone: it came late
    assert rig.retries.suspect(crash(33, one.number)) == [one]
    assert rig.retries.suspect(crash(33, two.number)) == []  # the same death
    assert rig.retries.suspect(crash(34, two.number, owner=2)) == []
    assert rig.retries.suspect(crash(35, 99)) == []


def test_suspects_are_halved_until_the_one_at_fault_is_alone(rig):
    suspects = [rig.request() for _ in range(9)]
    culprit, peer = suspects[0], 31
    named = suspects
    while len(named) > 1:
        before = len(named)
        assert rig.retries.suspect(crash(peer, *[one.number for one in named])) == []
        assert all(one.flags & Flag.SOLO for one in named)
        named = [one for one in suspects if one.group == culprit.group]
        assert len(named) <= -(-before // 2)
        peer += 1
    assert peer == 35  # 9, 5, 3 and 2 of them
    assert rig.retries.suspect(crash(peer, culprit.number)) == [culprit]
    assert len({one.group for one in suspects}) == 5


def test_only_the_first_of_ever_smaller_suspicions_uses_up_an_attempt(rig):
    one, two, three = (rig.request() for _ in range(3))
    for peer, named in (31, (one, two, three)), (32, (one, two)), (33, (one, two)):
        notice = crash(peer, *[request.number for request in named])
        rig.retries.suspect(notice)
        for request in named:
            rig.retries.retry(request, peer, parted=False, blame=blame_of(request, notice))
    assert (one.deaths, two.deaths, three.deaths) == (2, 2, 1)


def test_groups_of_suspects_have_numbers_that_fit_the_wire(rig):
    rig.retries._groups = MAX_GROUP - 1
    one, two = rig.request(), rig.request()
    rig.retries.suspect(crash(31, one.number, two.number))
    assert (one.group, two.group) == (MAX_GROUP, 1)


def test_the_first_crash_of_a_request_alone_makes_it_a_suspect_only(rig):
    one = rig.request()
    assert rig.retries.suspect(crash(31, one.number)) == []
    assert rig.retries.suspect(crash(32, one.number)) == [one]


def test_the_dead_that_are_remembered_are_few(rig):
    for incarnation in range(2 * MAX_DEAD):
        rig.retries.suspect(crash(incarnation))
    assert len(rig.retries._buried) == MAX_DEAD


def test_who_died_over_others_is_no_attempt_of_those_that_waited_there(rig):
    request = rig.request()
    for attempt in range(2, 9):
        assert rig.retries.retry(request, 11, parted=False, blame=Suspicion.NONE) == ""
        assert (request.attempt, request.deaths, request.unexplained) == (attempt, 0, 0)


def test_deaths_that_nothing_explains_have_a_bound_of_their_own(rig):
    request = rig.request()
    for deaths in range(1, 9):
        assert rig.retries.retry(request, 11, parted=False, blame=Suspicion.UNEXPLAINED) == ""
        assert (request.attempt, request.deaths, request.unexplained) == (1 + deaths, 0, deaths)
    assert rig.retries.retry(request, 11, parted=False, blame=Suspicion.NONE) == ""
    assert rig.retries.retry(request, 11, parted=True) == ""
    said = rig.retries.retry(request, 11, parted=False, blame=Suspicion.UNEXPLAINED)
    assert said == "9 replicas died while they held the request and computed nothing"


def test_an_death_notice_says_who_may_have_caused_a_death(rig):
    one, two = rig.request(), rig.request()
    assert blame_of(one, None) is Suspicion.POSSIBLE
    assert blame_of(one, crash(11, one.number)) is Suspicion.POSSIBLE
    assert blame_of(two, crash(11, one.number)) is Suspicion.NONE
    assert blame_of(one, crash(11)) is Suspicion.UNEXPLAINED
