"""Which addresses are open to others where no keys are, and what is said of them."""

import pytest

from mesh.config.exposure import of_dialler, of_listener


@pytest.mark.parametrize("address", ["", "ipc:///run/mine/gateway.sock"])
def test_a_socket_in_a_folder_is_not(address: str) -> None:
    assert of_listener(address) == ""


def test_no_gateway_is_asked_for_proof_in_a_folder() -> None:
    assert of_dialler("ipc:///run/mine/gateway.sock") == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_is_open_to_every_user(host: str) -> None:
    said = of_listener(f"tcp://{host}:7000")
    assert "is open to every user of this machine" in said
    assert "leave it out" in said
    assert "insecure = true in [gateway] if every user of this machine is trusted" in said
    assert "leave it out" in of_dialler(f"tcp://{host}:7000")


@pytest.mark.parametrize("host", ["0.0.0.0", "*", "10.0.0.1", "[::]", "gateway.example"])
def test_any_other_address_is_open_to_a_network(host: str) -> None:
    said = of_listener(f"tcp://{host}:7000")
    assert "can be reached from other machines" in said
    assert "listen on 127.0.0.1" not in said
    assert "insecure = true in [gateway] if that network is trusted" in said


@pytest.mark.parametrize("address", ["tcp://gateway.example:7000", "file:///etc/mesh/gateways"])
def test_whoever_dials_demands_proof(address: str) -> None:
    said = of_dialler(address)
    assert said.startswith(f"any process that answers at {address} is trusted as a gateway; ")
    assert "leave it out" not in said
    assert "`mesh keygen`" in said
