"""The table of timeouts in docs/workers.md says what the schema says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh.config.flags import DEFAULT_WAIT_S
from mesh.config.schema import Duration, SettingDeclaration, entries
from mesh.config.settings import GatewaySettings, StageSettings
from mesh.config.units import show_duration

PAGE = Path(__file__).resolve().parents[2] / "docs" / "workers.md"
SECTION = PAGE.read_text().partition("## Timeouts")[2].partition("\n## ")[0]
ROWS = {
    cells[1].strip(): cells
    for line in SECTION.splitlines()
    if line.startswith("| `") and (cells := line.split("|"))
}
GATEWAY, STAGE = entries(GatewaySettings), entries(StageSettings)
DECLARED: list[tuple[str, SettingDeclaration]] = [
    ("`timeout` of the request", GATEWAY["timeout"]),
    ("`timeout` of a stage", STAGE["timeout"]),
    *((f"`{key}`", STAGE[key]) for key in ("kill_grace", "max_wait_time", "start_timeout")),
    *((f"`{key}`", GATEWAY[key]) for key in ("restart_grace", "drain_grace")),
]


@pytest.mark.parametrize(("row", "one"), DECLARED)
def test_a_row_has_the_settings_default_and_its_flag(row: str, one: SettingDeclaration) -> None:
    _, _, _, default, _, where, _ = ROWS[row]
    if one.default is None:
        assert "the request's" in default
    else:
        assert f"`{show_duration(one.default)}`" in default
    assert one.name in where
    assert bool(one.flag) == (one.flag in re.findall(r"--[a-z-]+", where))


def test_every_setting_that_is_a_duration_has_a_row() -> None:
    durations = [
        one for one in (*GATEWAY.values(), *STAGE.values()) if isinstance(one.kind, Duration)
    ]
    assert durations == [one for one in durations if one in [each for _, each in DECLARED]]
    assert len(ROWS) == len(durations)


def test_what_a_script_waits_for_a_batch_is_there_too() -> None:
    assert f"`--wait`, {DEFAULT_WAIT_S:g} ms" in ROWS["`max_wait_time`"][3]
