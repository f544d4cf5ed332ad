"""Messages of each type, drawn once for a process by what the tests of the wire draw them with."""

from functools import cache

from hypothesis import HealthCheck, Phase, given, seed, settings
from wire_strategies import STRATEGIES

MANY = 12  # of each type


@cache
def drawn_messages():
    """By type a list of messages; the same ones each time, and in each process."""
    return {kind: _drawn(strategy) for kind, strategy in STRATEGIES.items()}


def _drawn(strategy):
    drawn = []

    @seed(1)
    @settings(
        max_examples=MANY,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(message):
        drawn.append(message)

    draw()
    return drawn
