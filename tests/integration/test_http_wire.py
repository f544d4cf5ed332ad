"""The HTTP wire as curl meets it: keep-alive, chunks, 100-continue, HEAD, old HTTP, refusals."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest
from wire_server import MAX_BODY, Running, serving


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if shutil.which("curl") is None:
        pytest.skip("no curl: it is the client of these tests")
    with serving(tmp_path_factory.mktemp("bodies")) as server:
        yield server


def test_a_post_is_answered(running: Running) -> None:
    [(status, headers, body)] = running.curl("/inference", "--data-binary", "hello")
    assert (status, body) == (200, b"hello")
    assert headers["content-type"] == "text/plain"
    assert headers["x-request-id"] == "ours"
    assert headers["server-timing"] == "echo;dur=1"
    assert "connection" not in headers


def test_the_request_id_of_the_client_comes_back(running: Running) -> None:
    [(_, headers, _)] = running.curl("/inference", "-d", "x", "-H", "X-Request-ID: mine")
    assert headers["x-request-id"] == "mine"
    [(_, headers, _)] = running.curl("/inference", "-d", "x", "-H", "X-Request-ID: not fit")
    assert headers["x-request-id"] == "ours"


def test_a_connection_is_used_again(running: Running) -> None:
    urls = [f"http://127.0.0.1:{running.port}{path}" for path in ("/inference", "/health")] * 2
    done = subprocess.run(
        ["curl", "--silent", "--verbose", "--data-binary", "hello", *urls],
        capture_output=True,
        check=True,
    )
    assert done.stdout.count(b"hello") == 2
    assert done.stderr.lower().count(b"re-using existing") == 3


def test_a_chunked_body_arrives_whole(running: Running) -> None:
    options = ("-H", "Transfer-Encoding: chunked", "--data-binary", running.file(300_000))
    [(status, _, body)] = running.curl("/inference", *options)
    assert (status, body) == (200, b"x" * 300_000)


def test_a_client_that_waits_is_told_to_go_on(running: Running) -> None:
    options = ("-H", "Expect: 100-continue", "--expect100-timeout", "15")
    first, second = running.curl("/inference", *options, "--data-binary", "hello")
    assert first[0] == 100
    assert (second[0], second[2]) == (200, b"hello")


def test_head_has_no_body(running: Running) -> None:
    [(status, headers, body)] = running.curl("/health", "--head")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    [(status, headers, _)] = running.curl("/inference", "--head")
    assert (status, headers["allow"]) == (405, "POST, OPTIONS")


def test_http_1_0_gets_its_answer_and_the_end(running: Running) -> None:
    [(status, headers, body)] = running.curl("/inference", "--http1.0", "-d", "hello")
    assert (status, headers["connection"], body) == (200, "close", b"hello")
    [(status, headers, _)] = running.curl("/health", "--http1.0")
    assert (status, headers["connection"]) == (200, "close")


def test_a_client_that_closes_is_told_so(running: Running) -> None:
    [(status, headers, _)] = running.curl("/inference", "-H", "Connection: close", "-d", "x")
    assert (status, headers["connection"]) == (200, "close")


def test_an_upgrade_to_http_2_is_not_taken_up(running: Running) -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    options = [word for line in lines for word in ("-H", line)]
    [(status, _, body)] = running.curl("/inference", *options, "-d", "hello")
    assert (status, body) == (200, b"hello")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_every_time(running: Running, chunked: bool) -> None:
    body = running.file(8 * MAX_BODY)
    options = ("-H", "Expect:", *(("-H", "Transfer-Encoding: chunked") if chunked else ()))
    for _ in range(20):
        [(status, headers, told)] = running.curl("/inference", *options, "--data-binary", body)
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(told)["error"]["code"] == "body_too_large"


def test_headers_that_are_too_large_are_refused(running: Running) -> None:
    [(status, _, body)] = running.curl("/inference", "-H", "X-Big: " + "x" * 70_000, "-d", "x")
    assert status == 431
    assert json.loads(body)["error"]["code"] == "headers_too_large"


def test_errors_have_one_form_everywhere(running: Running) -> None:
    wanted = {
        "/nowhere": ((), 404, "not_found"),
        "/health": (("-X", "POST"), 405, "method_not_allowed"),
        "/inference": (("-H", "Host:"), 400, "bad_request"),
    }
    for path, (options, status, code) in wanted.items():
        [(got, headers, body)] = running.curl(path, *options)
        error = json.loads(body)["error"]
        assert (got, error["code"]) == (status, code)
        assert headers["x-request-id"] == error["request_id"]
        assert headers["content-type"] == "application/json"


def test_nonsense_is_answered_on_a_raw_socket(running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n")
        answer = raw.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
