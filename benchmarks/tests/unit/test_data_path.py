"""The data path without sockets: every step is reached, and the table says so."""

from __future__ import annotations

import pytest

from benchmarks import data_path
from benchmarks.data_path import STEPS


@pytest.mark.parametrize(("clients", "batch"), [(1, 1), (9, 1), (9, 4)])
def test_every_step_takes_time(clients: int, batch: int) -> None:
    steps = data_path.measure(clients, batch, rounds=3)
    assert sorted(steps) == sorted(STEPS)
    assert min(steps.values()) > 0


def test_the_table_has_microseconds_per_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert data_path.main(["--rounds", "10", "--walk", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| step | 1 request | 64, singly | 64, batches of 32 |"
    assert len(lines) == len(STEPS) + 3
    columns = data_path.table({"two": dict.fromkeys(STEPS, 30.0)}, {"two": 2})
    assert columns.splitlines()[-1] == f"| together | {15.0 * len(STEPS):.1f} |"
