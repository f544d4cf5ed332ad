"""What a replica may say of which request: what counts, what is dropped, what is a breach."""

import pytest

from gateway.requests.in_flight import Request
from gateway.requests.ownership import KEPT_HOLDERS, Ownership
from mesh.links.session import Session
from mesh.protocol.messages import HandoffNotice, Outcome, OutcomeKind, Role, StageFacts
from mesh.protocol.permissions import Breach

ME = 1
A, B, C = ("a", "r"), ("b", "r"), ("c", "r")
ONE, TWO = (A,), (A, B, C)
SINGLE = (C,)  # a route of its own through a stage that others are fed by, too
ROUTES = {"/one": ONE, "/two": TWO, "/single": SINGLE, "/other": (("d", "r"),)}
DROPPED, COUNTS = False, True
BREACH = "breach"


def replica(peer, stage, revision="r"):
    session = Session(ME, peer, Role.REPLICA, 1 << 20)
    session.stage = StageFacts(stage, revision, 4, 3.0, 1 << 20)
    return session


def request(hops=ONE, holder=11, at=0, attempt=2, **more):
    return Request(ME, 5, hops, 0, attempt, 9.0, [b"x"], 1, holder=holder, at=at, **more)


def verdict(judge, *arguments):
    try:
        return judge(*arguments)
    except Breach:
        return BREACH


@pytest.fixture
def ownership():
    return Ownership(ROUTES)


FULL = tuple(range(100, 100 + KEPT_HOLDERS))
R, F = OutcomeKind.RESULT, OutcomeKind.FAILURE


@pytest.mark.parametrize(
    ("made", "kind", "hop", "attempt", "speaker", "expected"),
    [
        # One stage, which only gateways feed: all who ever held it are known.
        (request(), R, 0, 2, (11, "a"), COUNTS),
        (request(tried=(12,)), R, 0, 1, (12, "a"), COUNTS),
        (request(earlier=(12,)), R, 0, 1, (12, "a"), COUNTS),
        (request(), R, 0, 2, (13, "a"), BREACH),
        (request(holder=0), R, 0, 2, (13, "a"), BREACH),
        (request(tried=FULL), R, 0, 1, (13, "a"), DROPPED),  # it may have been one of many
        (request(), R, 0, 2, (13, "d"), BREACH),
        (request(), R, 0, 3, (11, "a"), DROPPED),
        (request(), R, 0, 3, (13, "a"), BREACH),  # an attempt that was never begun
        (request(), R, 7, 2, (13, "a"), BREACH),
        (request(), R, 0, 2, (13, "c"), DROPPED),  # a rogue may have sent it that task
        (request(), F, 0, 2, (11, "a"), COUNTS),
        (request(tried=(12,)), F, 0, 2, (12, "a"), DROPPED),
        (request(), F, 0, 2, (13, "a"), BREACH),
        (request(hops=SINGLE), R, 0, 2, (11, "c"), COUNTS),
        (request(hops=SINGLE), R, 0, 2, (13, "c"), DROPPED),
        # Three stages: outputs of the first attempt go on before anybody tells us.
        (request(TWO, attempt=1), R, 2, 1, (31, "c"), COUNTS),
        (request(TWO), R, 2, 1, (31, "c"), COUNTS),
        # Those of later attempts go by the gateway, which knows who has them.
        (request(TWO), R, 2, 2, (31, "c"), DROPPED),
        (request(TWO, 31, 2), R, 2, 2, (31, "c"), COUNTS),
        (request(TWO, 31, 2), R, 2, 2, (32, "c"), DROPPED),
        (request(TWO, attempt=3), R, 2, 2, (31, "c"), DROPPED),
        (request(TWO, attempt=3, tried=(31,)), R, 2, 2, (31, "c"), COUNTS),
        (request(TWO, attempt=3, earlier=(31,)), R, 2, 2, (31, "c"), COUNTS),
        (request(TWO, attempt=11, tried=FULL), R, 2, 2, (31, "c"), COUNTS),  # one of many
        (request(TWO), R, 2, 3, (21, "c"), DROPPED),
        (request(TWO), R, 1, 2, (21, "b"), DROPPED),  # not the last stage
        (request(TWO), R, 2, 2, (21, "b"), DROPPED),
        (request(TWO), R, 0, 2, (11, "a"), DROPPED),
        (request(TWO), R, 2, 2, (11, "a"), DROPPED),
        (request(TWO), R, 2, 2, (11, "d"), BREACH),
        (request(TWO, attempt=1), F, 1, 1, (21, "b"), COUNTS),
        (request(TWO), F, 1, 2, (21, "b"), DROPPED),
        (request(TWO, earlier=(21,)), F, 1, 2, (21, "b"), DROPPED),
        (request(TWO, 21, 1), F, 1, 2, (21, "b"), COUNTS),
        (request(TWO, 21, 1), F, 1, 2, (22, "b"), DROPPED),
        (request(TWO, 21, 1), F, 0, 2, (11, "a"), DROPPED),
        (request(TWO, 31, 2), F, 1, 2, (21, "b"), DROPPED),
        # It comes to a stage twice, and is there for the second time.
        (request((A, B, A), 11, 2), F, 2, 2, (11, "a"), COUNTS),
        (request((A, B, A), 11, 2), F, 0, 2, (11, "a"), DROPPED),
    ],
)
def test_who_may_end_a_request(ownership, made, kind, hop, attempt, speaker, expected):
    outcome = Outcome(made.number, attempt, kind, hop)
    assert verdict(ownership.may_end, made, outcome, replica(*speaker)) == expected


