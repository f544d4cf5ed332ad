"""The pages that list cases name tests that exist, one at least in each row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("bad_input.md", "field.md", "security.md")
TEXTS = {page: (ROOT / "docs" / page).read_text() for page in PAGES}
NAMED = sorted(
    {pair for text in TEXTS.values() for pair in re.findall(r"`([\w/]+\.py)::(\w+)`", text)}
)


def rows_with_tests(text: str) -> list[str]:
    """The rows of those tables whose last column is for tests."""
    rows: list[str] = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heading, _, *others = table.splitlines()
        if heading.endswith("| tests |"):
            rows += others
    return rows


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
    rows = rows_with_tests(TEXTS[page])
    assert rows
    assert [row for row in rows if "::test_" not in row] == []
