import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_fakes import FakeTransport, Inference, Pages, connect, echo, post, shared, turned
from tornado import httputil
from tornado.iostream import StreamClosedError

from gateway.web.http1 import Connection
from gateway.web.tornado_adapter import Page

Begin = Callable[[Page, httputil.HTTPHeaders], None]
LINE = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")


def get(version: str = "1.1", method: str = "GET", lines: str = "") -> bytes:
    return f"{method} /page HTTP/{version}\r\nHost: h\r\n{lines}\r\n".encode()


class Visit:
    """A page that the test answers by hand."""

    def __init__(self, inference: Inference | None = None) -> None:
        self.pages: list[Page] = []
        common = shared(inference, pages=Pages(lambda page, _headers: self.pages.append(page)))
        self.connection: Connection
        self.transport: FakeTransport
        self.connection, self.transport = connect(common)

    def ask(self, request: bytes) -> Page:
        self.connection.data_received(request)
        return self.pages[-1]


def run(test: Callable[[Visit], None]) -> None:
    async def inside() -> None:
        test(Visit())

    asyncio.run(inside())


def answer(page: Page, *pieces: bytes, status: int = 200, **headers: str) -> None:
    line = httputil.ResponseStartLine("HTTP/1.1", status, "Why")
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    page.write_headers(line, httputil.HTTPHeaders(lines), pieces[0] if pieces else None)
    for piece in pieces[1:]:
        page.write(piece)
    page.finish()


def test_a_declared_body_goes_as_it_is() -> None:
    def test(visit: Visit) -> None:
        page = visit.ask(get())
        answer(page, b"he", b"llo", Content_Length="5")
        assert visit.transport.take() == b"HTTP/1.1 200 Why\r\nContent-Length: 5\r\n\r\nhello"
        assert (page.status, page.sent) == (200, 44)
        assert not visit.transport.closed

    run(test)


