"""Notes and figures arrive as they left, whatever else rides with them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import figures, notes, relaxed

from mesh.protocol.messages import Figures, Note
from mesh.protocol.riders import FIGURES_ROW, pack_figures, pack_notes, read_figures, read_notes


def frozen(packed: list[object]) -> object:
    """As msgpack gives lists back."""
    return tuple(tuple(one) if isinstance(one, list) else one for one in packed)


@relaxed
@given(st.lists(notes, max_size=5))
def test_notes_arrive_as_they_left(told: list[Note]) -> None:
    assert read_notes(pack_notes(told)) == told


@relaxed
@given(st.lists(figures, max_size=5))
def test_figures_arrive_as_they_left(measured: list[Figures]) -> None:
    assert read_figures(frozen(pack_figures(measured))) == measured


def test_times_of_over_an_hour_are_told_as_at_least_that_long() -> None:
    endless = Figures("s", 1, 2**40, 2**41, "idle")
    assert read_figures(frozen(pack_figures([endless])))[0].wait == 2**32 - 1


def test_a_word_that_is_not_there_is_refused() -> None:
    row = FIGURES_ROW.pack(1, 1, 1, 0, 0, 9, 0, 1, 0)
    with pytest.raises(IndexError):
        read_figures((("s",), row))


@pytest.mark.parametrize("packed", [b"123", None, 7])
def test_what_is_no_row_of_notes_is_refused(packed: object) -> None:
    with pytest.raises((TypeError, struct.error)):
        read_notes(packed)


def test_a_count_below_zero_is_not_written() -> None:
    with pytest.raises(struct.error):
        pack_figures([Figures("s", -1, 1, 1, "idle")])
