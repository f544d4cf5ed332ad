"""An order in which nobody is crowded out."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from mesh.protocol.fair_order import in_turns


def test_each_has_its_turn() -> None:
    assert list(in_turns([[1, 2, 3], [], [None, 21]])) == [1, None, 2, 21, 3]
    assert list(in_turns([])) == []


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(0, 60))
def test_no_group_is_crowded_out_by_another(sizes: list[int], room: int) -> None:
    groups = [[(name, n) for n in range(size)] for name, size in enumerate(sizes)]
    taken = list(islice(in_turns(groups), room))
    assert len(taken) == min(room, sum(sizes))
    counts = [sum(1 for name, _ in taken if name == each) for each in range(len(sizes))]
    for count, size in zip(counts, sizes, strict=True):
        assert count == size or count >= max(counts) - 1
