"""How the benchmarks' findings stand to what is to be reached, and what workers count."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from benchmarks import counts
from benchmarks.failure import BenchmarkError
from benchmarks.findings import Bound, Finding, flat, text
from benchmarks.latency import Point
from benchmarks.scale import __main__ as scale
from benchmarks.scale.costs import Cost, cost_of
from benchmarks.scale.tails import tail
from benchmarks.scale.window import Counted


def test_a_bound_is_kept_up_to_its_value() -> None:
    assert Bound(3).met(3)
    assert not Bound(3).met(3.01)
    assert Bound(0.97, at_most=False).met(0.97)
    assert not Bound(0.97, at_most=False).met(0.9)


def test_each_figure_stands_beside_what_it_should_be() -> None:
    said = text(
        [
            Finding("tails", "echo", 2.5, "×", Bound(3)),
            Finding("batches", "busy", 0.9, "", Bound(0.97, at_most=False)),
            Finding("tails", "mosec: echo", 4321.0, "×"),
        ]
    )
    assert said.index("mosec: echo") < said.index("batches")
    assert "2.5 ×   at most 3: reached" in said
    assert "0.9    at least 0.97: MISSED" in said
    assert "4,321 ×\n" in said
    assert said.endswith("1 of 2 goals reached")


def test_flat_is_within_a_quarter_of_the_smallest() -> None:
    found = flat("costs", "CPU", "µs", {"1 replica": 40.0, "4 replicas": 51.0, "16": 50.0})
    assert [one.what for one in found] == ["CPU, 1 replica", "CPU, 4 replicas", "CPU, 16"]
    assert [one.bound is not None and one.bound.met(one.figure) for one in found] == [1, 0, 1]


@pytest.mark.parametrize(
    ("peer", "goodput", "bound"),
    [("meshline", 98.0, Bound(3)), ("meshline", 90.0, None), ("mosec", 98.0, None)],
)
def test_a_tail_is_judged_where_the_load_was_kept_up_with(
    peer: str, goodput: float, bound: Bound | None
) -> None:
    found = tail(Point("echo", peer, 0.8, 100.0, goodput, 2.0, 5.0, 0, 10.0, 0.1))
    assert (found.figure, found.bound) == (2.5, bound)
    assert ("FELL BEHIND: 90/s" in found.unit) == (goodput < 95)


def test_what_a_request_costs_is_what_was_used_meanwhile() -> None:
    before = {3: ("gateway", 1.0), 4: ("stage", 2.0)}
    after = {3: ("gateway", 1.5), 4: ("stage", 2.1), 9: ("stage", 0.1)}
    assert cost_of(before, after, 1000) == Cost(
        pytest.approx(700.0), {"gateway": pytest.approx(500.0), "stage": pytest.approx(200.0)}
    )


def test_what_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(BenchmarkError, match="no measurement 'tale', only tails, batches"):
        scale.measure("tale", "meshline", 1.0)


def test_nothing_done_has_a_mean_of_nothing() -> None:
    assert Counted(1.0, 0, 0, 0.0).mean == 0.0
    assert Counted(1.0, 4, 10, 0.0).mean == 2.5


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(counts.FOLDER, str(tmp_path))
    return tmp_path


def test_others_can_read_what_a_worker_counts(folder: Path) -> None:
    mine = counts.Counts()
    mine.constructed()
    mine.batch(3, 10.0, 10.5)
    mine.batch(5, 11.0, 11.25)
    (record,) = counts.read(folder).values()
    assert record.made > 0
    assert (record.first, record.batches, record.items, record.busy) == (10.0, 2, 8, 0.75)


def test_memory_taken_is_the_most_at_once(folder: Path) -> None:
    mine = counts.Counts()
    mine.trace()
    try:
        for _ in range(2):
            taken = bytearray(1 << 20)
            del taken
        mine.peak()
    finally:
        tracemalloc.stop()
    (record,) = counts.read(folder).values()
    assert 1 << 20 <= record.taken < 1.1 * (1 << 20)


def test_a_file_that_is_not_whole_yet_does_not_count(folder: Path) -> None:
    (folder / "17").write_bytes(b"")
    assert counts.read(folder) == {}


def test_without_a_folder_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(counts.FOLDER, raising=False)
    counts.Counts().batch(1, 0.0, 1.0)


def test_the_counts_of_all_add_up() -> None:
    records = {
        1: counts.Record(1.0, 2.0, 3, 4, 5.0, 6.0),
        2: counts.Record(2.0, 1.0, 30, 40, 50.0, 1.0),
    }
    assert counts.total(records) == counts.Record(2.0, 2.0, 33, 44, 55.0, 6.0)
