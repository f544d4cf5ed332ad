import asyncio
import gzip
import json
from importlib.metadata import version
from typing import Any

import pytest
from fake_view import View
from http_fakes import Inference, connect, shared
from tornado.web import Application

from gateway.admin.metrics import CONTENT_TYPE
from gateway.admin.pages import BasePage, make_app
from mesh.config.settings import PAGES


def ask(
    view: View,
    path: str,
    method: str = "GET",
    app: Application | None = None,
    lines: str = "Host: h",
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body."""

    async def run() -> bytes:
        connection, transport = connect(shared(Inference(), pages=app or make_app(view)))
        connection.data_received(f"{method} {path} HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        for _ in range(10):
            await asyncio.sleep(0)
        assert connection.pending == []
        return transport.take()

    written = asyncio.run(run())
    head, _, body = written.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert headers["x-request-id"] == "boot-0"
    assert headers["server"] == f"meshline/{version('meshline')}"
    return int(status.split()[1]), headers, body


def error(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)["error"]
    return found


def test_the_root_says_what_this_is() -> None:
    status, headers, body = ask(View(), "/")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert body.startswith(b"Meshline ")
    assert b"/inference    detect -> recognize\n" in body
    assert all(page.encode() in body for page in PAGES)


def test_the_root_says_so_to_programs_as_well() -> None:
    _, headers, body = ask(View(), "/", lines="Host: h\r\nAccept: application/json")
    assert headers["content-type"] == "application/json"
    assert headers["vary"] == "Accept"
    found = json.loads(body)
    assert found["routes"] == {"/inference": ["detect", "recognize"]}
    assert found["pages"].keys() == PAGES.keys()
    assert found["version"] == version("meshline")


def test_who_posts_to_the_root_is_told_where_inference_is() -> None:
    status, headers, body = ask(View(), "/", "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "curl -d @request.json http://h/inference" in error(body)["message"]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_that_no_route_may_have_is_there(path: str) -> None:
    assert ask(View(), path)[0] == 200
    status, headers, body = ask(View(), path, "OPTIONS")
    assert (status, headers["allow"], body) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize(("path", "status"), [("/health/", 200), ("/health//", 404), ("//", 404)])
def test_one_slash_may_follow_a_page(path: str, status: int) -> None:
    assert ask(View(), path)[0] == status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/inference", "POST, OPTIONS"),
        ("/inference/", "POST, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ],
)
def test_options_lists_the_methods(path: str, allowed: str) -> None:
    status, headers, body = ask(View(), path, "OPTIONS")
    assert (status, headers["allow"], body) == (204, allowed, b"")


def test_the_root_refuses_while_draining() -> None:
    view = View()
    view.draining = True
    status, headers, body = ask(view, "/")
    assert status == 503
    assert headers["retry-after"] == "1"
    assert error(body)["code"] == "draining"


@pytest.mark.parametrize("path", ["/health", "/livez", "/ping"])
def test_liveness_depends_on_nothing(path: str) -> None:
    view = View()
    view.draining = True
    view.absent = ["detect"]
    assert ask(view, path)[0] == 200


def test_readiness_names_what_is_missing() -> None:
    view = View()
    assert ask(view, "/readyz")[0] == 200
    view.absent = ["detect", "recognize"]
    status, headers, body = ask(view, "/readyz")
    assert status == 503
    assert headers["retry-after"] == "1"
    assert error(body) == {
        "code": "no_replica",
        "message": "no replica of: detect, recognize",
        "stage": "detect",
        "request_id": "boot-0",
        "retryable": True,
    }
    view.absent, view.joined = [], False
    status, _, body = ask(view, "/readyz")
    assert (status, error(body)["code"]) == (503, "no_replica")
    view.draining = True
    assert error(ask(view, "/readyz")[2])["code"] == "draining"


def test_metrics_have_their_content_type() -> None:
    status, headers, body = ask(View(), "/metrics")
    assert (status, body) == (200, b"mesh_inflight 0\n")
    assert headers["content-type"] == CONTENT_TYPE


def test_status_is_json() -> None:
    status, headers, body = ask(View(), "/mesh/status")
    assert (status, json.loads(body)) == (200, {"stages": ["detect"]})
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_a_body(path: str) -> None:
    status, headers, body = ask(View(), path, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_at_no_path_there_is_nothing(method: str) -> None:
    status, headers, body = ask(View(), "/nowhere", method)
    assert status == 404
    assert headers["content-type"] == "application/json"
    assert error(body)["code"] == "not_found"
    assert error(body)["message"].endswith("; routes: /inference")


def test_another_method_is_told_which_ones_there_are() -> None:
    status, headers, body = ask(View(), "/health", "POST")
    assert status == 405
    assert headers["allow"] == "GET, HEAD, OPTIONS"
    assert error(body)["code"] == "method_not_allowed"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_inference_takes_post_only(method: str) -> None:
    status, headers, body = ask(View(), "/inference?a=b", method)
    assert status == 405
    assert headers["allow"] == "POST, OPTIONS"
    if method != "HEAD":
        assert error(body)["code"] == "method_not_allowed"
        assert error(body)["message"].endswith("curl -d @request.json http://h/inference")


def test_a_mistake_of_ours_shows_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(BasePage):
        def get(self) -> None:
            raise KeyError("a secret of ours")

    view = View()
    app = Application([("/wrong", Wrong, {"view": view})], log_function=lambda _page: None)
    status, _, body = ask(view, "/wrong", app=app)
    assert status == 500
    assert view.failures == [("server_error", "the gateway failed", b"boot-0")]
    assert error(body)["code"] == "server_error"
    assert b"secret" not in body
    assert "a secret of ours" in caplog.text


def test_an_unreadable_query_is_a_bad_request() -> None:
    fields = "&".join(f"a{number}=1" for number in range(2000))

    async def run() -> bytes:
        connection, transport = connect(shared(Inference(), pages=make_app(View())))
        connection.data_received(f"GET /?{fields} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return transport.take()

    written = asyncio.run(run())
    assert written.startswith(b"HTTP/1.1 400 ")
    assert error(written.partition(b"\r\n\r\n")[2])["code"] == "bad_request"


@pytest.mark.parametrize(("size", "coding"), [(60_000, "gzip"), (70_000, None)])
def test_a_page_is_packed_unless_that_would_hold_others_up(size: int, coding: str | None) -> None:
    class Long(View):
        async def metrics_text(self) -> bytes:
            return b"x" * size

    view = Long()

    async def run() -> bytes:
        connection, transport = connect(shared(Inference(), pages=make_app(view, True)))
        lines = b"Host: h\r\nAccept-Encoding: gzip\r\n\r\n"
        connection.data_received(b"GET /metrics HTTP/1.1\r\n" + lines)
        for _ in range(10):
            await asyncio.sleep(0)
        return transport.take()

    head, _, body = asyncio.run(run()).partition(b"\r\n\r\n")
    assert (b"\r\nContent-Encoding: gzip" in head) == (coding is not None)
    assert (gzip.decompress(body) if coding else body) == b"x" * size
