"""Notes and figures arrive as they left, whatever else rides with them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import notices, relaxed, stats

from mesh.protocol.messages import BatchStats, HandoffNotice, Load
from mesh.protocol.rows import (
    FIGURES_ROW,
    RowLayout,
    pack_load,
    pack_notes,
    pack_stats,
    read_load,
    read_notes,
    read_rows,
    read_stats,
)


def frozen(packed: list[object]) -> object:
    """As msgpack gives lists back."""
    return tuple(tuple(one) if isinstance(one, list) else one for one in packed)


@relaxed
@given(st.lists(notices, min_size=1, max_size=5))
def test_notes_arrive_as_they_left(told: list[HandoffNotice]) -> None:
    assert read_notes(pack_notes(told)) == told


@relaxed
@given(st.lists(stats, min_size=1, max_size=5))
def test_stats_arrive_as_they_left(measured: list[BatchStats]) -> None:
    assert read_stats(frozen(pack_stats(measured))) == measured


def test_times_of_over_an_hour_are_told_as_at_least_that_long() -> None:
    endless = BatchStats("s", 1, 2**40, 2**41, "idle")
    assert read_stats(frozen(pack_stats([endless])))[0].wait == 2**32 - 1


def test_a_word_that_is_not_there_is_refused() -> None:
    row = FIGURES_ROW.packing.pack(1, 1, 1, 0, 0, 9, 0, 1, 0)
    with pytest.raises(IndexError):
        read_stats((("s",), row, 1))


@pytest.mark.parametrize("packed", [(1, b"123"), None, 7, (1,), ("1", b"1"), (0, b"1"), (3, None)])
def test_what_is_no_row_of_notes_is_refused(packed: object) -> None:
    with pytest.raises((TypeError, ValueError, struct.error)):
        read_notes(packed)


FIRST = RowLayout.first("!QHB")
LATER = RowLayout(struct.Struct("!QHBIB"), FIRST.least)
rows = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**16 - 1), st.integers(0, 255)),
    min_size=1,
    max_size=5,
)


@relaxed
@given(rows)
def test_an_older_process_skips_what_a_newer_one_adds_to_a_row(told: list[tuple[int, ...]]) -> None:
    packed = b"".join(LATER.packing.pack(*row, 7, 8) for row in told)
    assert list(read_rows(FIRST, packed, len(told))) == told


@relaxed
@given(rows)
def test_a_newer_process_reads_zeros_where_an_older_one_says_nothing(
    told: list[tuple[int, ...]],
) -> None:
    packed = b"".join(FIRST.packing.pack(*row) for row in told)
    assert list(read_rows(LATER, packed, len(told))) == [(*row, 0, 0) for row in told]


@pytest.mark.parametrize(("nbytes", "count"), [(10, 1), (23, 2), (5, 0), (11, 2)])
def test_what_is_no_number_of_rows_is_refused(nbytes: int, count: int) -> None:
    with pytest.raises(ValueError, match="are no"):
        read_rows(FIRST, bytes(nbytes), count)


def test_a_count_below_zero_is_not_written() -> None:
    with pytest.raises(struct.error):
        pack_stats([BatchStats("s", -1, 1, 1, "idle")])


def test_a_load_arrives_as_it_left_or_is_not_said() -> None:
    assert read_load(pack_load(Load(3, 4, 50_000))) == Load(3, 4, 50_000)
    assert read_load(pack_load(Load(3, 4, 2**40))) == Load(3, 4, 2**32 - 1)
    assert pack_load(None) == ()
    assert read_load(()) is None
