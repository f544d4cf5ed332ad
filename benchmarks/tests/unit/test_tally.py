"""What is said of an open-loop load, and the arithmetic behind it."""

import pytest

from benchmarks import latency, peers, rows, running
from benchmarks.tally import Tally, percentile, report

ANSWERS = [(0.1, 0.9, 200, 0), (0.5, 0.1, 200, 0), (0.6, 0.1, 429, 2), (0.9, 0.3, 200, 0)]


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.25, 1.0), (0.26, 2.0), (0.5, 2.0), (0.99, 4.0), (1.0, 4.0)]
)
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], share) == value


def test_nothing_has_no_percentile() -> None:
    assert percentile([], 0.5) == 0.0


def test_results_count_when_they_come() -> None:
    tally = Tally(4, 1.0, list(ANSWERS), broken=1, unanswered=2)
    assert tally.served() == [0.1, 0.3, 0.9]
    assert tally.served(0.5, 1.0) == [0.1]
    assert tally.goodput(0.5, 1.0) == 2.0
    assert tally.statuses() == {200: 3, 429: 1}
    assert tally.failures() == 4


def test_the_report_says_what_the_generator_used() -> None:
    text = report(Tally(4, 1.0, list(ANSWERS), connections=3, lateness=0.002, cpu=41.0))
    assert "3 × 200, 1 × 429" in text
    assert "generator   41 % of a core, 3 connections, p99 of lateness 2.0 ms" in text


def test_a_point_leaves_the_warming_out() -> None:
    server = running.Running(peers.PEERS["mosec"], rows.ECHO, 1, "mark")
    tally = Tally(40.0, 1.0, [*ANSWERS, (0.95, 0.04, 200, 0)], cpu=7.0, lateness=0.001)
    point = latency.seen(server, 0.8, tally)
    assert point == latency.Point(
        service="echo",
        peer="mosec",
        share=0.8,
        offered=40.0,
        goodput=2 / 0.8,
        p50=100.0,
        p99=300.0,
        failures=1,
        generator=7.0,
        lateness=1.0,
    )
