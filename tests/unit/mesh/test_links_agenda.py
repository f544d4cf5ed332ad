"""The agenda: each session is looked at when it is due, and others are not."""

import random

from mesh.links.agenda import Agenda
from mesh.links.session import Session
from mesh.protocol.messages import Role


def session(number: int) -> Session:
    return Session(9, number, Role.REPLICA, 1000)


def test_those_that_are_due_are_taken_once_the_earliest_first() -> None:
    agenda, one, two, three = Agenda(), session(1), session(2), session(3)
    for each, when in (one, 3.0), (two, 1.0), (three, 1.0):
        agenda.plan(each, when)
    assert agenda.next_due() == 1.0
    assert agenda.take(0.9) == []
    assert agenda.take(2.0) == [two, three]
    assert agenda.take(9.0) == [one]
    assert (agenda.take(9.0), agenda.next_due()) == ([], float("inf"))


def test_an_earlier_time_counts_and_a_later_one_does_not() -> None:
    agenda, one = Agenda(), session(1)
    agenda.plan(one, 3.0)
    agenda.plan(one, 5.0)
    agenda.plan(one, 2.0)
    assert agenda.take(2.0) == [one]
    agenda.plan(one, 4.0)
    assert agenda.take(3.0) == []  # the first plan is obsolete
    assert agenda.take(4.0) == [one]


def test_what_is_due_never_is_not_planned() -> None:
    agenda = Agenda()
    agenda.plan(session(1), float("inf"))
    assert agenda.next_due() == float("inf")


def test_a_session_that_is_over_is_not_taken() -> None:
    agenda, one = Agenda(), session(1)
    agenda.plan(one, 1.0)
    agenda.drop(one)
    agenda.drop(one)
    assert (agenda.take(1.0), agenda.next_due()) == ([], float("inf"))
    agenda.plan(one, 1.0)
    agenda.drop(one)
    assert agenda.next_due() == float("inf")


def test_a_thousand_are_taken_in_the_order_of_their_times() -> None:
    agenda, draw = Agenda(), random.Random(1)
    times = {session(number): draw.random() for number in range(1000)}
    for each, when in times.items():
        agenda.plan(each, when)
    taken = agenda.take(1.0)
    assert len(taken) == 1000
    assert [times[each] for each in taken] == sorted(times.values())