def test_attempts_of_a_former_revision_count_too(ownership):
    outcome = Outcome(5, 1, R, 2)
    assert ownership.may_end(request(TWO), outcome, replica(21, "c", "former"))


ONCE = {"attempt": 1}


@pytest.mark.parametrize(
    ("made", "hop", "speaker", "expected"),
    [
        (request(TWO), 0, (11, "a"), COUNTS),
        (request(TWO), 0, (12, "a"), DROPPED),
        (request(), 0, (12, "a"), BREACH),
        (request(TWO), 1, (11, "a"), COUNTS),
        (request(TWO), 1, (12, "a"), DROPPED),
        (request(TWO, **ONCE), 0, (12, "a"), DROPPED),
        (request(TWO, **ONCE), 1, (12, "a"), DROPPED),
        (request(TWO, **ONCE), 3, (31, "c"), DROPPED),
        # In the first attempt it has come there, and no handoff notice yet.
        (request(TWO, **ONCE), 1, (21, "b"), COUNTS),
        (request(TWO, **ONCE), 2, (21, "b"), COUNTS),
        (request(TWO, **ONCE), 2, (31, "c"), COUNTS),
        (request(TWO, 21, 1, **ONCE), 1, (11, "a"), COUNTS),  # the in-flight table decides
        (request(TWO, 21, 1, **ONCE), 0, (31, "c"), DROPPED),  # nothing comes before the first
        # In a later one the gateway gave it to whoever has it.
        (request(TWO), 1, (21, "b"), DROPPED),
        (request(TWO, earlier=(21,)), 2, (21, "b"), DROPPED),
        (request(TWO, 21, 1), 1, (21, "b"), COUNTS),
        (request(TWO, 21, 1), 2, (21, "b"), COUNTS),
        (request(TWO, 21, 1), 2, (31, "c"), DROPPED),
        (request(TWO, 21, 1), 1, (11, "a"), DROPPED),
        (request(TWO), 2, (11, "a"), DROPPED),
        (request(TWO), 3, (31, "c"), DROPPED),
        (request(TWO), 1, (11, "d"), BREACH),
    ],
)
def test_who_may_give_back_what(ownership, made, hop, speaker, expected):
    outcome = Outcome(
        made.number, made.attempt, OutcomeKind.HANDBACK if hop else OutcomeKind.UNSTARTED, hop
    )
    assert verdict(ownership.may_return, made, outcome, replica(*speaker)) == expected


