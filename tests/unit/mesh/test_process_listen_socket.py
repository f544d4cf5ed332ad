"""A port that is bound by one process and listened on by others."""

from __future__ import annotations

import os
import socket

import pytest

from mesh.errors import StartError
from mesh.process.listen_socket import ListenSocket, bound, inherited, look_up, shared_crowd


def address(front: ListenSocket) -> tuple[str, int]:
    with socket.socket(fileno=os.dup(front.doors[0])) as door:
        host, port = door.getsockname()[:2]
        return host, port


def test_a_port_that_is_only_bound_refuses() -> None:
    with ListenSocket("127.0.0.1", 0, 2) as front, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address(front))


def test_who_waits_outlives_the_process_that_listened() -> None:
    with ListenSocket("127.0.0.1", 0, 2) as front:
        first, second = (inherited([os.dup(front.doors[0])])[0] for _ in range(2))
        assert not first.get_inheritable()
        first.listen(5)
        with socket.create_connection(address(front)) as client:
            first.close()
            second.listen(5)
            taken, _ = second.accept()
            taken.sendall(b"hello")
            assert client.recv(5) == b"hello"
            taken.close()
        with pytest.raises(BlockingIOError):
            second.accept()
        second.close()


def test_it_is_refused_again_when_all_have_closed() -> None:
    with ListenSocket("127.0.0.1", 0, 2) as front:
        where = address(front)
        (door,) = inherited([os.dup(front.doors[0])])
        door.listen(5)
        door.close()
        with socket.create_connection(where):
            pass
        front.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(where)


def test_the_processes_share_their_counts() -> None:
    with ListenSocket("127.0.0.1", 0, 2) as front:
        assert front.descriptors == (*front.doors, front.crowd_fd)
        other = shared_crowd(front.crowd_fd)
        other.count(2, 8)
        assert not front.accept_balance.is_alone(1)
        assert front.accept_balance.room(1) == 11


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"127.0.0.1:{port}: .+; choose another port"):
            ListenSocket("127.0.0.1", port, 1)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(StartError, match="HTTP cannot listen at no-such-name.invalid:0"):
        ListenSocket("no-such-name.invalid", 0, 1)


def test_all_addresses_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = look_up("127.0.0.1", 0)
        with pytest.raises(OSError, match="in use"):
            bound(free + look_up("127.0.0.1", taken.getsockname()[1]))


def test_an_empty_host_means_every_interface() -> None:
    sockets = bound(look_up("", 0))
    try:
        assert {one.getsockname()[0] for one in sockets} <= {"0.0.0.0", "::"}
        assert sockets
    finally:
        for one in sockets:
            one.close()
