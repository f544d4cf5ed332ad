"""What a report on vulnerable versions comes to, and what the lock file holds."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from audit import NO_DATA, verdict  # noqa: E402 - the folder comes first

LOCK = (ROOT / "requirements.lock").read_text()


def report(*dependencies: dict[str, object]) -> str:
    return json.dumps({"dependencies": list(dependencies), "fixes": []})


CLEAN = {"name": "h2", "version": "4.4.1", "vulns": []}
SKIPPED = {"name": "own", "skip_reason": "Dependency not found"}
BAD = {
    "name": "h2",
    "version": "4.2.0",
    "vulns": [{"id": "CVE-2025-57804", "fix_versions": ["4.3.0"]}, {"id": "X", "fix_versions": []}],
}


def test_all_is_well() -> None:
    assert verdict(report(CLEAN)) == (0, ["1 of 1 versions audited, 0 to see to"])


def test_what_is_vulnerable_is_named_with_what_mends_it() -> None:
    code, lines = verdict(report(CLEAN, BAD))
    assert code == 1
    assert lines[:2] == [
        "h2 4.2.0: CVE-2025-57804, mended in 4.3.0",
        "h2 4.2.0: X, mended in no version yet",
    ]


def test_one_version_that_nothing_is_known_of_is_not_passed_over() -> None:
    assert verdict(report(CLEAN, SKIPPED)) == (
        1,
        ["own: could not be audited", "1 of 2 versions audited, 1 to see to"],
    )


@pytest.mark.parametrize("text", ["", "error", "[]", report(SKIPPED), report(SKIPPED, SKIPPED)])
def test_without_data_it_says_that_nothing_was_audited(text: str) -> None:
    assert verdict(text) == (0, [NO_DATA])


# ---- the lock file


def pins() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))


def test_every_pin_has_hashes_and_nothing_else_is_in_the_lock_file() -> None:
    for block in re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", LOCK, flags=re.MULTILINE)):
        first, *hashes = block.strip().split("\n")
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+!-]* \\", first), first
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", one) for one in hashes)


def test_it_names_no_index() -> None:
    assert "://" not in LOCK
    assert "index" not in LOCK
    assert "find-links" not in LOCK


def test_all_that_the_image_needs_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    wanted += project["project"]["optional-dependencies"]["ocr"]
    locked = pins()
    for line in wanted:
        name, bounds = re.fullmatch(r"([a-z0-9-]+)(.*)", line).groups()  # type: ignore[union-attr]
        version = _numbers(locked[name])
        for sign, bound in re.findall(r"(>=|<)([0-9.]+)", bounds):
            held = version >= _numbers(bound) if sign == ">=" else version < _numbers(bound)
            assert held, f"{line}, but {locked[name]} in requirements.lock: run `make lock`"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_h2_is_one_that_lets_no_header_hold_the_end_of_its_line() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    floor = re.search(r'"h2>=([0-9.]+)', text)
    assert floor is not None
    assert _numbers(floor[1]) >= (4, 3)
    assert _numbers(pins()["h2"]) >= (4, 3)


def test_the_image_installs_nothing_that_is_not_pinned() -> None:
    steps = [
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if "pip install" in line
    ]
    assert steps
    for step in steps:
        assert "--require-hashes" in step or "--no-deps --no-build-isolation ." in step, step
