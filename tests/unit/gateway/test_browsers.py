"""Requests of browsers as both protocols read them: refused, served, and told who may read them."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from http2_fakes import Peer
from http_fakes import Inference, Pages, connect, post, shared, statuses
from tornado import httputil

from gateway.web import responses
from gateway.web.browser_policy import BrowserPolicy, Reach
from gateway.web.exchange import Exchange
from gateway.web.limits import Limits
from gateway.web.server_state import ServerState

APP = "https://app.example"
LOOPBACK = BrowserPolicy(reach=Reach.MACHINE)
LISTED = BrowserPolicy(cors=(APP,), reach=Reach.MACHINE)
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
GRANTED = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}

Answer = tuple[int, Mapping[str, str], bytes]
Ask = Callable[..., Answer]


def http1(
    common: ServerState, method: str, path: str, lines: Mapping[str, str], body: bytes
) -> Answer:
    async def run() -> bytes:
        connection, transport = connect(common)
        head = [f"{method} {path} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in lines.items()]
        if body:
            head.append(f"Content-Length: {len(body)}")
        connection.data_received("\r\n".join([*head, "", ""]).encode() + body)
        for _ in range(10):
            await asyncio.sleep(0)
        return transport.take()

    head, _, rest = asyncio.run(run()).partition(b"\r\n\r\n")
    first, *found = head.decode().split("\r\n")
    pairs = (line.split(": ", 1) for line in found)
    return int(first.split()[1]), {name.lower(): value for name, value in pairs}, rest


def http2(
    common: ServerState, method: str, path: str, lines: Mapping[str, str], body: bytes
) -> Answer:
    async def run() -> Answer:
        peer = Peer(common)
        rest = dict(lines)
        head = [(":method", method), (":authority", rest.pop("Host")), (":scheme", "http")]
        head += [(":path", path), *((name.lower(), value) for name, value in rest.items())]
        number = peer.wire.get_next_available_stream_id()
        peer.wire.send_headers(number, head, end_stream=not body)
        for at in range(0, len(body), 16_000):
            piece = body[at : at + 16_000]
            peer.wire.send_data(number, piece, end_stream=at + len(piece) == len(body))
        peer.tell()
        for _ in range(10):
            await asyncio.sleep(0)
        peer.hear()
        found = peer.answers[number]
        return found.status, found.headers, found.body

    return asyncio.run(run())


@pytest.fixture(params=[http1, http2])
def ask(request: pytest.FixtureRequest) -> Ask:
    def asked(
        policy: BrowserPolicy,
        method: str = "POST",
        path: str = "/inference",
        body: bytes = b"x",
        common: ServerState | None = None,
        **lines: str,
    ) -> Answer:
        told = {"Host": "localhost:8000"} | {key.replace("_", "-"): v for key, v in lines.items()}
        common = common or shared(Inference(at_once=True))
        common.browsers = policy
        found: Answer = request.param(common, method, path, told, body)
        return found

    return asked


def said(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)["error"]
    return found


@pytest.mark.parametrize(("method", "path"), [("POST", "/inference"), ("GET", "/health")])
def test_a_name_that_is_not_ours_is_refused(ask: Ask, method: str, path: str) -> None:
    status, headers, body = ask(LOOPBACK, method, path, b"", Host="evil.example:8000")
    assert status == 421
    assert said(body)["code"] == "host_not_served"
    assert "[gateway] hosts" in said(body)["message"]
    assert headers["x-request-id"]
    for host in ("localhost", "127.0.0.1:8000", "[::1]:1"):
        assert ask(LOOPBACK, method, path, b"", Host=host)[0] == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/inference"), ("GET", "/health")])
def test_pages_of_strangers_are_refused(ask: Ask, method: str, path: str) -> None:
    status, headers, body = ask(LOOPBACK, method, path, b"", **FOREIGN)
    assert status == 403
    assert said(body)["code"] == "cross_site"
    assert "[gateway] cors" in said(body)["message"]
    assert "access-control-allow-origin" not in headers
    assert ask(LOOPBACK, method, path, b"", Origin="https://evil.example")[0] == 403
    assert ask(LISTED, method, path, b"", **FOREIGN)[1]["vary"] == "Origin"


def test_its_own_pages_and_other_clients_notice_nothing(ask: Ask) -> None:
    for lines in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": "http://localhost:8000"}):
        status, headers, _ = ask(LOOPBACK, **lines)
        assert status == 200
        assert "vary" not in headers
        assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(("method", "path"), [("POST", "/inference"), ("GET", "/health")])
def test_pages_that_are_listed_are_served_and_may_read(ask: Ask, method: str, path: str) -> None:
    status, headers, _ = ask(LISTED, method, path, b"", **GRANTED)
    assert status == 200
    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-expose-headers"] == "*"
    assert headers["vary"] == "Origin"


def test_a_route_that_wants_the_head_does_so_too(ask: Ask) -> None:
    assert ask(LISTED, path="/meta", **GRANTED)[1]["access-control-allow-origin"] == APP
    assert "access-control-allow-origin" not in ask(LISTED, path="/meta")[1]


def test_a_page_that_may_be_kept_varies_whoever_asks(ask: Ask) -> None:
    assert ask(LISTED, "GET", "/health", b"")[1]["vary"] == "Origin"
    assert "vary" not in ask(LOOPBACK, "GET", "/health", b"")[1]


class Refusing(Inference):
    def submit(self, exchange: Exchange) -> None:
        exchange.respond(responses.failure("overloaded", "full", None, b"7"))


def test_errors_may_be_read_as_well(ask: Ask) -> None:
    busy = shared(Refusing())
    large = shared(Inference(at_once=True), Limits(max_body=10))
    full = Inference()
    full.refusal = responses.failure("overloaded", "full", None, b"7")
    headed = shared(Inference(), Limits(max_header=700))
    cases: list[tuple[int, ServerState, dict[str, Any]]] = [
        (429, busy, {}),
        (413, large, {"body": b"x" * 20}),
        (429, shared(full), {"body": b"x" * 66_000}),
        (417, shared(Inference()), {"body": b"x", "Expect": "tea"}),
        (431, headed, {"X_Long": "a" * 700}),
    ]
    for expected, common, more in cases:
        status, headers, _ = ask(LISTED, common=common, **GRANTED, **more)
        assert (status, headers.get("access-control-allow-origin")) == (expected, APP)


def test_a_preflight_is_answered(ask: Ask) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }

    def begin(connection: Any, _: httputil.HTTPHeaders) -> None:
        line = httputil.ResponseStartLine("HTTP/1.1", 204, "No Content")
        connection.write_headers(line, httputil.HTTPHeaders({"Allow": "POST, OPTIONS"}))
        connection.finish()

    common = shared(Inference(), pages=Pages(begin))
    status, headers, _ = ask(LISTED, "OPTIONS", body=b"", common=common, **GRANTED, **asked)
    assert status == 204
    assert headers["access-control-allow-origin"] == APP
    assert headers["access-control-allow-headers"] == "content-type"
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["access-control-max-age"] == "600"
    assert ask(LISTED, "OPTIONS", body=b"", common=common, **FOREIGN, **asked)[0] == 403


def test_a_head_that_was_learnt_is_one_that_is_served() -> None:
    common = shared(Inference(at_once=True))
    common.browsers = LOOPBACK
    connection, transport = connect(common)
    good = post(b"x").replace(b"Host: h", b"Host: localhost")
    bad = post(b"x").replace(b"Host: h", b"Host: evil.example")
    connection.data_received(good)
    connection.data_received(good)
    assert len(common.known) == 1
    connection.data_received(bad)
    assert statuses(transport.take()) == [200, 200, 421]
    assert len(common.known) == 1


def test_a_head_of_a_browser_is_looked_at_each_time() -> None:
    common = shared(Inference(at_once=True))
    common.browsers = LISTED
    connection, transport = connect(common)
    plain = post(b"x").replace(b"Host: h", b"Host: localhost")
    theirs = plain.replace(b"\r\n\r\n", f"\r\nOrigin: {APP}\r\n\r\n".encode())
    for request in (theirs, theirs, plain):
        connection.data_received(request)
    first, second, third = transport.take().split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert b"Access-Control-Allow-Origin: https://app.example" in first
    assert b"Access-Control-Allow-Origin: https://app.example" in second
    assert b"Access-Control" not in third


def test_an_absolute_target_names_a_host_as_well() -> None:
    connection, transport = connect(shared(Inference(at_once=True)))
    connection._server.browsers = LOOPBACK
    head = b"POST http://evil.example/inference HTTP/1.1\r\nHost: localhost\r\n"
    connection.data_received(head + b"Content-Length: 0\r\n\r\n")
    assert statuses(transport.take()) == [421]


def test_a_page_is_opened_from_a_link_but_no_websocket_by_a_stranger() -> None:
    connection, transport = connect(shared(Inference()))
    connection._server.browsers = LOOPBACK
    connection.data_received(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Origin: https://evil.example\r\n\r\n"
    )
    assert statuses(transport.take()) == [403]


def test_a_refusal_of_the_next_request_says_nothing_of_the_last() -> None:
    common = shared(Inference(at_once=True), Limits(max_header=300))
    common.browsers = LISTED
    connection, transport = connect(common)
    line = f"Host: localhost\r\nOrigin: {APP}\r\n".encode()
    connection.data_received(b"POST /inference HTTP/1.1\r\n" + line + b"Content-Length: 0\r\n\r\n")
    assert b"Access-Control-Allow-Origin" in transport.take()
    connection.data_received(b"POST /inference HTTP/1.1\r\n")
    connection.data_received(b"X: " + b"a" * 400)
    refused = transport.take()
    assert statuses(refused) == [431]
    assert b"Access-Control" not in refused


def test_names_that_were_good_are_remembered_up_to_a_bound() -> None:
    common = shared(Inference(at_once=True))
    common.browsers = BrowserPolicy(reach=Reach.NETWORK)
    connection, transport = connect(common)
    long = "a" * 300
    for host in [f"h{number}.example" for number in range(100)] + [long]:
        connection.data_received(post(b"x").replace(b"Host: h", f"Host: {host}".encode()))
    assert statuses(transport.take()) == [200] * 101
    assert 0 < len(common.hosts) <= 64
    assert long.encode() not in common.hosts
