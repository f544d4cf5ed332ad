"""Whether anybody listens, as a kernel tells it: at paths and ports of this machine."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from mesh.transport.port_probe import Answer, Knocker


class Clock:
    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def knocker(clock: Clock) -> Knocker:
    return Knocker(clock)


def answers(knocker: Knocker, clock: Clock) -> list[Answer]:
    """Wait for an answer as its clock goes."""
    found = knocker.answers()
    while not found and knocker.next_due() < float("inf"):
        clock.now = knocker.next_due()
        found = knocker.answers()
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_before_and_after_its_end(knocker: Knocker, clock: Clock, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host.strip("[]"), 0))
        listener.listen()
        address = f"tcp://{host}:{listener.getsockname()[1]}"
        knocker.knock(7, address)
        assert answers(knocker, clock) == [(7, True)]
    knocker.knock(7, address)
    assert answers(knocker, clock) == [(7, False)]
    assert not knocker.is_answered


def test_a_path_before_and_after_its_end(knocker: Knocker, tmp_path: Path) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        for peer in range(3):  # where its queue is full somebody listens, too
            knocker.knock(peer, f"ipc://{path}")
        assert knocker.is_answered
        assert knocker.answers() == [(0, True), (1, True), (2, True)]
    knocker.knock(3, f"ipc://{path}")
    path.unlink()
    knocker.knock(4, f"ipc://{path}")
    assert knocker.answers() == [(3, False), (4, False)]


def test_an_abstract_path(knocker: Knocker) -> None:
    assert not knocker.awaiting
    knocker.knock(1, "ipc://@nobody-of-this-name")
    assert knocker.awaiting
    assert knocker.answers() == [(1, False)]
    assert not knocker.awaiting


@pytest.mark.parametrize(
    "address",
    [
        "tcp://a-name:7000",
        "tcp://10.0.0.7:port",
        "tcp://10.0.0.7:70000",
        "tcp://[fe80::1%nowhere]:7000",
        "ipc:///" + "long" * 60,
        "ipc:///\ud800",
        "nonsense",
    ],
)
def test_where_nothing_can_be_asked_at_once_there_is_no_answer(
    knocker: Knocker, clock: Clock, address: str
) -> None:
    knocker.knock(1, address)
    assert answers(knocker, clock) == []


def test_without_a_descriptor_there_is_no_answer(
    knocker: Knocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    knocker.knock(1, "tcp://127.0.0.1:7000")
    assert knocker.answers() == []


def test_who_does_not_answer_is_not_awaited_for_long(knocker: Knocker, clock: Clock) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()):  # its queue is full: SYNs are lost
            knocker.knock(1, address)
            knocker.knock(1, address)
            assert answers(knocker, clock) == []
            assert clock.now < 1.2
            knocker.knock(1, address)
            knocker.close()
            assert knocker.next_due() == float("inf")
