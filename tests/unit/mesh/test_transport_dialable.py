"""Which of the addresses that peers name are dialled."""

from pathlib import Path

import pytest

from mesh.transport.dialable import is_dialable


@pytest.mark.parametrize(("mode", "dialled"), [(0o700, True), (0o770, False), (0o707, False)])
def test_an_ipc_path_is_dialled_where_nobody_else_can_put_a_socket(
    tmp_path: Path, mode: int, dialled: bool
) -> None:
    tmp_path.chmod(mode)
    assert is_dialable(f"ipc://{tmp_path}/feed.sock") is dialled


@pytest.mark.parametrize(
    "address",
    ["ipc:///nowhere/at/all/x.sock", "ipc://@abstract", "ipc:///a\0b/c", "", "udp://10.0.0.7:1"],
)
def test_what_is_no_address_of_a_feed(address: str) -> None:
    assert not is_dialable(address)
