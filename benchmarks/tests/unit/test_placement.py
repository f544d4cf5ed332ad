"""What is said of requests that wait although a replica is idle."""

from __future__ import annotations

from benchmarks.scale.placement import waiting_beside
from benchmarks.tally import Tally


def tally(*spans: tuple[float, float]) -> Tally:
    return Tally(30.0, 1.0, [(due, took, 200, 0) for due, took in spans])


def test_a_request_that_waits_counts_while_others_are_fewer_than_replicas() -> None:
    behind = tally((0.0, 0.101), (0.05, 0.151))
    assert waiting_beside(behind, 2) == 0.5
    assert waiting_beside(behind, 1) == 0.0


def test_a_request_that_begins_at_once_does_not_wait() -> None:
    assert waiting_beside(tally((0.0, 0.101), (0.05, 0.105)), 8) == 0.0
    assert waiting_beside(tally(), 8) == 0.0
