"""Which of the addresses that peers name are dialled."""

import os
import stat
from pathlib import Path
from time import monotonic

import pytest

from mesh.errors import StartError
from mesh.supervision.diagnosis import why
from mesh.transport.dialable import is_dialable
from mesh.transport.zeromq import ZmqNetwork


@pytest.mark.parametrize(("mode", "dialled"), [(0o700, True), (0o770, False), (0o707, False)])
def test_an_ipc_path_is_dialled_where_nobody_else_can_put_a_socket(
    tmp_path: Path, mode: int, dialled: bool
) -> None:
    tmp_path.chmod(mode)
    assert is_dialable(f"ipc://{tmp_path}/feed.sock") is dialled


def test_an_ipc_path_in_the_folder_of_another_user_is_not_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    facts = list(tmp_path.stat())
    facts[stat.ST_UID] = os.getuid() + 12_345
    with monkeypatch.context() as patch:
        patch.setattr("mesh.transport.dialable.os.stat", lambda folder: os.stat_result(facts))
        dialled = is_dialable(f"ipc://{tmp_path}/feed.sock")
    assert not dialled


@pytest.mark.parametrize(
    "address",
    ["ipc:///nowhere/at/all/x.sock", "ipc://@abstract", "ipc:///a\0b/c", "", "udp://10.0.0.7:1"],
)
def test_what_is_no_address_of_a_feed(address: str) -> None:
    assert not is_dialable(address)


def test_a_socket_is_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    network, before = ZmqNetwork(monotonic), os.umask(0)
    try:
        network.listen(f"ipc://{tmp_path}/g.sock")
        mode = (tmp_path / "g.sock").stat().st_mode
    finally:
        assert os.umask(before) == 0
        network.close()
    assert stat.S_IMODE(mode) & 0o077 == 0


@pytest.mark.parametrize("mode", [0o770, 0o1777])
def test_no_socket_where_others_can_put_theirs(tmp_path: Path, mode: int) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    network = ZmqNetwork(monotonic)
    with pytest.raises(StartError, match=r"other users can put sockets of theirs into .*mode 700"):
        network.listen(f"ipc://{shared}/g.sock")
    network.dial(1, f"ipc://{shared}/g.sock")  # it is a gateway's: nobody has said otherwise
    assert network._dialled == {}
    network.close()
    assert why(f"ipc://{shared}/g.sock", {}, False).startswith("other users can put")
    assert list(shared.iterdir()) == []