@pytest.mark.parametrize(
    ("made", "hop", "speaker", "holder", "expected"),
    [
        (request(TWO, **ONCE), 1, (11, "a"), (21, "b"), COUNTS),
        (request(TWO, **ONCE), 1, (11, "a"), None, COUNTS),  # it is gone
        (request(TWO, **ONCE), 1, (11, "a"), (31, "c"), DROPPED),
        (request(TWO, **ONCE), 1, (12, "a"), (21, "b"), DROPPED),
        (request(TWO, **ONCE), 2, (21, "b"), (31, "c"), COUNTS),
        (request(TWO, **ONCE), 3, (31, "c"), None, DROPPED),
        (request(TWO, **ONCE), 0, (11, "a"), (12, "a"), DROPPED),
        (request(TWO, **ONCE), 1, (11, "d"), None, BREACH),
        (request(TWO, 21, 1, **ONCE), 1, (11, "a"), (21, "b"), COUNTS),  # and moves nothing
        (request(TWO), 2, (21, "b"), (31, "c"), DROPPED),
        (request(TWO, 21, 1), 2, (21, "b"), (31, "c"), COUNTS),
        (request(TWO, 22, 1), 2, (21, "b"), (31, "c"), DROPPED),
    ],
)
def test_who_may_say_where_it_went(ownership, made, hop, speaker, holder, expected):
    notice = HandoffNotice(made.number, made.attempt, hop, 99)
    there = holder and replica(*holder)
    assert verdict(ownership.may_hand_off, made, notice, replica(*speaker), there) == expected


def test_a_notice_of_nobody_or_of_an_attempt_that_others_have_is_none(ownership):
    made = request(TWO, attempt=3)
    for attempt, peer, holder in (1, 11, 0), (3, 11, 0), (2, 12, 21), (4, 12, 21):
        notice = HandoffNotice(made.number, attempt, 1, holder)
        assert not ownership.may_hand_off(made, notice, replica(peer, "a"), None)
    assert ownership.may_hand_off(
        made, HandoffNotice(5, 1, 1, 21), replica(12, "a"), None
    )  # and moves nothing


def test_whom_an_death_notice_may_blame(ownership):
    made = request(TWO, tried=(12,), earlier=(13,), **ONCE)
    assert all(ownership.may_have_held(made, peer, "a") for peer in (11, 12, 13))
    assert not ownership.may_have_held(made, 14, "a")
    assert ownership.may_have_held(made, 21, "b")
    assert ownership.may_have_held(made, 31, "c")
    assert not ownership.may_have_held(made, 41, "d")


def test_what_lies_behind_a_request_is_not_to_blame(ownership):
    made = request(TWO, 31, 2, **ONCE)
    assert not ownership.may_have_held(made, 21, "b")
    assert ownership.may_have_held(made, 32, "c")  # its output may have gone to both


def test_of_a_later_attempt_only_those_are_to_blame_that_are_known_to_have_held_it(ownership):
    made = request(TWO, 21, 1, tried=(32,), earlier=(31,))
    assert not ownership.may_have_held(made, 22, "b")
    assert not ownership.may_have_held(made, 33, "c")
    assert all(ownership.may_have_held(made, peer, "c") for peer in (21, 31, 32))


def test_one_that_is_no_replica_has_no_say(ownership):
    assert not ownership.may_end(request(), Outcome(5, 2, R, 0), Session(ME, 3, Role.CLIENT, 0))


def test_which_stages_the_routes_know(ownership):
    assert [stage for stage in "abcdefg" if ownership.is_known(stage)] == list("abcd")
