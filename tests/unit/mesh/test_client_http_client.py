"""The client's connection, against a scripted server on the loopback."""

import contextlib
import socket
import threading

import pytest

import mesh.client
from mesh.client.http_client import Client
from mesh.errors import ServerError, ValidationError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"


def answer(status, body=b"", headers=b""):
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n" % (status, len(body), headers)
    return head + body


class Script:
    """Accepts connections one after another and answers each of their requests as told.

    `connections` is a list of lists: per connection the answers; None as an answer closes the
    connection without one, bytes are sent as they are.
    """

    def __init__(self, *connections):
        self.requests: list[list[bytes]] = []
        self._connections = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(5)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._listener.close()
        self._thread.join()

    def _serve(self):
        for answers in self._connections:
            with contextlib.suppress(OSError):
                sock, _ = self._listener.accept()
                self.requests.append([])
                with sock:
                    sock.settimeout(5)
                    self._answer(sock, answers)

    def _answer(self, sock, answers):
        for reply in answers:
            request = self._read(sock)
            if not request:
                return
            self.requests[-1].append(request)
            if reply is None:
                return
            if callable(reply):
                reply = reply(self._done)
            sock.sendall(reply)

    @staticmethod
    def _read(sock):
        received = b""
        while b"\r\n\r\n" not in received:
            if not (some := sock.recv(65536)):
                return b""
            received += some
        head, _, body = received.partition(b"\r\n\r\n")
        length = next(
            (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.startswith(b"Content-Length")),
            0,
        )
        while len(body) < length:
            body += sock.recv(65536)
        return head + b"\r\n\r\n" + body


def test_the_public_names_are_loaded_when_asked_for():
    assert mesh.client.Client is Client
    assert mesh.client.Response.__name__ == "Response"
    with pytest.raises(AttributeError, match="Clint"):
        _ = mesh.client.Clint


def test_calls_share_one_connection():
    with Script([OK, OK, OK]) as script, Client(script.url) as client:
        assert client.infer({"a": 1}) == []
        assert client.post("/x", b"\x00" * 100_000).body == b"[]"
        assert client.get("/metrics").ok
    (requests,) = script.requests
    assert requests[0].startswith(b"POST /inference HTTP/1.1\r\n")
    assert requests[0].endswith(b'\r\n\r\n{"a":1}')
    assert requests[1].endswith(b"\x00" * 100_000)
    assert requests[2].startswith(b"GET /metrics ")


def test_a_connection_that_the_service_closes_is_opened_again():
    with Script([CLOSE], [OK]) as script, Client(script.url) as client:
        assert client.infer(1) == []
        assert client.infer(2) == []
    assert [len(requests) for requests in script.requests] == [1, 1]


def test_a_stale_connection_gets_one_more_try_on_a_new_one():
    with Script([OK, None], [OK]) as script, Client(script.url) as client:
        client.infer(1)
        assert client.infer(2) == []
    assert [len(requests) for requests in script.requests] == [2, 1]


def test_a_connection_that_died_while_idle_is_noticed_before_the_request():
    with Script([OK], [OK]) as script, Client(script.url) as client:
        client.infer(1)
        wait_for_end(client)
        assert client.infer(2) == []
    assert [len(requests) for requests in script.requests] == [1, 1]


def wait_for_end(client):
    sock = client._own()._http.sock
    sock.settimeout(5)
    assert sock.recv(1, socket.MSG_PEEK) == b""


def test_a_new_connection_that_ends_unanswered_is_not_tried_again():
    with Script([None], [OK]) as script, Client(script.url, timeout=5) as client:
        with pytest.raises(ServerError, match="closed the connection") as caught:
            client.infer(1)
        assert caught.value.retryable
        assert len(script.requests) == 1
        assert client.infer(2) == []


def test_half_an_answer_is_never_tried_again():
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n["
    with (
        Script([OK, half], [OK]) as script,
        Client(script.url) as client,
    ):
        client.infer(1)
        with pytest.raises(ServerError, match="IncompleteRead"):
            client.infer(2)
        assert len(script.requests) == 1
        assert client.infer(3) == []


def test_what_is_not_http_is_said_so():
    with (
        Script([b"220 mail.example SMTP\r\n"]) as script,
        Client(script.url) as client,
        pytest.raises(ServerError, match="BadStatusLine"),
    ):
        client.infer(1)


def test_a_silent_service_is_given_up_after_the_timeout():
    def silent(done):
        done.wait(5)
        return b""

    with (
        Script([silent]) as script,
        Client(script.url, timeout=0.05) as client,
        pytest.raises(ServerError, match=r"silent for 0\.05 s"),
    ):
        client.infer(1)


def test_a_service_that_is_not_there_is_named():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = Client(url)
    with pytest.raises(ServerError, match=f"{url}: Connection refused; is the service running"):
        client.infer(1)
    assert not client.health()


def test_an_error_is_raised_with_what_the_answer_said():
    body = b'{"error": {"code": "validation_error", "message": "too long", "stage": "embed"}}'
    invalid = answer(b"422 Unprocessable Content", body, b"X-Request-ID: r-5\r\n")
    with Script([invalid, invalid]) as script, Client(script.url) as client:
        with pytest.raises(ValidationError, match="too long") as caught:
            client.infer("x")
        assert (caught.value.request_id, caught.value.stage) == ("r-5", "embed")
        assert client.post("/inference", "x").status == 422


def test_an_answer_before_the_body_was_read_is_received():
    big = b"\x00" * 4_000_000
    early = answer(b"413 Content Too Large", b"{}", b"Connection: close\r\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_refuse_early, args=(listener, early))
        thread.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=5) as client:
            assert client.post("/inference", big).status == 413
        thread.join()


def _refuse_early(listener, early):
    sock, _ = listener.accept()
    with sock:
        sock.recv(1000)
        sock.sendall(early)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 20):
            pass


def test_an_interrupted_call_leaves_no_answer_for_the_next(monkeypatch):
    with Script([OK], [OK]) as script, Client(script.url) as client:
        with monkeypatch.context() as patched:
            patched.setattr("mesh.client.connection._answered", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.infer(1)
        assert client.infer(2) == []
    assert [len(requests) for requests in script.requests] == [1, 1]


def _interrupt(sock):
    raise KeyboardInterrupt


def test_readiness_is_waited_for():
    missing = answer(b"503 Service Unavailable", b'{"error": {"message": "detect: no replica"}}')
    with Script([missing, missing, OK]) as script, Client(script.url) as client:
        client.wait_ready(5)
    assert len(script.requests[0]) == 3


def test_waiting_for_readiness_ends_with_what_is_missing():
    missing = answer(b"503 Service Unavailable", b'{"error": {"message": "detect: no replica"}}')
    with (
        Script([missing]) as script,
        Client(script.url) as client,
        pytest.raises(ServerError, match="detect: no replica"),
    ):
        client.wait_ready(0)


def test_a_service_that_answers_is_healthy():
    with Script([OK, answer(b"503 Service Unavailable")]) as script, Client(script.url) as client:
        assert client.health()
        assert not client.health()
