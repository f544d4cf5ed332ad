"""One request by HTTP/2: becomes the same exchange or page as by HTTP/1.1, is answered the same."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fake_view import View
from h2.errors import ErrorCodes
from http2_fakes import Answer, Peer
from http_fakes import Inference, Pages, echo, shared
from test_web_http2 import meet, turned
from tornado import httputil
from tornado.iostream import StreamClosedError

from gateway.admin.pages import make_app
from gateway.web import headers as heads
from gateway.web import responses as answers
from gateway.web.exchange import Exchange, Limits, Turn
from gateway.web.http2_stream import Stream
from gateway.web.tornado_adapter import Page

TRACE = "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01"


def code(answer: Answer) -> str:
    """The code of an error answer, which must be whole."""
    assert answer.ended
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    error = json.loads(answer.body)["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return str(error["code"])


# ---- inference


@turned
async def test_a_request_becomes_an_exchange() -> None:
    peer, inference = meet()
    lines = (
        ("x-request-id", "mine"),
        ("traceparent", TRACE),
        ("x-request-timeout", "250ms"),
        ("x-priority", "high"),
    )
    got = await peer.answer(peer.ask(b"hello", "/inference?a=b", lines=lines))
    [exchange] = inference.taken
    assert (exchange.method, exchange.target, exchange.body) == (
        b"POST",
        b"/inference?a=b",
        b"hello",
    )
    assert (exchange.request_id, exchange.traceparent) == (b"mine", TRACE)
    assert (exchange.timeout, exchange.priority, exchange.headers) == (0.25, 1, None)
    assert (got.status, got.body, got.ended, got.reset) == (200, b"hello", True, None)
    assert got.headers == {
        ":status": "200",
        "content-type": "text/plain",
        "content-length": "5",
        "x-request-id": "id",
        "server-timing": "",
        "server": answers.SERVER,
    }


@turned
async def test_header_lines_are_kept_only_for_a_route_that_wants_them() -> None:
    peer, inference = meet()
    peer.ask(b"x", "/meta", lines=(("x-a", "1"), ("x-a", "2")))
    assert inference.taken[0].headers == [
        (b"host", b"h"),
        (b"content-length", b"1"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
    ]


@turned
async def test_an_empty_body_is_a_body_and_an_empty_answer_an_answer() -> None:
    peer, inference = meet(Inference())
    number = peer.ask(b"")
    assert inference.bodies == [b""]
    inference.taken[0].respond(answers.special_head(204, b"7", b"", (), b"", 0))
    got = await peer.answer(number)
    assert (got.status, got.body, got.ended, got.pieces) == (204, b"", True, 0)


@turned
async def test_a_body_may_come_in_pieces_and_end_with_trailers() -> None:
    peer, inference = meet()
    number = peer.ask(None)
    peer.send(number, b"ab")
    peer.send(number, b"cd")
    assert inference.taken == []
    peer.wire.send_headers(number, [("x-trailer", "1")], end_stream=True)
    peer.tell()
    assert inference.bodies == [b"abcd"]
    assert inference.asked == [65_536]


@turned
async def test_a_client_may_change_its_mind() -> None:
    peer, inference = meet(Inference())
    waiting, half = peer.ask(b"x"), peer.ask(None)
    for number in (waiting, half):
        peer.wire.reset_stream(number)
    peer.tell()
    assert inference.left[:1] == inference.taken
    assert len(inference.left) == 2  # the one that was not whole held a place, too
    echo(inference.taken[0])
    await peer.settle()
    assert peer.goodbye is None
    assert (await peer.answer(peer.ask(b"y"))).status == 0


@turned
async def test_a_request_that_raises_costs_nobody_else_anything() -> None:
    class Broken(Inference):
        def submit(self, exchange: Any) -> None:
            super().submit(exchange)
            if exchange.body == b"bad":
                raise RuntimeError("ours")

    seen: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, what: seen.append(what["exception"]))
    peer, inference = meet(Broken(at_once=False))
    bad, good = peer.ask(b"bad"), peer.ask(b"good")
    echo(inference.taken[1])
    assert (await peer.answer(good)).body == b"good"
    assert code(peer.answers[bad]) == "server_error"
    assert [str(error) for error in seen] == ["ours"]
    assert inference.left == inference.taken[:1]


@turned
async def test_the_access_log_hears_of_every_answer() -> None:
    log: list[Turn] = []
    peer = Peer(shared(Inference(at_once=True), access=lambda turn, _: log.append(turn)))
    await peer.answer(peer.ask(b"hello"))
    await peer.answer(peer.ask(b"", "/page", "GET"))
    assert [(turn.status, turn.target) for turn in log] == [(200, b"/inference"), (200, b"/page")]


@turned
async def test_the_access_log_hears_of_requests_that_their_client_gave_up() -> None:
    logged: list[tuple[bytes, int]] = []

    def access(turn: Turn, client: str, status: int = 0) -> None:
        logged.append((turn.target, status or turn.status))

    peer = Peer(shared(Inference(), access=access))
    number = peer.ask(b"hello")
    await peer.settle()
    peer.wire.reset_stream(number)
    await peer.settle()
    assert logged == [(b"/inference", 499)]


# ---- refusals


@pytest.mark.parametrize(
    ("asked", "status", "word"),
    [
        ({"method": "CONNECT"}, 405, "method_not_allowed"),
        ({"path": "inference"}, 400, "bad_request"),
        ({"path": "/\x1b[2J"}, 400, "bad_request"),
        ({"lines": (("x-big", "x" * 1100),)}, 431, "headers_too_large"),
        ({"lines": (("content-length", "100001"),), "body": None}, 413, "body_too_large"),
        ({"lines": (("expect", "miracles"),), "body": None}, 417, "expectation_failed"),
    ],
)
@turned
async def test_what_is_not_acceptable_is_refused(
    asked: dict[str, Any], status: int, word: str
) -> None:
    counted: list[str] = []
    common = shared(Inference(), Limits(max_header=1024, max_body=100_000))
    common.refused = lambda code, message, name: counted.append(code)
    peer = Peer(common)
    got = await peer.answer(peer.ask(**asked))
    assert (got.status, code(got), counted) == (status, word, [word])
    if status == 405:
        assert got.headers["allow"] == ""


@turned
async def test_headers_that_go_far_beyond_end_the_connection() -> None:
    peer, _ = meet(limits=Limits(max_header=1024))
    peer.ask(b"", lines=(("x-big", "x" * 3000),))
    peer.hear()
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("hosts", [[], ["a", "b"]])
@turned
async def test_h2_ends_a_connection_that_names_no_host_or_two(hosts: list[str]) -> None:
    peer, inference = meet()
    number = peer.wire.get_next_available_stream_id()
    head = [(":method", "POST"), (":scheme", "http"), (":path", "/inference")]
    peer.wire.config.validate_outbound_headers = False
    peer.wire.send_headers(number, head + [("host", host) for host in hosts], end_stream=True)
    peer.tell()
    await peer.settle()
    assert peer.goodbye == ErrorCodes.PROTOCOL_ERROR
    assert inference.taken == []


@turned
async def test_if_h2_lets_it_pass_it_is_refused() -> None:
    peer, inference = meet(Inference())
    number = peer.ask(None)
    stream = Stream(peer.connection, number)
    peer.connection.streams[number] = stream
    stream.begin(heads.Head(b"POST", b"/inference", [], []), ended=True)
    assert code(await peer.answer(number)) == "bad_request"
    assert inference.taken == []


BREAKOUTS = [
    (b"x-a", b"b\r\nhost: evil"),
    (b"x-a", b"b\nc"),
    (b"x-a", b"b\rc"),
    (b"x-a", b"b\0c"),
    (b"x-a\r\nx-b", b"c"),
    (b"x-a: b\r", b"c"),
    (b"x a", b"c"),
    (b"X-Upper", b"c"),
    (b"", b"c"),
    (b"x:a", b"c"),
]


@pytest.mark.parametrize(("name", "value"), BREAKOUTS)
@turned
async def test_a_header_line_that_would_break_out_is_refused_although_h2_lets_it_pass(
    name: bytes, value: bytes
) -> None:
    peer, inference = meet()
    peer.wire.config.validate_outbound_headers = False
    peer.wire.config.normalize_outbound_headers = False
    peer.connection._wire.config.validate_inbound_headers = False
    number = peer.wire.get_next_available_stream_id()
    head = [(b":method", b"POST"), (b":authority", b"h"), (b":scheme", b"http")]
    head += [(b":path", b"/inference"), (name, value)]
    peer.wire.send_headers(number, head, end_stream=True)
    got = await peer.answer(number)
    assert (got.status, code(got)) == (400, "bad_request")
    assert not inference.taken


@pytest.mark.parametrize("broken", [b"X-A: b\rc", b"X-A: b\nc", b"X-A: b\0c", b"X\nA: b"])
@turned
async def test_an_answer_whose_head_would_break_out_is_not_sent(broken: bytes) -> None:
    class Broken(Inference):
        def submit(self, exchange: Exchange) -> None:
            exchange.respond(b"HTTP/1.1 200 OK\r\n" + broken + b"\r\n\r\nbody")

    peer = Peer(shared(Broken()))
    got = await peer.answer(peer.ask(b"x"))
    assert (got.status, got.body) == (0, b"")
    assert got.reset == ErrorCodes.INTERNAL_ERROR


@turned
async def test_a_body_that_grows_too_large_is_answered_before_it_ends() -> None:
    peer, inference = meet(limits=Limits(max_body=1000))
    number = peer.ask(None)
    peer.send(number, bytes(1001))
    got = await peer.answer(number)
    assert code(got) == "body_too_large"
    assert got.reset is None
    peer.send(number, bytes(300_000), end=True)  # it goes on, and is listened to
    await peer.settle()
    assert not peer.connection.streams
    assert (inference.taken, got.reset) == ([], None)


@turned
async def test_a_refused_client_that_goes_on_for_long_is_cut_off() -> None:
    peer, _ = meet(limits=Limits(max_body=1000, linger=2.0))
    number = peer.ask(None, lines=(("content-length", "5000"),))
    got = await peer.answer(number)
    peer.connection.tick(1.0)
    await peer.settle()
    assert (got.status, got.reset) == (413, None)
    peer.connection.tick(1.0)
    await peer.settle()
    assert got.reset == ErrorCodes.NO_ERROR


@turned
async def test_bodies_are_asked_about_before_they_are_read() -> None:
    inference = Inference()
    peer, _ = meet(inference)
    for length in (10, 65_535, 65_536):
        peer.ask(None, lines=(("content-length", str(length)),))
    assert inference.asked == [10, 65_535, 65_536]
    inference.refusal = answers.failure("overloaded", "full", None, b"7")
    number = peer.ask(None)
    assert code(await peer.answer(number)) == "overloaded"


@turned
async def test_a_client_that_waits_for_a_word_gets_it() -> None:
    peer, inference = meet()
    number = peer.ask(None, lines=(("expect", "100-continue"),))
    assert (await peer.answer(number)).informed == ["100"]
    peer.send(number, b"hello", end=True)
    assert (await peer.answer(number)).body == b"hello"
    assert inference.asked == [65_536]
    inference.refusal = answers.failure("overloaded", "full", None, b"7")
    got = await peer.answer(peer.ask(None, lines=(("expect", "100-continue"),)))
    assert (got.status, got.informed) == (429, [])


@turned
async def test_who_does_not_wait_for_the_word_does_not_get_it() -> None:
    peer, _ = meet()
    lines = (("expect", "100-continue"),)
    assert (await peer.answer(peer.ask(b"", lines=lines))).informed == []


@turned
async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    peer, _ = meet(limits=Limits(body_timeout=5.0))
    number = peer.ask(None)
    peer.send(number, bytes(16_384))
    peer.connection.tick(5.5)
    assert (await peer.answer(number)).status == 0
    peer.connection.tick(0.5)
    assert code(await peer.answer(number)) == "request_timeout"


@turned
async def test_an_address_has_so_many_slow_bodies_and_no_more() -> None:
    peer, inference = meet(Inference(at_once=True), limits=Limits(uploads_per_address=2))
    first, second, third = (peer.ask(None) for _ in range(3))
    assert (await peer.answer(third)).status == 0
    peer.connection.tick(1.0)
    assert code(await peer.answer(third)) == "overloaded"
    peer.send(first, b"1", end=True)
    peer.wire.reset_stream(second)
    assert (await peer.answer(first)).status == 200
    peer.ask(None)
    peer.connection.tick(1.0)
    assert (await peer.answer(peer.ask(b"whole"))).status == 200
    peer.connection.connection_lost(None)
    assert not peer.connection.shared.uploads._counts
    assert inference.bodies == [b"1", b"whole"]


@turned
async def test_an_answer_that_is_not_taken_is_given_up() -> None:
    peer, inference = meet(Inference(), limits=Limits(write_timeout=5.0), window=10)
    peer.connection.shared.unread.patience = 1000.0  # one stream, not the connection
    number = peer.ask(b"x")
    for _ in range(3):
        peer.connection.tick(4.0)  # the inference takes its time
    inference.taken[0].respond(answers.result(b"id", b"a/b", b"", bytes(100)))
    await peer.settle()
    peer.connection.tick(4.0)
    peer.wire.increment_flow_control_window(10, number)
    peer.tell()
    peer.connection.tick(4.0)
    await peer.settle()
    assert (len(peer.answers[number].body), peer.answers[number].reset) == (20, None)
    peer.connection.tick(4.0)
    await peer.settle()
    assert peer.answers[number].reset == ErrorCodes.INTERNAL_ERROR


# ---- pages


class Visit(Peer):
    """A client of pages that the test answers by hand."""

    def __init__(self, window: int = 0) -> None:
        self.pages: list[Page] = []
        pages = Pages(lambda page, _headers: self.pages.append(page))
        super().__init__(shared(pages=pages), window=window)

    async def visit(self, method: str = "GET") -> tuple[int, Page]:
        number = self.ask(b"", "/page", method)
        await asyncio.sleep(0)  # pages begin after whatever else there is to do
        return number, self.pages[-1]


def begin(page: Page, chunk: bytes = b"", **headers: str) -> asyncio.Future[None]:
    line = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
    return page.write_headers(line, httputil.HTTPHeaders(headers), chunk)


@turned
async def test_a_page_of_unknown_length_is_sent_as_it_comes() -> None:
    peer = Visit()
    number, page = await peer.visit()
    assert begin(page, b"he").done()
    got = await peer.answer(number)
    assert (got.headers, got.body, got.ended) == ({":status": "200"}, b"he", False)
    page.write(b"llo")
    page.finish()
    got = await peer.answer(number)
    assert (got.body, got.ended) == (b"hello", True)


@turned
async def test_head_tells_the_length_and_leaves_the_body_out() -> None:
    peer = Visit()
    number, page = await peer.visit("HEAD")
    begin(page, b"hello", **{"Content-Length": "5"})
    page.finish()
    got = await peer.answer(number)
    assert (got.headers["content-length"], got.body, got.ended) == ("5", b"", True)


@turned
async def test_a_page_waits_for_the_clients_window() -> None:
    peer = Visit(window=10)
    number, page = await peer.visit()
    assert begin(page, bytes(65_000)).done()
    room = page.write(bytes(5000))
    assert not room.done()
    for _ in range(10):
        for place in (None, number):
            peer.wire.increment_flow_control_window(1000, place)
        peer.tell()
        await peer.settle()
    assert room.done()


@turned
async def test_a_page_that_cannot_be_completed_is_reset() -> None:
    peer = Visit()
    number, page = await peer.visit()
    begin(page, b"he", **{"Content-Length": "5"})
    with pytest.raises(httputil.HTTPOutputError, match="lacks 3"):
        page.finish()
    assert (await peer.answer(number)).reset == ErrorCodes.INTERNAL_ERROR
    assert not peer.connection.streams


@turned
async def test_tornado_hears_of_a_client_that_left() -> None:
    peer = Visit()
    number, page = await peer.visit()
    left: list[bool] = []
    page.set_close_callback(lambda: left.append(True))
    begin(page)
    peer.wire.reset_stream(number)
    peer.tell()
    assert left == [True]
    with pytest.raises(StreamClosedError):
        await page.write(b"x")


@turned
async def test_a_page_that_raises_in_the_middle_is_reset() -> None:
    def fail(page: Page, _headers: httputil.HTTPHeaders) -> None:
        begin(page, b"he")
        raise RuntimeError("ours")

    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: seen.append(what))
    peer = Peer(shared(pages=Pages(fail)))
    number = peer.ask(b"", "/page", "GET")
    assert (await peer.answer(number)).reset == ErrorCodes.INTERNAL_ERROR
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("path", "method", "status", "word"),
    [
        ("/health", "GET", 200, ""),
        ("/nowhere", "GET", 404, "not_found"),
        ("/health", "POST", 405, "method_not_allowed"),
        ("/inference", "GET", 405, "method_not_allowed"),
        ("*", "OPTIONS", 204, ""),
        ("/inference", "OPTIONS", 204, ""),
        ("/inference/", "GET", 405, "method_not_allowed"),
    ],
)
@turned
async def test_tornados_application_answers(path: str, method: str, status: int, word: str) -> None:
    peer = Peer(shared(pages=make_app(View())))
    got = await peer.answer(peer.ask(b"", path, method))
    assert (got.status, got.ended, got.headers["x-request-id"]) == (status, True, "boot-0")
    if word:
        assert code(got) == word
        assert ("allow" in got.headers) == (status == 405)


@turned
async def test_a_page_has_an_origin_and_a_stream_a_face() -> None:
    peer = Visit()
    number, page = await peer.visit()
    assert (page.context.remote_ip, page.context.protocol) == ("192.0.2.7", "http")
    assert repr(peer.connection.streams[number]) == f"<Stream {number}, pending>"
    assert "reading" in repr(peer.connection.streams[peer.ask(None)])


@turned
async def test_a_stream_is_not_detached() -> None:
    peer = Visit()
    _, page = await peer.visit()
    page.write_headers(httputil.ResponseStartLine("HTTP/1.1", 101, "?"), httputil.HTTPHeaders())
    with pytest.raises(RuntimeError, match="HTTP/2"):
        page.detach()


@turned
async def test_a_refused_body_that_goes_on_has_longer_but_not_for_ever() -> None:
    peer, _ = meet(Inference(), limits=Limits(max_body=10))
    number = peer.ask(None, lines=(("content-length", "100"),))
    assert (await peer.answer(number)).status == 413
    for _ in range(30):
        peer.send(number, b"x")
        peer.connection.tick(1.0)
        await peer.settle()
        assert peer.answers[number].reset is None
    peer.connection.tick(1.0)
    peer.connection.tick(1.0)
    await peer.settle()
    assert peer.answers[number].reset == ErrorCodes.NO_ERROR
