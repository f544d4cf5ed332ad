"""What goes home: one bundle per owner and turn; notes wait a little, nothing else does."""

import pytest

from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.fields import MAX_TEXT_BYTES, PART_BYTES
from mesh.protocol.messages import BatchStats, HandoffNotice, Outcome, OutcomeKind, Outcomes, Role
from stage.reporting import MAX_PER_BUNDLE, NEVER, NOTICE_DELAY_S, Reporting

FIGURES = BatchStats("a", 1, 0, 0, "idle")


@pytest.fixture
def links():
    made = Links(Identity(9, Role.REPLICA), lambda: 0.5)
    for peer in 1, 2:
        made.sessions[peer] = Session(9, peer, Role.GATEWAY, 1 << 20, now=0.0)
    return made


@pytest.fixture
def reporting(links):
    return Reporting(links)


def posted(links, owner):
    messages = links.sessions[owner].stream.unacked()
    assert all(type(message) is Outcomes for message in messages)
    return messages


def result(number, nbytes=1, **more):
    return Outcome(number, 1, OutcomeKind.RESULT, buffers=[bytes(nbytes)], **more)


def test_one_bundle_per_owner_and_turn(links, reporting):
    for number in 1, 2:
        reporting.post(1, result(number))
    reporting.post(2, result(3))
    assert len(reporting) == 2
    reporting.flush(0.0)
    (bundle,) = posted(links, 1)
    assert [outcome.number for outcome in bundle.outcomes] == [1, 2]
    assert [outcome.number for outcome in posted(links, 2)[0].outcomes] == [3]
    assert len(reporting) == 0
    reporting.flush(0.0)
    assert posted(links, 1) == []


def test_a_bundle_is_cut_by_bytes_by_count_and_by_text(links, reporting):
    for number in range(3):
        reporting.post(1, result(number, PART_BYTES // 2))
    reporting.flush(0.0)
    assert [len(bundle.outcomes) for bundle in posted(links, 1)] == [1, 1, 1]
    for number in range(MAX_PER_BUNDLE + 1):
        reporting.post(1, result(number))
    reporting.flush(0.0)
    assert [len(bundle.outcomes) for bundle in posted(links, 1)] == [MAX_PER_BUNDLE, 1]
    for number in range(100):
        reporting.post(1, result(number, text="é" * 10 * MAX_TEXT_BYTES))
    reporting.flush(0.0)
    assert [len(bundle.outcomes) for bundle in posted(links, 1)] == [63, 37]


def test_notes_ride_with_an_outcome(links, reporting):
    reporting.notice(1, HandoffNotice(5, 1, 1, 77), 0.0)
    reporting.notice(2, HandoffNotice(6, 1, 1, 77), 0.0)
    reporting.post(1, result(1))
    reporting.flush(0.0)
    assert posted(links, 1)[0].notices == [HandoffNotice(5, 1, 1, 77)]
    assert posted(links, 2) == []
    assert reporting.due == NOTICE_DELAY_S


def test_notes_wait_no_longer_than_a_moment(links, reporting):
    reporting.notice(1, HandoffNotice(5, 1, 1, 77), 1.0)
    reporting.notice(1, HandoffNotice(6, 1, 1, 77), 1.04)
    reporting.flush(1.0)
    assert reporting.due == 1.0 + NOTICE_DELAY_S
    reporting.flush(1.0 + NOTICE_DELAY_S)
    (bundle,) = posted(links, 1)
    assert (len(bundle.notices), bundle.outcomes) == (2, [])
    assert reporting.due == NEVER


def test_many_notes_do_not_wait(links, reporting):
    for number in range(MAX_PER_BUNDLE):
        reporting.notice(1, HandoffNotice(number, 1, 1, 77), 3.0)
    assert reporting.due == 3.0


def test_notes_may_be_hurried(links, reporting):
    reporting.notice(1, HandoffNotice(5, 1, 1, 77), 1.0)
    reporting.hurry(1.01)
    reporting.flush(1.01)
    assert len(posted(links, 1)) == 1


def test_what_is_for_an_owner_that_is_gone_is_dropped_and_keeps_nobody_awake(links, reporting):
    reporting.post(5, result(1))
    reporting.notice(5, HandoffNotice(5, 1, 1, 77), 1.0)
    reporting.flush(1.0)
    assert reporting.ownerless == 1
    reporting.notice(5, HandoffNotice(6, 1, 1, 77), 1.0)
    reporting.flush(1.0 + NOTICE_DELAY_S)
    assert (len(reporting), reporting.due) == (0, NEVER)


def test_an_owner_may_be_forgotten(links, reporting):
    reporting.post(1, result(1))
    reporting.notice(1, HandoffNotice(5, 1, 1, 77), 1.0)
    reporting.forget(1)
    reporting.forget(1)
    reporting.flush(2.0)
    assert posted(links, 1) == []
    assert reporting.ownerless == 0


def test_stats_go_to_the_owner_or_to_any_gateway(links, reporting):
    reporting.record(2, FIGURES, 0.0)
    reporting.flush(NOTICE_DELAY_S)
    assert posted(links, 2)[0].stats == [FIGURES]
    reporting.record(5, FIGURES, 0.0)  # nobody is connected
    reporting.flush(NOTICE_DELAY_S)
    assert posted(links, 1) == []
    links.sessions[1].link = 7
    reporting.record(5, FIGURES, 0.0)
    reporting.flush(NOTICE_DELAY_S)
    assert posted(links, 1)[0].stats == [FIGURES]


def test_stats_wait_although_an_outcome_goes(links, reporting):
    reporting.record(1, FIGURES, 1.0)
    reporting.post(1, result(1))
    reporting.flush(1.0)
    assert [(len(each.outcomes), each.stats) for each in posted(links, 1)] == [(1, [])]
    assert reporting.due == 1.0 + NOTICE_DELAY_S
    reporting.record(1, FIGURES, 1.1)
    reporting.flush(1.0 + NOTICE_DELAY_S)
    assert posted(links, 1)[0].stats == [FIGURES, FIGURES]
    assert reporting.due == NEVER


def test_many_stats_do_not_wait(links, reporting):
    for _ in range(MAX_PER_BUNDLE):
        reporting.record(1, FIGURES, 1.0)
    reporting.flush(1.0)
    assert len(posted(links, 1)[0].stats) == MAX_PER_BUNDLE


def test_stats_do_not_wait_when_there_is_a_hurry(links, reporting):
    reporting.record(1, FIGURES, 1.0)
    reporting.hurry(1.0)
    reporting.flush(1.0)
    assert posted(links, 1)[0].stats == [FIGURES]
