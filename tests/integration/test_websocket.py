"""tornado's `WebSocketHandler` on the gateway's own wire, met by another library's client."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.web import Application
from tornado.websocket import WebSocketHandler
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from wire_server import Running, serving


class Echo(WebSocketHandler):
    """Says what it hears; ends when it is told to."""

    def open(self) -> None:
        self.write_message("welcome")

    def on_message(self, message: str | bytes) -> None:
        if message == "go":
            self.close(4001, "gone")
        elif message == "flood":
            for _ in range(100):
                self.write_message(bytes(100_000), binary=True)
        else:
            self.write_message(message, binary=isinstance(message, bytes))


class Choosy(WebSocketHandler):
    def prepare(self) -> None:
        self.set_status(403)
        self.finish("no")


def application() -> Application:
    return Application([("/ws", Echo), ("/choosy", Choosy)], log_function=lambda _page: None)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("bodies"), application()) as server:
        yield server


def dial(running: Running, path: str = "/ws") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{running.port}{path}", max_size=None, open_timeout=20)


def test_words_and_bytes_go_both_ways(running: Running) -> None:
    with dial(running) as client:
        assert client.recv(20) == "welcome"
        for message in ("hello", b"\0\1", "", "x" * 300_000, bytes(5_000_000)):
            client.send(message)
            assert client.recv(20) == message


def test_a_ping_is_answered(running: Running) -> None:
    with dial(running) as client:
        assert client.ping().wait(20)


def test_both_ends_may_close(running: Running) -> None:
    client = dial(running)
    client.close(4002, "bye")
    assert client.close_code == 4002
    with dial(running) as client:
        assert client.recv(20) == "welcome"
        client.send("go")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "gone")


def test_a_client_that_reads_slowly_gets_everything(running: Running) -> None:
    with dial(running) as client:
        assert client.recv(20) == "welcome"
        client.send("flood")
        assert sum(len(client.recv(20)) for _ in range(100)) == 10_000_000


def test_several_at_once(running: Running) -> None:
    clients = [dial(running) for _ in range(20)]
    for at, client in enumerate(clients):
        client.send(str(at))
    assert [(client.recv(20), client.recv(20)) for client in clients] == [
        ("welcome", str(at)) for at in range(20)
    ]
    for client in clients:
        client.close()


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SHOUT = b"\x81\x82\0\0\0\0hi"  # a masked frame


def test_a_frame_may_come_with_the_handshake(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as raw:
        raw.sendall(HANDSHAKE + SHOUT)
        with raw.makefile("rb") as stream:
            lines = list(iter(lambda: stream.readline().strip(), b""))
            said = stream.read(13)
        assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
        assert b"Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in lines
        assert not any(line.lower().startswith((b"transfer", b"content-l")) for line in lines)
        assert said == b"\x81\x07welcome\x81\x02hi"


def test_what_is_refused_is_answered_and_over(running: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(running, "/choosy")
    assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refused:
        dial(running, "/nowhere")
    assert refused.value.response.status_code == 404


def test_a_stopping_server_says_that_it_goes_away(tmp_path: Path) -> None:
    with serving(tmp_path, application()) as server:
        client = dial(server)
        assert client.recv(20) == "welcome"
    with client, pytest.raises(ConnectionClosed) as closed:
        client.recv(20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
