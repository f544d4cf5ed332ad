"""Tests for ports: no number is handed out twice while a server may still be about to use it."""

import socket
import subprocess
import sys

import pytest

from benchmarks import ports

ASK = "from benchmarks.ports import free_port; print(*(free_port() for _ in range(50)))"


@pytest.fixture
def turn(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "TURN", tmp_path / "turn")
    return tmp_path / "turn"


def test_processes_that_ask_at_the_same_time_get_different_ports():
    asking = [
        subprocess.Popen([sys.executable, "-c", ASK], stdout=subprocess.PIPE) for _ in range(2)
    ]
    drawn = [port for one in asking for port in one.communicate()[0].split()]
    assert len(set(drawn)) == len(drawn) == 100


def test_a_port_that_is_listened_on_is_passed_over(turn):
    first = ports.free_port()
    with socket.create_server(("127.0.0.1", first + 1)):
        assert ports.free_ports(2) > first + 1


def test_the_turn_begins_again_after_the_last_port(turn):
    turn.write_text(str(ports.AFTER_LAST - 1))
    assert ports.FIRST <= ports.free_ports(2) < ports.AFTER_LAST - 1
