"""Who answers a request is decided once, and a further protocol needs nothing but the table."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from http2_fakes import Peer
from http_fakes import Inference, connect, post, shared, statuses, turned

from gateway.web import front_protocols, responses
from gateway.web.exchange import BrowserExchange, Exchange
from gateway.web.front_protocols import is_repeatable, open_request
from gateway.web.headers import RequestHead
from gateway.web.http_request import HttpRequest, ResponseWriter, Route
from gateway.web.tornado_adapter import Page

LINES = b"Vary: Origin\r\n"


def opened(method: str, target: str, lines: bytes = b"") -> HttpRequest:
    connection, _ = connect(shared(Inference()))
    head = RequestHead(method.encode(), target.encode(), [b"Host"], [b"h"])
    return open_request(connection.responses, head, b"close", lines)


@pytest.mark.parametrize(
    "target",
    ["/inference", "/inference/", "/inference?a=b", "http://h/inference", "/%69nference"],
)
def test_post_to_a_route_is_inference_however_its_path_is_written(target: str) -> None:
    request = opened("POST", target)
    assert type(request) is Exchange
    assert (request.route.endpoint, request.target) == ("/inference", target.encode())
    assert (request.connection, request.headers) == (b"close", None)
    page = opened("GET", target)
    assert isinstance(page, Page)
    assert page.allow == "POST"


@pytest.mark.parametrize("target", ["/", "/health", "/inference/x", "/inference//", "*"])
def test_everything_else_is_a_page(target: str) -> None:
    page = opened("POST", target)
    assert isinstance(page, Page)
    assert (page.allow, page.route, page.target) == (None, None, target.encode())


def test_what_the_route_and_the_browser_want_goes_along() -> None:
    wanted = opened("POST", "/meta")
    assert isinstance(wanted, Exchange)
    assert wanted.headers == [(b"Host", b"h")]
    asked = opened("POST", "/inference", LINES)
    assert isinstance(asked, BrowserExchange)
    assert asked.lines == LINES
    page = opened("GET", "/", LINES)
    assert isinstance(page, Page)
    assert page.lines == LINES


def test_only_what_depends_on_nothing_but_its_head_is_repeatable() -> None:
    assert is_repeatable(opened("POST", "/inference"))
    for other in (
        opened("POST", "/meta"),
        opened("POST", "/inference?a=b"),
        opened("POST", "/inference", LINES),
        opened("GET", "/"),
    ):
        assert not is_repeatable(other)


class Pair:
    """A front protocol's request: two lines of its body are two requests of the mesh."""

    awaits_turn = False
    route: Route | None = None
    status = sent = 0

    def __init__(self, channel: Any, head: RequestHead, connection: bytes) -> None:
        self.channel, self.method, self.target = channel, head.method, head.target
        self.connection, self.body, self.arrived = connection, b"", 0.0
        self.request_id: bytes | None = None
        self.pending: list[HttpRequest] = []
        self.special = True
        self.inference = channel.inference
        self.transport = self
        self.answers: dict[bytes, bytes] = {}

    def take_header(self, kind: int, value: bytes) -> None:
        """Nothing is of interest."""

    def sent_header(self, name: bytes) -> bytes:
        return b""

    def admit(self, nbytes: int) -> bytes | None:
        return None

    def writable(self) -> None:
        """All is written at once."""

    def start(self) -> None:
        route = self.inference.routes[b"/inference"]
        lines = self.body.split(b"\n")
        self.pending = [Exchange(self, route, b"/pair", 0.0, body=line) for line in lines]
        for exchange in list(self.pending):
            exchange.start()

    def write(self, piece: Any, /) -> None:
        self.answers[b"%d" % len(self.answers)] = bytes(piece).partition(b"\r\n\r\n")[2]

    def abort(self) -> None:
        """Never."""

    def release(self) -> None:
        while self.pending and self.pending[0].flush(self):
            self.pending.pop(0)
        if not self.pending:
            self.channel.release()

    def flush(self, transport: ResponseWriter) -> bool:
        if self.pending or not self.answers:
            return False
        body = b"+".join(self.answers.values())
        transport.write(responses.result(b"id", b"text/plain", b"", body))
        self.status = 200
        return True

    def lost(self) -> None:
        for exchange in self.pending:
            exchange.lost()


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = front_protocols.PROTOCOLS["page"]

    def either(channel: Any, route: Any, head: Any, connection: Any, lines: Any) -> HttpRequest:
        if head.target == b"/pair":
            return Pair(channel, head, connection)
        return pages(channel, route, head, connection, lines)

    monkeypatch.setitem(front_protocols.PROTOCOLS, "page", either)  # type: ignore[arg-type]


@pytest.mark.usefixtures("pairs")
def test_another_protocol_makes_several_requests_of_one_over_http_1() -> None:
    connection, transport = connect(shared(inference := Inference(at_once=True)))
    connection.data_received(post(b"one\ntwo", path="/pair") + post(b"plain"))
    assert inference.bodies == [b"one", b"two", b"plain"]
    written = transport.take()
    assert statuses(written) == [200, 200]
    assert b"one+two" in written
    connection.data_received(post(b"x\ny", path="/pair"))
    assert statuses(transport.take()) == [200]


@pytest.mark.usefixtures("pairs")
def test_its_requests_are_given_up_with_their_client() -> None:
    connection, _ = connect(shared(inference := Inference()))
    connection.data_received(post(b"one\ntwo", path="/pair"))
    connection.connection_lost(None)
    assert inference.left == inference.taken
    assert len(inference.left) == 2


@pytest.mark.usefixtures("pairs")
@turned
async def test_another_protocol_makes_several_requests_of_one_over_http_2() -> None:
    peer = Peer(shared(inference := Inference(at_once=True)))
    got = await peer.answer(peer.ask(b"one\ntwo", path="/pair"))
    await asyncio.sleep(0)
    assert (got.status, got.body) == (200, b"one+two")
    assert inference.bodies == [b"one", b"two"]
