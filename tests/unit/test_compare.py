"""The benchmarks' arithmetic: orders, medians, ratios. The servers are not started here."""

from __future__ import annotations

import pytest

from benchmarks import compare, running
from benchmarks.running import BenchmarkError, Figures, Peer

A, B, C = (Peer(name, name, name) for name in "abc")


def measurement(
    peer: str, rate: float, p50: float, errors: int = 0, **cpu: float
) -> compare.Measurement:
    return compare.Measurement("row", peer, 0, Figures(rate, p50, 2 * p50, errors, cpu))


def test_every_server_goes_first_once() -> None:
    orders = [compare.rotated([A, B, C], number) for number in range(4)]
    assert orders == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]


def test_medians_are_taken_per_row_and_server() -> None:
    found = compare.medians(
        [
            measurement("mosec", 10, 500, 1, worker=50.0),
            measurement("meshline", 70, 100),
            measurement("mosec", 30, 700, 2, worker=70.0),
            measurement("mosec", 20, 900, worker=60.0, parent=3.0),
        ]
    )
    assert found == [
        compare.Median("row", "mosec", 20, 700, 1400, 3, {"parent": 0.0, "worker": 60.0}),
        compare.Median("row", "meshline", 70, 100, 200, 0, {}),
    ]


def test_the_table_says_how_many_times_faster_and_what_failed() -> None:
    text = compare.table(
        compare.medians([measurement("meshline", 60, 100), measurement("mosec", 20, 400, 7)])
    )
    assert "3.00 times   p50   0.250 times   meshline to mosec" in text
    assert "7 FAILED" in text


def test_without_meshline_there_is_no_ratio() -> None:
    assert "times" not in compare.table(compare.medians([measurement("mosec", 20, 400)]))


def test_a_server_that_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(BenchmarkError, match="no server is called 'nginx'; there are: meshline"):
        compare.chosen("nginx")


@pytest.mark.parametrize(
    ("command", "label"),
    [
        (["/x/python", "-P", "-m", "gateway", "--settings", "y"], "gateway"),
        (["/x/python", "-c", "from multiprocessing.spawn import spawn_main; ..."], "worker"),
        (["/x/python", "-c", "from multiprocessing.resource_tracker import main"], "tracker"),
        (["/x/python", "/y/services.py", "--port", "1"], "parent"),
        (["/x/bin/mosec", "/tmp/config.json"], "mosec"),
    ],
)
def test_processes_are_labelled_by_what_they_do(command: list[str], label: str) -> None:
    assert running._label(command) == label


def test_without_wrk_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchmarkError, match="apt-get install wrk"):
        running.wrk_path()
