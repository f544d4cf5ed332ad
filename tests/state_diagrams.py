"""Reads the state diagrams of DESIGN.md, and compares them with the tables that they draw."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

from mesh.links.states import Transition

PAGE = Path(__file__).resolve().parent.parent / "DESIGN.md"
_DIAGRAM = re.compile(r"```mermaid\nstateDiagram-v2\n(.*?)```", re.DOTALL)
_ARROW = re.compile(r"\s*(\S+) --> (\S+): (.+)")

Arrow = tuple[str, str, str]


def drawn(first_state: str, page: str | None = None) -> set[Arrow]:
    """The arrows of one diagram, as (state, event, next state).

    An arrow may bear several events, with commas between. What leads to the end of the diagram
    bears none, and is no transition.

    Args:
        first_state: a state to which an arrow leads from the start of that diagram alone.
        page: the text of the page, by default of DESIGN.md.
    """
    text = PAGE.read_text(encoding="utf-8") if page is None else page
    diagrams = [arrows_of(diagram) for diagram in _DIAGRAM.findall(text)]
    (found,) = [each for each in diagrams if ("[*]", first_state) in {(s, n) for s, _, n in each}]
    return found


def arrows_of(diagram: str) -> set[Arrow]:
    """The arrows of one diagram's text."""
    found = [match for line in diagram.splitlines() if (match := _ARROW.fullmatch(line))]
    return {
        (state, event, following)
        for state, following, events in (match.groups() for match in found)
        for event in events.split(", ")
    }


def tabled(transitions: Iterable[Transition]) -> set[Arrow]:
    """The arrows that a table says there are."""
    return {(each.state, each.event, each.next) for each in transitions}


def find(by: str) -> object:
    """The function that a table names as ``module:Class.function``.

    Raises:
        ImportError, AttributeError: there is none.
    """
    module, _, name = by.partition(":")
    found: object = importlib.import_module(module)
    for step in name.split("."):
        found = getattr(found, step)
    return found