def test_a_body_of_unknown_length_goes_in_chunks() -> None:
    def test(visit: Visit) -> None:
        answer(visit.ask(get()), b"he", b"", b"llo")
        assert visit.transport.take() == (
            b"HTTP/1.1 200 Why\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        )

    run(test)


def test_for_http_1_0_its_end_is_the_end_of_the_connection() -> None:
    def test(visit: Visit) -> None:
        answer(visit.ask(get("1.0", lines="Connection: keep-alive\r\n")), b"hello")
        assert visit.transport.take() == b"HTTP/1.1 200 Why\r\nConnection: close\r\n\r\nhello"
        assert visit.transport.closed

    run(test)


def test_http_1_0_may_stay_if_the_length_is_known() -> None:
    def test(visit: Visit) -> None:
        request = get("1.0", lines="Connection: keep-alive\r\n")
        answer(visit.ask(request), b"hello", Content_Length="5")
        assert b"\r\nConnection: keep-alive\r\n" in visit.transport.take()
        assert not visit.transport.closed

    run(test)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_where_there_is_no_body_there_is_no_framing(method: str, status: int) -> None:
    def test(visit: Visit) -> None:
        answer(visit.ask(get(method=method)), status=status)
        assert visit.transport.take() == f"HTTP/1.1 {status} Why\r\n\r\n".encode()

    run(test)


def test_head_tells_the_length_and_leaves_the_body_out() -> None:
    def test(visit: Visit) -> None:
        answer(visit.ask(get(method="HEAD")), b"hello", Content_Length="5")
        assert visit.transport.take().endswith(b"Content-Length: 5\r\n\r\n")

    run(test)


class Careless(httputil.HTTPHeaders):
    """Headers that nobody checked."""

    def get_all(self) -> Iterator[tuple[str, str]]:
        yield "X-A", "1\r\nX-B: 2"


def test_a_header_cannot_break_out_of_its_line() -> None:
    def test(visit: Visit) -> None:
        page = visit.ask(get())
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            page.write_headers(LINE, Careless())
        split = httputil.ResponseStartLine("HTTP/1.1", 200, "OK\r\nX-B: 2")
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            page.write_headers(split, httputil.HTTPHeaders())
        assert visit.transport.written == b""

    run(test)


def test_writing_more_or_less_than_declared_is_an_error() -> None:
    def test(visit: Visit) -> None:
        page = visit.ask(get())
        with pytest.raises(httputil.HTTPOutputError, match="more"):
            answer(page, b"hello", Content_Length="4")
        with pytest.raises(httputil.HTTPOutputError, match="lacks 1"):
            answer(page, b"hello", Content_Length="6")
        assert visit.transport.aborted

    run(test)


@turned
async def test_a_page_waits_for_its_turn() -> None:
    visit = Visit(inference := Inference())
    visit.connection.data_received(post(b"1") + get() + get())
    echo(inference.taken[0])
    assert visit.pages == []  # others have their turn in between
    await asyncio.sleep(0)
    [page] = visit.pages
    assert visit.transport.take().endswith(b"1")
    headers = httputil.HTTPHeaders({"Content-Length": "5"})
    assert page.write_headers(LINE, headers, b"he").done()
    assert page.write(b"llo").done()
    assert visit.transport.take() == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    await asyncio.sleep(0)
    assert len(visit.pages) == 1
    page.finish()
    assert len(visit.pages) == 1
    await asyncio.sleep(0)
    assert len(visit.pages) == 2


@turned
async def test_a_page_waits_for_the_client_to_read() -> None:
    visit = Visit()
    page = visit.ask(get())
    page.write_headers(LINE, httputil.HTTPHeaders(), b"a")
    visit.connection.pause_writing()
    room = page.write(b"b")
    assert not room.done()
    room.cancel()
    again = page.write(b"c")
    visit.connection.resume_writing()
    assert again.done()
    assert not again.cancelled()


@turned
async def test_who_cancels_waiting_costs_nobody_anything() -> None:
    visit = Visit()
    page = visit.ask(get())
    page.write_headers(LINE, httputil.HTTPHeaders(), b"a")
    visit.connection.pause_writing()
    page.write(b"b").cancel()
    visit.connection.resume_writing()
    visit.connection.pause_writing()
    page.write(b"c").cancel()
    visit.connection.connection_lost(None)


@turned
async def test_tornado_hears_of_a_client_that_left() -> None:
    visit = Visit()
    page = visit.ask(get())
    left: list[bool] = []
    page.set_close_callback(lambda: left.append(True))
    page.write_headers(LINE, httputil.HTTPHeaders(), b"a")
    visit.connection.pause_writing()
    room = page.write(b"b")
    visit.connection.connection_lost(None)
    assert left == [True]
    with pytest.raises(StreamClosedError):
        await room
    with pytest.raises(StreamClosedError):
        await page.write(b"c")
    page.finish()
    assert visit.transport.take().endswith(b"1\r\nb\r\n")


def test_a_page_that_is_done_needs_no_closing() -> None:
    def test(visit: Visit) -> None:
        page = visit.ask(get())
        left: list[bool] = []
        page.set_close_callback(lambda: left.append(True))
        answer(page, b"x")
        visit.connection.connection_lost(None)
        assert left == []

    run(test)


def test_nothing_takes_the_connection_over_that_has_not_switched() -> None:
    def test(visit: Visit) -> None:
        page = visit.ask(get())
        with pytest.raises(RuntimeError, match="detached"):
            page.detach()

    run(test)


def test_a_page_has_an_id_and_an_origin() -> None:
    def test(visit: Visit) -> None:
        page = visit.ask(get())
        assert page.request_id == b"boot-0"
        assert (page.context.remote_ip, page.context.protocol) == ("192.0.2.7", "http")
        other = Visit().ask(get(lines="X-Request-ID: mine\r\n"))
        assert other.request_id == b"mine"

    run(test)


class Picky(Pages):
    """Refuses what it is asked, as tornado refuses an unreadable query."""

    def start_request(self, server_conn: object, request_conn: Any) -> httputil.HTTPMessageDelegate:
        raise httputil.HTTPInputError("unreadable")


@turned
async def test_what_tornado_refuses_is_answered_in_our_form() -> None:
    connection, transport = connect(shared(pages=Picky()))
    connection.data_received(get())
    written = transport.take()
    assert written.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n")
    assert b'"message":"unreadable"' in written
    assert transport.closed
