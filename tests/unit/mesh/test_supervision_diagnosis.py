"""Why an address is not reached."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from mesh.supervision import diagnosis
from mesh.supervision.diagnosis import explain, judged, why

NULL = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
CURVE = NULL.replace(b"NULL\0", b"CURVE")


class Asking:
    """A socket: fails to connect, or says this."""

    def __init__(self, failure: OSError | None = None, said: bytes = b"") -> None:
        self.failure, self.said = failure, [said, b""]

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def connect(self, where: object) -> None:
        self.where = where
        if self.failure is not None:
            raise self.failure

    def sendall(self, piece: bytes) -> None: ...

    def recv(self, most: int) -> bytes:
        if not self.said:
            raise TimeoutError
        return self.said.pop(0)


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have every socket be this one."""

    def be(asking: Asking) -> Asking:
        monkeypatch.setattr(diagnosis.socket, "socket", lambda *_: asking)
        return asking

    return be


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "?"), "connection refused"),
        (FileNotFoundError(errno.ENOENT, "?"), "no such socket"),
        (OSError(errno.EHOSTUNREACH, "?"), "the host cannot be reached"),
        (OSError(errno.ENETUNREACH, "?"), "its network cannot be reached"),
        (TimeoutError(), "no answer came within"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied"),
        (OSError("AF_UNIX path too long"), "af_unix path too long"),
    ],
)
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:7000", "ipc:///run/g.sock"])
def test_the_kernel_s_reason(found: Any, address: str, failure: OSError, reason: str) -> None:
    found(Asking(failure))
    assert reason in why(address, {}, False)


def test_what_the_gateway_itself_said_comes_first(found: Any) -> None:
    found(Asking(said=NULL))
    said = {"tcp://127.0.0.1:7000": "this is mesh 'a'", "tcp://[::1]:7000": "b", "ipc:///g": "c"}
    assert why("tcp://127.0.0.1:7000", said, False) == "this is mesh 'a'"
    assert why("tcp://[::1]:7000", said, False) == "b"
    assert why("ipc:///g", said, False) == "c"
    assert "does not answer as a gateway" in why("tcp://127.0.0.1:7001", said, False)


def test_who_takes_his_time_is_judged_by_what_came(found: Any) -> None:
    asking = found(Asking(said=b"HTTP/1.1 400"))
    asking.said.pop()
    assert "HTTP is spoken" in why("tcp://127.0.0.1:1", {}, False)


@pytest.mark.parametrize(
    ("said", "keyed", "reason"),
    [
        (b"", False, "sends nothing"),
        (b"SSH-2.0", False, "is no gateway"),
        (CURVE, False, "it demands keys"),
        (NULL, True, "it has no keys"),
        (CURVE, True, "it refuses our keys"),
        (NULL, False, "does not answer as a gateway"),
    ],
)
def test_what_the_first_bytes_tell(said: bytes, keyed: bool, reason: str) -> None:
    assert reason in judged(said, keyed)


def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(diagnosis.socket, "getaddrinfo", look_up)
    reason = why("tcp://gateway:7000", {}, False)
    assert reason == "no address is known for the name gateway (Name or service not known)"


def test_a_file_leads_to_what_it_lists(tmp_path: Path, found: Any) -> None:
    assert "cannot be read" in why(f"file://{tmp_path}/none", {}, False)
    (tmp_path / "list").write_text("tcp://127.0.0.1:9\n")
    found(Asking(ConnectionRefusedError(errno.ECONNREFUSED, "?")))
    assert why(f"file://{tmp_path}/list", {}, False).startswith("tcp://127.0.0.1:9: connection ref")


def test_a_socket_beside_which_others_may_be_is_shown_as_what_it_is(found: Any) -> None:
    found(Asking(FileNotFoundError(errno.ENOENT, "?")))
    assert explain(["ipc:///g*"], {}, False).startswith("ipc:///g: there is no such socket")
    assert why("ipc:///g*", {"ipc:///g": "this is mesh 'a'"}, False) == "this is mesh 'a'"


def test_of_many_addresses_some_are_looked_at(found: Any) -> None:
    found(Asking(ConnectionRefusedError(errno.ECONNREFUSED, "?")))
    text = explain([f"tcp://127.0.0.1:{port}" for port in range(1, 8)], {}, False)
    assert text.count("connection refused") == 3
    assert text.endswith("; and 4 more")
    assert "more" not in explain(["tcp://127.0.0.1:1"], {}, False)
