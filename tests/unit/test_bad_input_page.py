"""docs/bad_input.md names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bad_input.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


def functions(file: str) -> set[str]:
    """The functions at the top level of a file below tests/."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_what_the_page_names_is_there(file: str) -> None:
    assert {name for each, name in NAMED if each == file} <= functions(file)


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| what |", "| --- |"))]
    assert len(rows) > 30
    assert [row for row in rows if "::test_" not in row] == []
