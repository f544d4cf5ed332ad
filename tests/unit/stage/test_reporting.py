"""What goes home: one bundle per owner and turn; notes wait a little, nothing else does."""

import pytest

from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.fields import MAX_TEXT, PART_SIZE
from mesh.protocol.messages import Figures, Kind, Note, Outcome, Outcomes, Role
from stage.reporting import LAZY, MANY, NEVER, Homeward

FIGURES = Figures("a", 1, 0, 0, "idle")


@pytest.fixture
def links():
    made = Links(Identity(9, Role.REPLICA), lambda: 0.5)
    for peer in 1, 2:
        made.sessions[peer] = Session(9, peer, Role.GATEWAY, 1 << 20, now=0.0)
    return made


@pytest.fixture
def homeward(links):
    return Homeward(links)


def posted(links, owner):
    messages = links.sessions[owner].unreceipted()
    assert all(type(message) is Outcomes for message in messages)
    return messages


def result(number, nbytes=1, **more):
    return Outcome(number, 1, Kind.RESULT, buffers=[bytes(nbytes)], **more)


def test_one_bundle_per_owner_and_turn(links, homeward):
    for number in 1, 2:
        homeward.post(1, result(number))
    homeward.post(2, result(3))
    assert len(homeward) == 2
    homeward.flush(0.0)
    (bundle,) = posted(links, 1)
    assert [outcome.number for outcome in bundle.outcomes] == [1, 2]
    assert [outcome.number for outcome in posted(links, 2)[0].outcomes] == [3]
    assert len(homeward) == 0
    homeward.flush(0.0)
    assert posted(links, 1) == []


def test_a_bundle_is_cut_by_bytes_by_count_and_by_text(links, homeward):
    for number in range(3):
        homeward.post(1, result(number, PART_SIZE // 2))
    homeward.flush(0.0)
    assert [len(bundle.outcomes) for bundle in posted(links, 1)] == [1, 1, 1]
    for number in range(MANY + 1):
        homeward.post(1, result(number))
    homeward.flush(0.0)
    assert [len(bundle.outcomes) for bundle in posted(links, 1)] == [MANY, 1]
    for number in range(100):
        homeward.post(1, result(number, text="é" * 10 * MAX_TEXT))
    homeward.flush(0.0)
    assert [len(bundle.outcomes) for bundle in posted(links, 1)] == [63, 37]


def test_notes_ride_with_an_outcome(links, homeward):
    homeward.note(1, Note(5, 1, 1, 77), 0.0)
    homeward.note(2, Note(6, 1, 1, 77), 0.0)
    homeward.post(1, result(1))
    homeward.flush(0.0)
    assert posted(links, 1)[0].notes == [Note(5, 1, 1, 77)]
    assert posted(links, 2) == []
    assert homeward.due == LAZY


def test_notes_wait_no_longer_than_a_moment(links, homeward):
    homeward.note(1, Note(5, 1, 1, 77), 1.0)
    homeward.note(1, Note(6, 1, 1, 77), 1.04)
    homeward.flush(1.0)
    assert homeward.due == 1.0 + LAZY
    homeward.flush(1.0 + LAZY)
    (bundle,) = posted(links, 1)
    assert (len(bundle.notes), bundle.outcomes) == (2, [])
    assert homeward.due == NEVER


def test_many_notes_do_not_wait(links, homeward):
    for number in range(MANY):
        homeward.note(1, Note(number, 1, 1, 77), 3.0)
    assert homeward.due == 3.0


def test_notes_may_be_hurried(links, homeward):
    homeward.note(1, Note(5, 1, 1, 77), 1.0)
    homeward.hurry(1.01)
    homeward.flush(1.01)
    assert len(posted(links, 1)) == 1


def test_what_is_for_an_owner_that_is_gone_is_dropped_and_keeps_nobody_awake(links, homeward):
    homeward.post(5, result(1))
    homeward.note(5, Note(5, 1, 1, 77), 1.0)
    homeward.flush(1.0)
    assert homeward.ownerless == 1
    homeward.note(5, Note(6, 1, 1, 77), 1.0)
    homeward.flush(1.0 + LAZY)
    assert (len(homeward), homeward.due) == (0, NEVER)


def test_an_owner_may_be_forgotten(links, homeward):
    homeward.post(1, result(1))
    homeward.note(1, Note(5, 1, 1, 77), 1.0)
    homeward.forget(1)
    homeward.forget(1)
    homeward.flush(2.0)
    assert posted(links, 1) == []
    assert homeward.ownerless == 0


def test_figures_go_to_the_owner_or_to_any_gateway(links, homeward):
    homeward.record(2, FIGURES, 0.0)
    homeward.flush(LAZY)
    assert posted(links, 2)[0].figures == [FIGURES]
    homeward.record(5, FIGURES, 0.0)  # nobody is connected
    homeward.flush(LAZY)
    assert posted(links, 1) == []
    links.sessions[1].link = 7
    homeward.record(5, FIGURES, 0.0)
    homeward.flush(LAZY)
    assert posted(links, 1)[0].figures == [FIGURES]


def test_figures_wait_although_an_outcome_goes(links, homeward):
    homeward.record(1, FIGURES, 1.0)
    homeward.post(1, result(1))
    homeward.flush(1.0)
    assert [(len(each.outcomes), each.figures) for each in posted(links, 1)] == [(1, [])]
    assert homeward.due == 1.0 + LAZY
    homeward.record(1, FIGURES, 1.1)
    homeward.flush(1.0 + LAZY)
    assert posted(links, 1)[0].figures == [FIGURES, FIGURES]
    assert homeward.due == NEVER


def test_many_figures_do_not_wait(links, homeward):
    for _ in range(MANY):
        homeward.record(1, FIGURES, 1.0)
    homeward.flush(1.0)
    assert len(posted(links, 1)[0].figures) == MANY


def test_figures_do_not_wait_when_there_is_a_hurry(links, homeward):
    homeward.record(1, FIGURES, 1.0)
    homeward.hurry(1.0)
    homeward.flush(1.0)
    assert posted(links, 1)[0].figures == [FIGURES]
