"""Signs of life follow from request timeouts, and no gateway decides over another's."""

from __future__ import annotations

import pytest

from mesh.links.heartbeat import (
    LEAST_PAYLOAD_S,
    MIN_TIMEOUT_S,
    MOST_PAYLOAD_S,
    PING_INTERVAL_S,
    SILENCE_S,
    Heartbeat,
)


@pytest.mark.parametrize(
    ("timeout", "every", "silence", "patience"),
    [
        (0.0, MIN_TIMEOUT_S / 12, MIN_TIMEOUT_S / 3, LEAST_PAYLOAD_S),
        (6.0, 0.5, 2.0, LEAST_PAYLOAD_S),
        (60.0, PING_INTERVAL_S, SILENCE_S, 60.0),
        (1e9, PING_INTERVAL_S, SILENCE_S, MOST_PAYLOAD_S),
    ],
)
def test_it_follows_from_the_timeout(
    timeout: float, every: float, silence: float, patience: float
) -> None:
    heartbeat = Heartbeat(timeout)
    assert (heartbeat.ping_every, heartbeat.silence) == (every, silence)
    assert heartbeat.patience == patience


def test_gateways_count_as_long_as_they_are_there() -> None:
    heartbeat = Heartbeat(3.0)
    heartbeat.lost(9)
    heartbeat.welcomed(1, 6.0)
    assert (heartbeat.ping_every, heartbeat.silence) == (0.5, 2.0)
    heartbeat.welcomed(2, 0.0)
    assert (heartbeat.ping_every, heartbeat.silence) == (MIN_TIMEOUT_S / 12, 2.0)
    heartbeat.lost(1)
    assert heartbeat.silence == MIN_TIMEOUT_S / 3
    heartbeat.lost(2)
    assert (heartbeat.ping_every, heartbeat.silence) == (0.25, 1.0)
