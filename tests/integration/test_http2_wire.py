"""HTTP/2 with prior knowledge, on the port of HTTP/1.1, as other people's clients speak it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from wire_server import MAX_BODY, Running, serving

PRIOR = "--http2-prior-knowledge"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("bodies")) as server:
        yield server


@pytest.fixture(scope="module")
def curl() -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl: it is the client of these tests")
    told = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
    if "HTTP2" not in told.stdout:
        pytest.skip("no curl: this one does not speak HTTP/2")


@pytest.mark.usefixtures("curl")
def test_curl_is_answered(running: Running) -> None:
    line = ("-H", "X-Request-ID: mine")
    [(status, headers, body)] = running.curl("/inference", PRIOR, *line, "-d", "hello")
    assert (status, body) == (200, b"hello")
    assert (headers["x-request-id"], headers["server-timing"]) == ("mine", "echo;dur=1")


@pytest.mark.usefixtures("curl")
def test_curl_sends_and_gets_a_large_body(running: Running) -> None:
    body = running.file(MAX_BODY)
    [(status, _, got)] = running.curl("/inference", PRIOR, "--data-binary", body)
    assert (status, len(got)) == (200, MAX_BODY)


@pytest.mark.usefixtures("curl")
def test_curl_asks_for_the_head_alone(running: Running) -> None:
    [(status, headers, body)] = running.curl("/health", PRIOR, "--head")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.usefixtures("curl")
@pytest.mark.parametrize("declared", [True, False])
def test_curl_receives_every_refusal_of_a_large_body(running: Running, declared: bool) -> None:
    body = running.file(8 * MAX_BODY)
    options = () if declared else ("-H", "Content-Length:")
    for _ in range(20):
        [(status, _, told)] = running.curl("/inference", PRIOR, *options, "--data-binary", body)
        assert status == 413
        assert json.loads(told)["error"]["code"] == "body_too_large"


@pytest.mark.usefixtures("curl")
def test_errors_have_the_form_of_http_1(running: Running) -> None:
    wanted = {
        "/nowhere": ((), 404, "not_found"),
        "/health": (("-X", "POST"), 405, "method_not_allowed"),
        "/inference": ((), 405, "method_not_allowed"),
    }
    for path, (options, status, code) in wanted.items():
        [(got, headers, body)] = running.curl(path, PRIOR, *options)
        error = json.loads(body)["error"]
        assert (got, error["code"]) == (status, code)
        assert headers["x-request-id"] == error["request_id"]


def test_httpx_uses_the_connection_again(running: Running) -> None:
    with httpx.Client(http1=False, http2=True, timeout=30) as client:
        for path in ("/inference", "/health") * 5:
            url = f"http://127.0.0.1:{running.port}{path}"
            answer = client.post(url, content=b"x") if "inf" in path else client.get(url)
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)


def test_httpx_sends_many_at_once(running: Running) -> None:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(http1=False, http2=True, timeout=30) as client:
            url = f"http://127.0.0.1:{running.port}/inference"
            bodies = [b"%d" % at * 1000 for at in range(150)]
            found = await asyncio.gather(*[client.post(url, content=body) for body in bodies])
            assert [answer.content for answer in found] == bodies
            return found

    found = asyncio.run(ask())
    assert {(answer.http_version, answer.status_code) for answer in found} == {("HTTP/2", 200)}


def test_httpx_receives_every_refusal_of_a_large_body(running: Running) -> None:
    with httpx.Client(http1=False, http2=True, timeout=30) as client:
        for size in (4 * MAX_BODY, 10) * 5:
            answer = client.post(f"http://127.0.0.1:{running.port}/inference", content=bytes(size))
            assert answer.status_code == (413 if size > MAX_BODY else 200)


def test_h2load_loses_nothing(running: Running, tmp_path: Path) -> None:
    if shutil.which("h2load") is None:
        pytest.skip("no h2load: it comes with nghttp2")
    body = tmp_path / "body"
    body.write_bytes(b"x" * 1000)
    url = f"http://127.0.0.1:{running.port}/inference"
    for streams in (1, 100, 300):  # the last is more than may be open at once
        done = subprocess.run(
            ["h2load", "-n", "2000", "-c", "4", "-m", str(streams), "-d", body, url],
            capture_output=True,
            text=True,
            check=True,
        )
        assert re.search(r"2000 done, 2000 succeeded, 0 failed", done.stdout), done.stdout
        assert "status codes: 2000 2xx" in done.stdout
