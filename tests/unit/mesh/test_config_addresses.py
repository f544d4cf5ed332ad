"""Where the gateway processes of one host are."""

from __future__ import annotations

import pytest

from mesh.config.addresses import address, addresses, bracketed, following, last_port


@pytest.mark.parametrize(
    ("first", "all_of_them"),
    [
        ("tcp://127.0.0.1:7000", ["tcp://127.0.0.1:7000", "tcp://127.0.0.1:7001"]),
        (
            "tcp://gateway.example:7000",
            ["tcp://gateway.example:7000", "tcp://gateway.example:7001"],
        ),
        ("tcp://[::1]:7000", ["tcp://[::1]:7000", "tcp://[::1]:7001"]),
        ("tcp://*:7000", ["tcp://*:7000", "tcp://*:7001"]),
        ("tcp://127.0.0.1:0", ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]),
        ("tcp://127.0.0.1:*", ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]),
        ("ipc:///run/gateway.sock", ["ipc:///run/gateway.sock", "ipc:///run/gateway.sock-2"]),
        ("file:///etc/gateways", ["file:///etc/gateways"]),
    ],
)
def test_an_address_stands_for_those_of_all_processes(first: str, all_of_them: list[str]) -> None:
    assert list(addresses(first, 2)) == all_of_them


def test_one_process_is_where_it_was_said() -> None:
    assert addresses("tcp://gateway:7000", 1) == ("tcp://gateway:7000",)
    assert address("ipc:///run/gateway", 1) == "ipc:///run/gateway"


def test_the_last_of_many() -> None:
    assert addresses("tcp://10.0.0.7:7000", 64)[-1] == "tcp://10.0.0.7:7063"
    assert following("tcp://10.0.0.7:7000", 64) == "tcp://10.0.0.7:7063"


@pytest.mark.parametrize(
    ("first", "port"),
    [("tcp://*:65500", 65503), ("tcp://*:0", 0), ("ipc:///run/x", 0), ("file:///x", 0)],
)
def test_the_highest_port(first: str, port: int) -> None:
    assert last_port(first, 4) == port


def test_brackets() -> None:
    assert (bracketed("::"), bracketed("gateway")) == ("[::]", "gateway")
