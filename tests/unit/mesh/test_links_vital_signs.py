"""Signs of life."""

from __future__ import annotations

import pytest

from mesh.links.vital_signs import MAX_ROUND_TRIP_S, PROBE_INTERVAL_S, VitalSigns
from mesh.protocol.messages import Ping


@pytest.mark.parametrize(
    ("running", "allowed", "until"), [(500, 1500, 11.0), (0, 9, 10.0), (1, 9001, 12.0)]
)
def test_a_peer_is_busy_as_long_as_it_says_but_not_for_ever(
    running: int, allowed: int, until: float
) -> None:
    signs = VitalSigns()
    signs.pinged(Ping(1, queued=3, running=running, allowed=allowed), 10.0, 2.0)
    assert (signs.queued, signs.busy_until) == (3, until)
    assert signs.round_trip == 0.0


@pytest.mark.parametrize(("now", "seconds"), [(10.0, 1.0), (8.0, 0.0), (99.0, MAX_ROUND_TRIP_S)])
def test_the_round_trip_leaves_out_what_the_peer_waited(now: float, seconds: float) -> None:
    signs = VitalSigns()
    signs.pinged(Ping(1, echo=8_000_000, held=1_000_000), now, 2.0)
    assert signs.round_trip == seconds


def test_a_verdict_is_news_once() -> None:
    signs = VitalSigns()
    assert not signs.judge(silent=False)
    assert signs.judge(silent=True)
    assert not signs.judge(silent=True)
    assert signs.judge(silent=False)


def test_ports_are_probed_at_intervals() -> None:
    signs = VitalSigns()
    assert signs.is_probe_due(1.0)
    assert not signs.is_probe_due(1.0)
    assert signs.is_probe_due(1.0 + PROBE_INTERVAL_S)
