"""Which of the addresses that peers name are dialled."""

import os
import select
import socket
import stat
from pathlib import Path
from time import monotonic

import pytest

from mesh.errors import StartError
from mesh.supervision.diagnosis import why
from mesh.supervision.runtime_dir import RuntimeDir
from mesh.transport.dialable import is_dialable
from mesh.transport.network import NetworkEvent
from mesh.transport.zeromq import ZmqNetwork

NOBODY = 65534


def test_the_feeds_of_a_run_are_dialled() -> None:
    with RuntimeDir() as run:
        assert is_dialable(f"ipc://{run.path}/feed-1.sock")
    assert not is_dialable(f"ipc://{run.path}/feed-1.sock")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Named as those of this user are, and private."""
    folder = tmp_path / f"meshline-{os.getuid()}-{os.getpid()}-ab12"
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize(("mode", "dialled"), [(0o700, True), (0o770, False), (0o707, False)])
def test_a_feed_is_dialled_where_nobody_else_can_put_a_socket(
    run_folder: Path, mode: int, dialled: bool
) -> None:
    run_folder.chmod(mode)
    assert is_dialable(f"ipc://{run_folder}/feed-1.sock") is dialled


def test_a_folder_of_another_user_is_not_entered_whatever_its_name(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, uid = f"ipc://{run_folder}/feed-1.sock", os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: NOBODY)
    assert not is_dialable(address)
    assert not is_dialable(address.replace(f"meshline-{uid}", f"meshline-{NOBODY}"))
    (run_folder.parent / f"meshline-{NOBODY}-1-ab").symlink_to(run_folder)
    assert not is_dialable(f"ipc://{run_folder.parent}/meshline-{NOBODY}-1-ab/feed-1.sock")


def test_a_link_to_a_folder_is_not_followed(run_folder: Path) -> None:
    link = run_folder.parent / f"meshline-{os.getuid()}-1-ab"
    link.symlink_to(run_folder)
    assert not is_dialable(f"ipc://{link}/feed-1.sock")


@pytest.mark.parametrize(
    "name", ["gateway.sock", "bus", "feed-1.sock/../bus", "feed-x.sock", "feed-1.sock\n", ""]
)
def test_in_a_run_folder_nothing_but_feeds_is_dialled(run_folder: Path, name: str) -> None:
    assert not is_dialable(f"ipc://{run_folder}/{name}")


def test_sockets_of_others_in_private_folders_are_not_dialled(tmp_path: Path) -> None:
    """As those of an ssh-agent, or of a message bus, which only this user can reach."""
    agent = tmp_path / "ssh-XXXX"
    agent.mkdir(mode=0o700)
    assert not is_dialable(f"ipc://{agent}/agent.1")
    assert not is_dialable(f"ipc://{agent}/feed-1.sock")


def test_a_feed_that_the_settings_name_is_dialled_at_its_numbers_alone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    feeds = (f"ipc://{folder}/feed",)
    assert is_dialable(f"ipc://{folder}/feed-12", feeds)
    for address in (f"ipc://{folder}/feed", f"ipc://{folder}/feed-x", f"ipc://{folder}/other-1"):
        assert not is_dialable(address, feeds)
    folder.chmod(0o770)
    assert not is_dialable(f"ipc://{folder}/feed-12", feeds)


def test_a_feed_of_the_settings_in_the_folder_of_another_user_is_not_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    address, feeds = f"ipc://{tmp_path}/b-7", [f"ipc://{tmp_path}/b"]
    assert is_dialable(address, feeds)
    facts = list(tmp_path.stat())
    facts[stat.ST_UID] = os.getuid() + 12_345
    with monkeypatch.context() as patch:
        patch.setattr("mesh.transport.dialable.os.stat", lambda folder: os.stat_result(facts))
        dialled = is_dialable(address, feeds)
    assert not dialled


def test_only_what_begins_as_a_feed_of_the_settings_is_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert not is_dialable(f"ipc://{tmp_path}/a-7", [f"ipc://{tmp_path}/b"])


@pytest.mark.parametrize(
    "address",
    [
        *(
            "ipc:///nowhere/at/all/x.sock",
            "ipc://@abstract",
            "ipc:///a\0b/c",
            "",
            "udp://10.0.0.7:1",
        ),
        *("ipc:///run/docker.sock", "ipc://feed-1.sock", "tcp://slow.example:7000", "tcp://h"),
        f"ipc:///nowhere/meshline-{os.getuid()}-1-ab/feed-1.sock",
        f"ipc:///a\0b/meshline-{os.getuid()}-1-ab/feed-1.sock",
    ],
)
def test_what_is_no_address_of_a_feed(address: str) -> None:
    assert not is_dialable(address)


class Doors:
    """Real sockets that note whether anybody has come."""

    def __init__(self, folder: Path) -> None:
        self.unix, self.tcp = socket.socket(socket.AF_UNIX), socket.socket()
        self.unix.bind(str(folder / "bus"))
        self.tcp.bind(("127.0.0.1", 0))
        for one in (self.unix, self.tcp):
            one.listen()
            one.setblocking(False)

    def has_come(self, one: socket.socket) -> bool:
        if not select.select([one], [], [], 0.05)[0]:
            return False
        one.accept()[0].close()
        return True

    def close(self) -> None:
        self.unix.close()
        self.tcp.close()


@pytest.mark.parametrize("deed", ["dial", "probe"])
def test_no_peer_makes_us_connect_to_other_sockets_or_resolve_names(
    tmp_path: Path, deed: str
) -> None:
    """With real sockets: a private folder's other socket, and a name that this host knows."""
    doors, network = Doors(tmp_path), ZmqNetwork(monotonic)
    network.trust((), ())
    port = doors.tcp.getsockname()[1]
    reach = getattr(network, deed)
    try:
        reach(-1, f"ipc://{tmp_path}/bus")
        reach(-2, f"tcp://localhost:{port}")
        assert not doors.has_come(doors.unix)
        assert not doors.has_come(doors.tcp)
        assert network.receive() == []
        reach(-3, f"tcp://127.0.0.1:{port}")
        assert doors.has_come(doors.tcp)
    finally:
        network.close()
        doors.close()


def test_a_gateway_of_ours_is_probed_at_wherever_it_is(tmp_path: Path) -> None:
    """Also where its folder went with it: who drains waits for none that is gone."""
    network, address = ZmqNetwork(monotonic), f"ipc://{tmp_path}/gone/gateway.sock"
    network.probe(7, address)
    assert network.receive() == []
    network.trust({address}, ())
    network.probe(7, address)
    assert network.receive() == [(NetworkEvent.REFUSED, 7, ())]
    network.close()


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
