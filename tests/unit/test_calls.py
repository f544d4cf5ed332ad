"""What a request costs in calls of our functions stays within bounds: `benchmarks/calls.py`."""

from __future__ import annotations

import re
import subprocess
import sys

import laws
import pytest

# Situation -> calls per request at most. Lower them with the code; raise them with a reason.
BOUNDS = {
    "one request, one stage": 134.0,  # three of them say and learn what a replica holds
    "one request, two stages": 229.0,
    "a bundle of 32, one stage": 29.5,  # one of them names the request (`request_names`)
}


@pytest.fixture(scope="module")
def counted() -> dict[str, float]:
    """Calls per request in each situation, counted in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.calls"]
    run = subprocess.run(command, cwd=laws.ROOT, capture_output=True, text=True, check=True)
    return {
        title: float(calls)
        for title, calls in re.findall(r"(?m)^(\S.*)(?:\n  .*)*\n  together +([0-9.]+)", run.stdout)
    }


@pytest.mark.parametrize("situation", BOUNDS)
def test_a_request_makes_no_more_calls_than_its_bound(
    counted: dict[str, float], situation: str
) -> None:
    assert 0 < counted[situation] <= BOUNDS[situation]
