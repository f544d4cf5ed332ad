"""docs/explanation.md has every setting in its table, and no other."""

import re
from pathlib import Path

import pytest

from mesh.config.flags import parse_flags
from mesh.config.schema import entries
from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings

PAGE = (Path(__file__).resolve().parents[2] / "docs/explanation.md").read_text()
TABLE = re.search(r"^\| setting \| mesh\.toml .*\n\| ---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
SETTINGS = {
    "": set(entries(MeshSettings)),
    "gateway": set(entries(GatewaySettings)),
    "stages.x": set(entries(StageSettings)),
}
FLAGS = {
    one.flag
    for table in (MeshSettings, GatewaySettings, StageSettings)
    for one in entries(table).values()
    if one.flag
}
OTHER_FLAGS = {"--wait", "--address", "--port", "--debug", "--dry-run"}


def cells(column):
    """One column of the table, row by row."""
    assert TABLE is not None
    return [row.split(" | ")[column] for row in TABLE[1].splitlines()]


def named():
    """The settings of the second column, by table: where a name has none, as the one before it."""
    found = {"": set(), "gateway": set(), "stages.x": set()}
    for cell in cells(1):
        table = ""
        for code in re.findall(r"`([^`]+)`", cell):
            matched = re.fullmatch(r"(?:\[([\w.]+)\] )?([a-z_]+)(?: = .*)?", code)
            if matched is None:  # a variable or a flag
                continue
            table = matched[1] or table
            found[table].add(matched[2])
    return found


@pytest.mark.parametrize("table", SETTINGS)
def test_every_setting_is_in_the_table_and_no_other(table):
    assert named()[table] == SETTINGS[table]


def test_every_flag_of_a_script_is_in_the_table_and_no_other():
    flags = {flag for cell in cells(3) for flag in re.findall(r"`(--[a-z-]+)`", cell)}
    assert flags == FLAGS | OTHER_FLAGS


def test_other_flags_are_ones_that_a_script_reads():
    values = {"--wait": "1", "--address": "h", "--port": "1"}
    given = [part for flag in OTHER_FLAGS for part in (flag, values.get(flag, "")) if part]
    assert parse_flags(given).warnings == []
