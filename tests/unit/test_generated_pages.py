"""The pages of docs/ that the code declares are what it declares now: `docs/generate.py`."""

from __future__ import annotations

import runpy
from typing import Any

import laws
import pytest


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(laws.ROOT / "docs/generate.py"))


def test_no_page_is_stale(generator: dict[str, Any]) -> None:
    assert generator["stale"]() == [], "run `make docs`"


def test_a_stale_page_is_noticed(generator: dict[str, Any]) -> None:
    pages = generator["stale"].__globals__["PAGES"]
    pages["settings.md"] = lambda: "something else"
    assert generator["stale"]() == ["settings.md"]


def test_every_kind_of_value_says_how_it_is_written(generator: dict[str, Any]) -> None:
    from mesh.config.schema import entries
    from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings

    written = generator["_WRITTEN"].keys() | {"text"}
    for owner in (GatewaySettings, MeshSettings, StageSettings):
        for one in entries(owner).values():
            assert hasattr(one.kind, "words") or one.kind.noun in written, one.name
