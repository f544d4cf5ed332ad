"""What older releases say is understood: a rolling update has both side by side."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.protocol.wire import VERSION, decode
from tests.recorded.record import FOLDER, NOW, plain, record

FILES = sorted(FOLDER.glob("*.json"))
RECORDED = [
    pytest.param(one, id=f"{file.stem}-{number}-{one['type']}")
    for file in FILES
    for number, one in enumerate(json.loads(file.read_text()))
]


def begins(present: Any, recorded: Any) -> bool:
    """Whether the present value is the recorded one, but for fields that came later."""
    if isinstance(recorded, dict) and "fields" in recorded:
        now, then = present["fields"], recorded["fields"]
        return len(now) >= len(then) and all(map(begins, now, then))
    if isinstance(recorded, list):
        return len(present) == len(recorded) and all(map(begins, present, recorded))
    return bool(present == recorded)


@pytest.mark.parametrize("one", RECORDED)
def test_what_an_older_release_says_is_read_as_it_was_meant(one: dict[str, Any]) -> None:
    header, message = decode([bytes.fromhex(frame) for frame in one["frames"]], NOW)
    assert begins(plain(header), one["header"])
    assert begins(plain(message), one["message"])


def test_this_version_of_the_protocol_is_recorded() -> None:
    assert f"v{VERSION}" in {file.stem for file in FILES}
    assert all(file.stem.startswith("v") for file in FILES)


def test_all_that_this_release_says_is_recorded() -> None:
    known = [one["frames"] for file in FILES for one in json.loads(file.read_text())]
    new = [one["message"] for one in record() if one["frames"] not in known]
    assert new == [], "a field was added: say it in `samples`, and record it under a new name"


def test_a_changed_value_is_noticed() -> None:
    assert not begins({"fields": [1, 2]}, {"fields": [1, 3]})
    assert not begins({"fields": [1]}, {"fields": [1, 3]})
    assert not begins([1, 2, 3], [1, 2])
    assert begins({"fields": [1, [2], 3]}, {"fields": [1, [2]]})
