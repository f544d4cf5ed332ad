"""Whether anybody listens, as a kernel tells it: at paths and ports of this machine."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from mesh.transport.port_probe import Answer, PortProber


class Clock:
    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def prober(clock: Clock) -> PortProber:
    return PortProber(clock)


def answers(prober: PortProber, clock: Clock) -> list[Answer]:
    """Wait for an answer as its clock goes."""
    found = prober.answers()
    while not found and prober.next_due() < float("inf"):
        clock.now = prober.next_due()
        found = prober.answers()
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_before_and_after_its_end(prober: PortProber, clock: Clock, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host.strip("[]"), 0))
        listener.listen()
        address = f"tcp://{host}:{listener.getsockname()[1]}"
        prober.probe(7, address)
        assert answers(prober, clock) == [(7, True)]
    prober.probe(7, address)
    assert answers(prober, clock) == [(7, False)]
    assert not prober.is_answered


def test_a_path_before_and_after_its_end(prober: PortProber, tmp_path: Path) -> None:
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        for peer in range(3):  # where its queue is full somebody listens, too
            prober.probe(peer, f"ipc://{path}")
        assert prober.is_answered
        assert prober.answers() == [(0, True), (1, True), (2, True)]
    prober.probe(3, f"ipc://{path}")
    path.unlink()
    prober.probe(4, f"ipc://{path}")
    assert prober.answers() == [(3, False), (4, False)]


def test_an_abstract_path(prober: PortProber) -> None:
    assert not prober.awaiting
    prober.probe(1, "ipc://@nobody-of-this-name")
    assert prober.awaiting
    assert prober.answers() == [(1, False)]
    assert not prober.awaiting


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
    prober: PortProber, clock: Clock, address: str
) -> None:
    prober.probe(1, address)
    assert answers(prober, clock) == []


def test_without_a_descriptor_there_is_no_answer(
    prober: PortProber, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    prober.probe(1, "tcp://127.0.0.1:7000")
    assert prober.answers() == []


def test_who_does_not_answer_is_not_awaited_for_long(prober: PortProber, clock: Clock) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(listener.getsockname()):  # its queue is full: SYNs are lost
            prober.probe(1, address)
            prober.probe(1, address)
            assert answers(prober, clock) == []
            assert clock.now < 1.2
            prober.probe(1, address)
            prober.close()
            assert prober.next_due() == float("inf")
