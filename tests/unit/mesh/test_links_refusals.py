"""Refused messages are remembered, for a while; rows of a refused bundle go singly."""

from __future__ import annotations

import pytest
from mesh_world import a_task

from mesh.errors import ProtocolError
from mesh.links.refusals import MAX_REMEMBERED_REFUSALS, Refusals, singly
from mesh.protocol.messages import (
    BatchStats,
    Cancel,
    HandoffNotice,
    Outcome,
    OutcomeKind,
    Outcomes,
    Tasks,
)


def test_a_refused_message_is_refused_again() -> None:
    refusals = Refusals()
    refusals.add(3, "illegible")
    refusals.repeat(2)
    with pytest.raises(ProtocolError, match="illegible"):
        refusals.repeat(3)


def test_a_connection_is_resumed_before_the_oldest() -> None:
    refusals = Refusals()
    assert refusals.resumes_after(7) == 7
    refusals.add(5, "illegible")
    refusals.add(3, "illegible")
    assert refusals.resumes_after(7) == 2


def test_few_are_remembered() -> None:
    refusals = Refusals()
    for sequence in range(1, MAX_REMEMBERED_REFUSALS + 2):
        refusals.add(sequence, "illegible")
    assert len(refusals) == MAX_REMEMBERED_REFUSALS
    assert refusals.resumes_after(99) == 1


def test_rows_go_singly() -> None:
    tasks = [a_task(1), a_task(2)]
    assert singly(Tasks(tasks)) == [Tasks([tasks[0]]), Tasks([tasks[1]])]
    outcomes = [Outcome(i, 1, OutcomeKind.RESULT) for i in (1, 2)]
    notices, stats = [HandoffNotice(1, 1, 1, 5)], [BatchStats("a", 1, 1, 1, "idle")]
    assert singly(Outcomes(outcomes, notices, stats)) == [
        Outcomes([outcomes[0]]),
        Outcomes([outcomes[1]]),
        Outcomes([], notices, stats),
    ]
    assert singly(Outcomes(outcomes[:1])) == [Outcomes(outcomes[:1])]
    assert singly(Cancel(1, [1, 2])) == [Cancel(1, [1, 2])]
