"""The pages that list cases name tests that exist, one at least in each row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("bad_input.md", "field.md")
TEXTS = {page: (ROOT / "docs" / page).read_text() for page in PAGES}
NAMED = sorted(
    {pair for text in TEXTS.values() for pair in re.findall(r"`([\w/]+\.py)::(\w+)`", text)}
)
HEADINGS = ("| what |", "| what a user does |", "| --- |")


def functions(file: str) -> set[str]:
    """The functions at the top level of a file below tests/."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_what_the_pages_name_is_there(file: str) -> None:
    assert {name for each, name in NAMED if each == file} <= functions(file)


@pytest.mark.parametrize("page", PAGES)
def test_every_row_names_a_test(page: str) -> None:
    rows = [line for line in TEXTS[page].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(HEADINGS)]
    assert [row for row in rows if "::test_" not in row] == []
