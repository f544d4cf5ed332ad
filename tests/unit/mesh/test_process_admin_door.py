"""The operators' address: bound once, private where it is a path, given back at the end."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from mesh.errors import StartError
from mesh.process.admin_door import AdminDoor


def test_a_port_is_bound_and_given_back() -> None:
    with AdminDoor("127.0.0.1:0") as admin:
        with socket.socket(fileno=os.dup(admin.doors[0])) as door:
            address = door.getsockname()
            door.listen(1)
        with pytest.raises(StartError, match=r"\[gateway\] admin: cannot listen at 127\.0\.0\.1"):
            AdminDoor(f"127.0.0.1:{address[1]}")
    with AdminDoor(f"127.0.0.1:{address[1]}"):
        pass


def test_a_path_is_private_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with AdminDoor(f"unix:{path}") as admin:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        (own,) = admin.take()
        own.listen(1)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        with pytest.raises(StartError, match="in use"):
            AdminDoor(f"unix:{path}")
        own.close()
    assert not path.exists()


def test_a_socket_that_somebody_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with AdminDoor(f"unix:{path}") as admin:
        assert len(admin.doors) == 1


def test_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(StartError, match="in use"):
        AdminDoor(f"unix:{path}")
    assert path.read_text() == "precious"


def test_a_path_that_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        AdminDoor(f"unix:{tmp_path}/none/admin.sock")
    with pytest.raises(StartError, match="too long"):
        AdminDoor(f"unix:{tmp_path}/{'a' * 200}")


def test_a_listener_that_is_too_busy_is_not_one_that_left(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)
        waiting.connect(str(path))
        with pytest.raises(StartError, match="in use"):
            AdminDoor(f"unix:{path}")
