"""The table of a request's transitions: it is what DESIGN.md draws, by functions that exist."""

from __future__ import annotations

import pytest
import state_diagrams

from gateway.requests.states import TRANSITIONS


def test_the_diagram_of_the_design_draws_this_table() -> None:
    assert state_diagrams.drawn("Reading") == state_diagrams.tabled(TRANSITIONS)


@pytest.mark.parametrize("by", sorted({each.by for each in TRANSITIONS}))
def test_the_function_of_each_transition_exists(by: str) -> None:
    assert callable(state_diagrams.find(by))


def test_every_state_can_be_reached_and_left_but_the_last() -> None:
    entered = {each.next for each in TRANSITIONS}
    left = {each.state for each in TRANSITIONS}
    assert entered - left == {"Ended"}
    assert left - entered == {"[*]"}
