"""Where the gateways are."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from mesh.transport import discovery
from mesh.transport.discovery import Discovery, is_numeric, local_address, resolve

TWO = [(2, 1, 6, "", ("10.0.0.1", 7000)), (10, 1, 6, "", ("fd00::1", 7000, 0, 0))]


@pytest.mark.parametrize(
    ("address", "numeric"),
    [
        ("tcp://10.0.0.7:7000", True),
        ("tcp://[fd00::1]:7000", True),
        ("ipc:///run/gateway.sock", True),
        ("tcp://gateway:7000", False),
        ("file:///run/gateways", False),
        ("ipc:///run/gateway.sock*", False),
        ("tcp://gateway.prod.svc.cluster.local:7000", False),
    ],
)
def test_names_are_told_from_numbers(address: str, numeric: bool) -> None:
    assert is_numeric(address) is numeric


def answering(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[Any]:
    """Let the name server answer this, one after another; the last for ever."""
    asked: list[Any] = []
    left = list(answers)

    def getaddrinfo(host: str, port: int, **_: Any) -> Any:
        asked.append((host, port))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_all_records_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, TWO)
    assert resolve("tcp://gateway:7000") == {"tcp://10.0.0.1:7000", "tcp://[fd00::1]:7000"}
    assert asked == [("gateway", 7000)]


def test_a_name_may_stand_for_many_but_not_for_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [(2, 1, 6, "", (f"10.0.{n // 256}.{n % 256}", 7000)) for n in range(1000)]
    answering(monkeypatch, many)
    assert len(resolve("tcp://gateway:7000")) == discovery.MAX_ADDRESSES


def test_an_unknown_name_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, socket.gaierror("Name or service not known"))
    assert resolve("tcp://gateway:7000") == set()


def test_a_file_has_addresses_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, TWO[:1])
    file = tmp_path / "gateways"
    assert resolve(f"file://{file}") == set()
    file.write_text("# ours\n\ntcp://10.0.0.7:7000\n  tcp://gateway:7000 \nhttp://no\n")
    assert resolve(f"file://{file}") == {"tcp://10.0.0.7:7000", "tcp://10.0.0.1:7000"}
    file.write_bytes(b"\xff\xfe")
    assert resolve(f"file://{file}") == set()
    assert local_address(f"file://{file}") == ""


def test_a_file_is_read_again_and_kept_while_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "LOOKUP_INTERVAL_S", 0.005)
    file = tmp_path / "gateways"
    file.write_text("tcp://10.0.0.1:1")
    followed = Followed(f"file://{file}")
    followed.discovery.start()
    assert followed.news.acquire(timeout=5)
    file.unlink()
    (tmp_path / "new").write_text("tcp://10.0.0.1:1\ntcp://10.0.0.2:1")
    (tmp_path / "new").rename(file)
    assert followed.news.acquire(timeout=5)
    assert followed.found == [{"tcp://10.0.0.1:1"}, {"tcp://10.0.0.1:1", "tcp://10.0.0.2:1"}]
    followed.stop()


class Followed:
    """A discovery, and what it found; each finding can be awaited."""

    def __init__(self, *addresses: str) -> None:
        self.found: list[set[str]] = []
        self.news = threading.Semaphore(0)
        self.discovery = Discovery(addresses, self._take)

    def _take(self, found: set[str]) -> None:
        self.found.append(found)
        self.news.release()

    def stop(self) -> None:
        self.discovery.stop()
        for thread in threading.enumerate():
            if thread.name == "discovery":
                thread.join(5)


def test_sockets_beside_the_first_are_found_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of gateway processes of which only they themselves know how many they are."""
    monkeypatch.setattr(discovery, "LOOKUP_INTERVAL_S", 0.005)
    first = f"ipc://{tmp_path}/gateway.sock"
    assert resolve(f"{first}*") == {first}
    (tmp_path / "gateway.sock").touch()
    for name in ("gateway.sock-2", "gateway.sock-x", "gateway.sock-02", "a-gateway.sock-3"):
        (tmp_path / name).touch()
    assert resolve(f"{first}*") == {first, f"{first}-2"}
    followed = Followed(f"{first}*")
    assert followed.discovery.known == {first}
    followed.discovery.start()
    assert followed.news.acquire(timeout=5)
    (tmp_path / "gateway.sock-3").touch()
    assert followed.news.acquire(timeout=5)
    followed.stop()
    assert followed.found[-1] == {first, f"{first}-2", f"{first}-3"}
    assert resolve("ipc:///no/such/folder/gateway.sock*") == {"ipc:///no/such/folder/gateway.sock"}
    assert local_address(f"{first}*") == "127.0.0.1"


def test_numbers_need_no_thread() -> None:
    followed = Followed("tcp://10.0.0.7:7000", "ipc:///run/x.sock")
    followed.discovery.start()
    assert followed.discovery.known == {"tcp://10.0.0.7:7000", "ipc:///run/x.sock"}
    assert all(thread.name != "discovery" for thread in threading.enumerate())
    followed.stop()


def test_a_name_is_followed_and_its_last_good_answer_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "LOOKUP_INTERVAL_S", 0.001)
    asked = answering(monkeypatch, [TWO[0]], socket.gaierror("try again"), [TWO[0]], TWO)
    followed = Followed("tcp://gateway:7000", "tcp://10.9.9.9:7000")
    followed.discovery.start()
    try:
        assert followed.news.acquire(timeout=5)
        assert followed.news.acquire(timeout=5)
    finally:
        followed.stop()
    first = {"tcp://10.9.9.9:7000", "tcp://10.0.0.1:7000"}
    assert followed.found == [first, {*first, "tcp://[fd00::1]:7000"}]
    assert len(asked) >= 4


def test_nothing_is_told_after_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = Followed("tcp://gateway:7000")
    asking = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        asking.set()
        followed.discovery.stop()
        return TWO

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    followed.discovery.start()
    assert asking.wait(5)
    followed.stop()
    assert followed.found == []


def test_stop_waits_for_what_is_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, TWO)
    telling, may_end = threading.Event(), threading.Event()
    told: list[set[str]] = []

    def found(addresses: set[str]) -> None:
        telling.set()
        assert may_end.wait(5)
        told.append(addresses)

    one = Discovery(["tcp://gateway:7000"], found)
    one.start()
    assert telling.wait(5)
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()
    may_end.set()
    stopping.join(5)
    assert told
    for thread in threading.enumerate():
        if thread.name == "discovery":
            thread.join(5)


def test_the_local_address_is_the_one_seen_from_there() -> None:
    assert local_address("tcp://127.0.0.1:7000") == "127.0.0.1"
    assert local_address("tcp://[::1]:7000") in ("::1", "127.0.0.1")


def test_towards_an_unknown_name_there_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, socket.gaierror("Name or service not known"))
    assert local_address("tcp://gateway:7000") == ""
    assert local_address("ipc:///run/gateway.sock") == "127.0.0.1"
