"""DESIGN.md stays short enough to be read, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "DESIGN.md").read_text(encoding="utf-8")
PAGES = ["DESIGN.md", "docs/protocol.md", "docs/explanation.md"]
MOST_WORDS = 3000
MOST_COLUMNS = 100
FILES_TO_READ = 5
MOST_LINES_TO_READ = 1500  # what a newcomer reads to know one request

_LINK = re.compile(r"\]\(([\w./-]*)(?:#([\w-]+))?\)")
_PATH = re.compile(r"`((?:mesh|gateway|stage|tests|docs)/[\w/.]*)`")


def section(title: str) -> str:
    """The text of one section of DESIGN.md."""
    return re.split(r"^## \d+\. ", PAGE, flags=re.MULTILINE)[_titles().index(title) + 1]


def _titles() -> list[str]:
    return re.findall(r"^## \d+\. (.+)$", PAGE, re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def test_it_has_no_more_words_than_are_read_in_a_quarter_of_an_hour() -> None:
    assert len(PAGE.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES)
def test_lines_outside_of_tables_fit_into_a_terminal(page: str) -> None:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    wide = [line for line in lines if len(line) > MOST_COLUMNS and not line.startswith("|")]
    assert wide == []


@pytest.mark.parametrize("page", PAGES)
def test_what_its_links_lead_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path, anchor in _LINK.findall(text):
        target = ((ROOT / page).parent / path) if path else ROOT / page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), (path, anchor)


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_the_files_that_it_names_are_there(page: str) -> None:
    named = _PATH.findall((ROOT / page).read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists() and "NAME" not in path] == []


def test_every_section_is_in_the_table_of_contents() -> None:
    contents = PAGE[PAGE.index("## Contents") : PAGE.index("## 1. ")]
    linked = [anchor for _, anchor in _LINK.findall(contents)]
    assert linked == [
        re.sub(r"[^\w -]", "", f"{number}. {title}".lower()).replace(" ", "-")
        for number, title in enumerate(_titles(), 1)
    ]


def test_five_short_files_explain_one_request() -> None:
    order = re.findall(r"^\d\. `([\w/]+\.py)`", section("Where to start reading"), re.MULTILINE)
    assert len(set(order)) == FILES_TO_READ
    lines = [len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in order]
    assert sum(lines) < MOST_LINES_TO_READ
    assert "1,500 lines" in section("Where to start reading")


def test_a_request_through_two_stages_is_drawn_once() -> None:
    assert PAGE.count("sequenceDiagram") == 1
