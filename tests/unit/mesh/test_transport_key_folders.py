"""A folder of keys for each part of a service: what is in it, and what is not."""

from pathlib import Path

import pytest

from mesh.errors import SettingsError
from mesh.transport.allowlist import read_allowance
from mesh.transport.curve import Keys, read_pair
from mesh.transport.key_folders import generate_apart

STAGES = {"decode": True, "recognize": False}
WANTED = {
    "gateway": {"gateway.key"},
    "stage-decode": {"stage-decode.key", "supervisor.key", "feed.key"},
    "stage-recognize": {"stage-recognize.key", "supervisor.key"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    generate_apart(made, STAGES)
    return made


def test_each_part_has_what_it_needs_and_nothing_else(folder: Path) -> None:
    assert {one.name for one in folder.iterdir()} == set(WANTED)
    for part, names in WANTED.items():
        assert (folder / part).stat().st_mode & 0o777 == 0o700
        assert {one.name for one in (folder / part).iterdir()} == names | {"allowed.toml"}
    Keys(str(folder / "gateway"), (), "gateway")
    Keys(str(folder / "stage-decode"), ["stage-decode", "stage"], "feed")
    Keys(str(folder / "stage-decode"), ["supervisor"])
    Keys(str(folder / "stage-recognize"), ["stage-recognize", "stage"])


def test_no_two_parts_share_a_secret_but_that_of_feeds(folder: Path) -> None:
    files = [one for one in folder.rglob("*.key") if one.name != "feed.key"]
    assert len({read_pair(one) for one in files}) == len(files)


def test_all_have_the_same_list(folder: Path) -> None:
    (text,) = {(folder / part / "allowed.toml").read_text() for part in WANTED}
    allowance = read_allowance(text, "allowed.toml")
    for role, number in {"gateway": 1, "feed": 1, "stage": 2, "supervisor": 2, "client": 0}.items():
        assert len(allowance.keys_for(role)) == number
    assert 'stage = "recognize"' in text


def test_a_service_without_feeds_has_no_key_for_them(tmp_path: Path) -> None:
    generate_apart(tmp_path, {"echo": False})
    assert not list(tmp_path.rglob("feed.key"))
    assert '"feed"' not in (tmp_path / "gateway" / "allowed.toml").read_text()


def test_folders_that_are_there_are_filled_as_they_are(tmp_path: Path) -> None:
    """As mounted volumes are."""
    (tmp_path / "gateway").mkdir(0o750)
    generate_apart(tmp_path, {})
    assert (tmp_path / "gateway").stat().st_mode & 0o777 == 0o750


def test_keys_that_are_there_stay(folder: Path) -> None:
    before = {one: one.read_text() for one in folder.rglob("*.*")}
    with pytest.raises(SettingsError, match=r"gateway\.key: File exists"):
        generate_apart(folder, STAGES)
    assert {one: one.read_text() for one in folder.rglob("*.*")} == before
