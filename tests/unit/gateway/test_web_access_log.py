"""What the access log says of a request, and of which it says nothing."""

import json
import re
from time import monotonic
from typing import Any

import pytest
from http_fakes import Way, connect, shared

from gateway.web import responses
from gateway.web.access_log import AccessLog, stages_of
from gateway.web.exchange import Exchange, RefusedRequest
from gateway.web.tornado_adapter import Page
from mesh.logs.loggers import Output


class Kept:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes, /) -> None:
        self.lines.append(line)

    def close(self) -> None: ...


def exchange(target: bytes = b"/inference", answer: bytes = b"") -> Exchange:
    connection, _ = connect(shared())
    made = Exchange(connection.responses, Way(), target, monotonic(), b"")
    made.request_id = b"a-1"
    timing = b"embed-queue;dur=0.10, embed;dur=12.30"
    connection.responses.special = True
    made.respond(answer or responses.result(b"a-1", b"application/json", timing, b"[1]"))
    return made


def page(target: bytes, status: int = 200, method: bytes = b"GET") -> Page:
    connection, _ = connect(shared())
    made = Page(connection.responses, method, target, b"")
    made.describe("1.1", [], monotonic())
    made.status, made.sent, made.request_id = status, 100, b"p-1"
    return made


def logged(turn: Any, status: int = 0, **wanted: bool) -> dict[str, Any] | None:
    kept = Kept()
    output = Output(kept, "gateway", as_json=True, coloured=False)
    AccessLog(output, **wanted)(turn, "192.0.2.7", status)
    if not kept.lines:
        return None
    line: dict[str, Any] = json.loads(kept.lines[0])
    assert line.pop("time")
    assert 0 <= line.pop("ms") < 60_000
    return line


def test_an_answered_request() -> None:
    assert logged(exchange(b"/inference?secret=5")) == {
        "level": "info",
        "source": "gateway",
        "message": "POST /inference 200",
        "method": "POST",
        "route": "/inference",
        "status": 200,
        "bytes": exchange().sent,
        "id": "a-1",
        "client": "192.0.2.7",
        "stages": {"embed": {"queue_ms": 0.1, "compute_ms": 12.3}},
    }


def test_the_query_if_it_is_wanted() -> None:
    line = logged(exchange(b"/inference?secret=5"), query=True)
    assert line is not None
    assert (line["query"], line["message"]) == ("secret=5", "POST /inference 200")
    plain = logged(exchange(), query=True)
    assert plain is not None
    assert "query" not in plain


def test_a_path_that_is_not_the_route_as_it_is_written() -> None:
    line = logged(exchange(b"http://host/%69nference"))
    assert line is not None
    assert (line["route"], line["path"]) == ("/inference", "/%69nference")
    assert line["message"] == "POST /%69nference 200"


def test_a_client_that_went_away() -> None:
    connection, _ = connect(shared())
    line = logged(Exchange(connection.responses, Way(), b"/inference", monotonic(), b""), 499)
    assert line is not None
    assert (line["status"], line["bytes"], line["id"]) == (499, 0, "-")
    assert "stages" not in line


def test_what_stands_in_a_body_is_no_figure() -> None:
    line = logged(exchange(answer=b"HTTP/1.1 500 No\r\n\r\n\r\nServer-Timing: a;dur=5, b;dur=6"))
    assert line is not None
    assert (line["status"], "stages" in line) == (500, False)


def test_a_request_that_the_wire_refuses() -> None:
    connection, _ = connect(shared())
    known = logged(
        RefusedRequest(connection.responses, None, b"/", monotonic(), asked_method=b"PUT"), 431
    )
    unknown = logged(
        RefusedRequest(connection.responses, None, b"", monotonic(), asked_method=b""), 400
    )
    assert known is not None
    assert unknown is not None
    assert (known["method"], known["route"], known["path"]) == ("PUT", "-", "/")
    assert (unknown["message"], unknown["route"]) == ("- - 400", "-")


def test_a_client_writes_no_escapes_into_the_log() -> None:
    connection, _ = connect(shared())
    rude = logged(
        RefusedRequest(
            connection.responses, None, b"/\x1b[2J\x9b", monotonic(), asked_method=b"GET"
        ),
        400,
    )
    assert rude is not None
    assert rude["path"] == "/\\x1b[2J\\\\x9b"


def test_pages() -> None:
    status, absent = logged(page(b"/mesh/status")), logged(page(b"/nothing", 404))
    assert status is not None
    assert absent is not None
    assert status["route"] == "/mesh/status"
    assert "path" not in status
    assert (absent["route"], absent["path"]) == ("-", "/nothing")


@pytest.mark.parametrize(
    "path",
    [b"/", b"/health", b"/livez", b"/readyz", b"/metrics", b"/ping", b"/readyz?x", b"/health/"],
)
def test_health_is_left_out_unless_it_is_wanted(path: bytes) -> None:
    assert logged(page(path)) is None
    assert logged(page(path), health=True)


def test_what_nobody_asks_a_health_page_is_logged() -> None:
    assert logged(page(b"/", 405, b"POST"))


def test_text_is_one_line() -> None:
    kept = Kept()
    log = AccessLog(Output(kept, "gateway", as_json=False, coloured=False), query=True)
    log(exchange(b"/inference?a=5"), "192.0.2.7")
    log(page(b"/mesh/status"), "192.0.2.7")
    first, second = (line.decode() for line in kept.lines)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d info    gateway    POST /inference 200 \d+ bytes \d+\.\d\d ms "
        r"a-1 192\.0\.2\.7 embed 0\.10\+12\.30 ms \?a=5\n",
        first,
    )
    assert " GET /mesh/status 200 100 bytes " in second


def test_stats_of_several_stages() -> None:
    timing = b"a-queue;dur=0.10, a;dur=1.00, a-queue-queue;dur=2.00, a-queue;dur=3.00"
    assert stages_of(timing) == {
        "a": {"queue_ms": 0.1, "compute_ms": 1.0},
        "a-queue": {"queue_ms": 2.0, "compute_ms": 3.0},
    }
    assert stages_of(b"") == {}
