"""The coverage gate lets through what is wholly tested, and names what is not."""

from __future__ import annotations

from pathlib import Path

import coverage_gate
import pytest

MODULE = """\
def sign(number):
    if number < 0:
        return -1
    return 1
"""
WHOLE = """\
from mesh.sign import sign

def test_both():
    assert (sign(-3), sign(3)) == (-1, 1)
"""
HALF = """\
from mesh.sign import sign

def test_one():
    assert sign(3) == 1
"""
WRONG = """\
from mesh.sign import sign

def test_both():
    assert (sign(-3), sign(3)) == (1, 1)
"""


def plant(
    root: Path, tests: str, name: str = "test_sign.py", hidden: bool = False
) -> coverage_gate.Verdict:
    """Measure a module `mesh/sign.py` with the `tests` given, in a tree of their own."""
    pragma = "  # pragma: no cover" if hidden else ""
    for path, text in {
        "mesh/__init__.py": "",
        "mesh/sign.py": MODULE.replace("-1", f"-1{pragma}"),
        f"tests/unit/mesh/{name}": tests,
        "conftest.py": "",
        "pytest.ini": "[pytest]\npythonpath = .\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return coverage_gate.measure("mesh/sign.py", root)


@pytest.mark.parametrize("name", ["test_sign.py", "test_mesh_sign.py"])
def test_a_module_that_is_wholly_reached_is_complete(name: str, tmp_path: Path) -> None:
    assert plant(tmp_path, WHOLE, name).complete


def test_a_branch_not_taken_is_named(tmp_path: Path) -> None:
    verdict = plant(tmp_path, HALF)
    assert not verdict.complete
    assert str(verdict) == "mesh/sign.py: lines not reached: 3; branches: 2->3"


def test_a_failing_test_is_shown(tmp_path: Path) -> None:
    verdict = plant(tmp_path, WRONG)
    assert not verdict.complete
    assert "test_both" in str(verdict)


def test_a_module_without_a_test_file_of_its_own_is_incomplete(tmp_path: Path) -> None:
    """Also when another module's tests reach all of it."""
    verdict = plant(tmp_path, WHOLE, "test_other.py")
    assert not verdict.complete
    assert "wants exactly one of tests/unit/mesh/test_sign.py" in str(verdict)


def test_a_hidden_branch_is_not_let_through(tmp_path: Path) -> None:
    verdict = plant(tmp_path, WHOLE, hidden=True)
    assert "hides lines" in str(verdict)


def test_a_jump_to_the_exit_is_called_that() -> None:
    verdict = coverage_gate.Verdict("mesh/sign.py", (), ((2, -1),))
    assert str(verdict).endswith("lines not reached: none; branches: 2->exit")
