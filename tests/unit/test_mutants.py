"""The list of mutants: each can be made, and the page that lists them lists them all."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "simulation"), str(ROOT / "tests" / "unit" / "mesh")]

from faults import PROFILES  # noqa: E402
from mutants import MUTANTS, all_mutants  # noqa: E402
from rule_mutants import JUDGES, judge_mutants  # noqa: E402
from wire_samples import BY_HAND  # noqa: E402

from mesh.protocol.messages import Role  # noqa: E402

PAGE = (ROOT / "docs" / "reliability.md").read_text()
ROWS = dict(
    re.findall(r"^\| ([^|]+) \| `([\w/]+\.py)` \| [^|*]+ \| [\d, ]*\|$", PAGE, re.MULTILINE)
)


def changed(mutant):
    text = (ROOT / mutant.module).read_text()
    assert text.count(mutant.text) == 1, mutant.what
    return text.replace(mutant.text, mutant.instead)


def test_what_each_mutant_replaces_stands_there_once_and_is_python_afterwards() -> None:
    for mutant in all_mutants():
        text = changed(mutant)
        assert text != (ROOT / mutant.module).read_text(), mutant.what
        compile(text, mutant.module, "exec")


def test_the_page_lists_each_mutant_and_no_other() -> None:
    assert {mutant.what: mutant.module for mutant in MUTANTS} == ROWS


def test_the_page_lists_each_profile() -> None:
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    assert {name for names in listed for name in re.findall(r"\w+", names)} == set(PROFILES)


def test_what_honest_members_say_is_taken_out_of_each_row() -> None:
    spoken = [row for row in BY_HAND if Role.CLIENT not in row[:2]]
    taken = [one for one in all_mutants() if one.what.startswith("take ") and not one.tests]
    assert sum("out of the row" in one.what for one in taken) == sum(
        len(BY_HAND[row]) for row in spoken
    )


def test_each_judge_has_mutants_and_a_file_of_tests() -> None:
    made = {(one.module, one.what.partition(":")[0]) for one in judge_mutants()}
    assert set(JUDGES) == made
    assert all((ROOT / tests).is_file() for tests in JUDGES.values())
