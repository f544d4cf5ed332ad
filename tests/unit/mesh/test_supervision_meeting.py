"""Where the parts of a service meet: the same place for both sides, and one gateway in it."""

import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mesh.errors import StartError
from mesh.supervision import meeting

ME = os.getuid()


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Two places of our own, with short paths, as sockets need them."""
    import shutil
    import tempfile

    made = [Path(tempfile.mkdtemp(prefix="m")) for _ in range(2)]
    monkeypatch.setattr(meeting, "places", lambda: [str(one) for one in made])
    yield made
    for one in made:
        shutil.rmtree(one)


def test_both_sides_find_the_same_place_in_any_order(places: list[Path]) -> None:
    wanted = f"ipc://{places[0]}/meshline-{ME}-shop-8000/gateway.sock"
    assert meeting.where("shop", 8000) == wanted
    with meeting.held("shop", 8000) as (address, _):
        assert address == wanted
        assert meeting.where("shop", 8000) == wanted
        folder = Path(address.removeprefix("ipc://")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(places[0].iterdir()) == []


def test_services_have_places_of_their_own() -> None:
    found = {meeting.where(name, port) for name in ("a", "b") for port in (1, 2)}
    assert len(found) == 4


def test_a_second_gateway_is_refused_with_the_way_out() -> None:
    with (
        meeting.held("shop", 8000),
        meeting.held("shop", 8001),
        pytest.raises(StartError, match=r"'shop' with the HTTP port 8000 is running.*`bind`"),
        meeting.held("shop", 8000),
    ):
        pass
    with meeting.held("shop", 8000):
        pass


def test_what_nobody_uses_any_more_is_swept_and_what_somebody_uses_is_not(
    places: list[Path],
) -> None:
    meeting.where("left", 1)
    left = places[0] / f"meshline-{ME}-left-1"
    (left / "gateway.sock").touch()
    os.utime(left, (1, 1))
    foreign = places[0] / f"meshline-{ME + 1}-left-1"
    link = places[0] / f"meshline-{ME}-link-1"
    foreign.mkdir(0o700)
    link.symlink_to(foreign)
    with meeting.held("used", 2) as (address, _):
        os.utime(Path(address.removeprefix("ipc://")).parent, (1, 1))
        meeting.where("new", 3)
        there = {one.name for one in places[0].iterdir()}
    assert there == {foreign.name, link.name} | {f"meshline-{ME}-{n}" for n in ("used-2", "new-3")}


def test_a_place_that_cannot_be_had_is_passed_over(
    places: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    taken = places[0] / f"meshline-{ME}-shop-8000"
    taken.mkdir(0o755)
    assert meeting.where("shop", 8000).startswith(f"ipc://{places[1]}/")
    wanted = f"{taken} is not used for sockets: others may enter it (mode 755)"
    assert caplog.messages == [wanted]


def test_one_that_others_could_exchange_is_passed_over(
    places: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    places[0].chmod(0o777)
    assert meeting.where("shop", 8000).startswith(f"ipc://{places[1]}/")
    assert caplog.messages[0].startswith(f"{places[0]} is not used for sockets: others may rename")


def test_nowhere(places: list[Path]) -> None:
    for one in places:
        one.rmdir()
    with pytest.raises(StartError, match="nowhere can a folder for sockets be made"):
        meeting.where("shop", 8000)
    for one in places:
        one.mkdir()


def test_a_name_that_is_too_long_for_a_socket_is_said() -> None:
    with pytest.raises(StartError, match="too deep for sockets"):
        meeting.where("x" * 100, 8000)


def test_those_who_start_at_once_hold_one_place_in_turn(places: list[Path]) -> None:
    """Stages look while gateways come and go; nobody ends up elsewhere."""
    over = threading.Event()

    def look(name: str) -> set[str]:
        found = set()
        while not over.is_set():
            found.add(meeting.where(name, 1))
        return found

    taken = set()
    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look, name) for name in ("a", "b")]
        for _ in range(50):
            with meeting.held("a", 1) as (address, _):
                taken.add(address)
        over.set()
    assert len(taken) == 1
    assert looking[0].result() == taken
    assert len(looking[1].result()) == 1
