"""Which stop signals a process takes, and how it keeps them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from mesh.process.signals import STOP_SIGNALS, HeldSignals, waitable_children, wanted_stops

ALL = (*STOP_SIGNALS, signal.SIGUSR1, signal.SIGCHLD)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in ALL}
    yield
    signal.set_wakeup_fd(-1)
    for number, reaction in former.items():
        signal.signal(number, reaction)


class Held:
    """Signals that are taken, and the pipe that they are written to."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.seen: list[int] = []
        reactions = {signal.SIGUSR1: lambda number, _: self.seen.append(number)}
        self.signals = HeldSignals([signal.SIGTERM], reactions, self.write)
        self.signals.take()

    def noticed(self) -> list[int]:
        try:
            return list(os.read(self.read, 64))
        except BlockingIOError:
            return []


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.signals.release()
    os.close(made.read)
    os.close(made.write)


def test_what_is_ignored_is_not_taken_but_for_sigterm() -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    assert wanted_stops() == (signal.SIGTERM,)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert wanted_stops() == (signal.SIGTERM, signal.SIGHUP)


def test_a_signal_is_written_once(held: Held) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert held.noticed() == [signal.SIGTERM]


def test_a_signal_is_noticed_although_the_descriptor_was_replaced(held: Held) -> None:
    signal.set_wakeup_fd(-1)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        assert held.noticed() == [signal.SIGTERM]


def test_a_full_pipe_is_no_trouble(held: Held) -> None:
    while True:
        try:
            os.write(held.write, bytes(4096))
        except BlockingIOError:
            break
    signal.set_wakeup_fd(-1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.set_wakeup_fd(-1) == held.write


def test_what_was_replaced_is_taken_back_and_told_of_once(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    held.signals.retake()
    assert not caplog.messages
    for _ in range(2):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        assert not held.signals.holds(signal.SIGUSR1)
        held.signals.retake()
        assert held.signals.holds(signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert held.seen == [signal.SIGUSR1]
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    (line,) = caplog.messages
    assert "SIGUSR1" in line
    assert "SIGTERM" not in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_cheap_look_sees_what_was_replaced(held: Held, number: signal.Signals) -> None:
    assert held.signals.are_intact()
    signal.signal(number, signal.SIG_DFL)
    assert not held.signals.are_intact()
    held.signals.retake()
    assert held.signals.are_intact()


def test_released_signals_do_nothing(held: Held) -> None:
    held.signals.release()
    os.kill(os.getpid(), signal.SIGTERM)
    assert held.noticed() == []


def test_children_can_be_waited_for_inside() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with waitable_children():
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
        assert subprocess.run([sys.executable, "-c", "exit(7)"], check=False).returncode == 7
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN


def test_another_thread_changes_nothing() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def inside() -> None:
        with waitable_children():
            assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
        done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert done


def test_a_process_prepares_itself() -> None:
    text = """
import signal
from mesh.process.signals import prepare
print(*map(int, prepare()), signal.getsignal(signal.SIGCHLD), signal.pthread_sigmask(0, []))
"""
    command = ["env", "--ignore-signal=INT", "--ignore-signal=CHLD", "--block-signal=TERM"]
    told = subprocess.run(
        [*command, sys.executable, "-c", text], capture_output=True, text=True, check=True
    )
    assert told.stdout == "15 1 0 set()\n"
