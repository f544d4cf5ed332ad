"""A connection after HTTP: how it comes to be, what tornado can do with it, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from http_fakes import (
    FakeTransport,
    Inference,
    Pages,
    connect,
    echo,
    post,
    shared,
    statuses,
    turned,
)
from tornado import httputil
from tornado.ioloop import IOLoop
from tornado.iostream import StreamClosedError

from gateway.web.exchange import Limits
from gateway.web.http1 import Connection
from gateway.web.tornado_adapter import Page
from gateway.web.websocket_stream import Tunnel

SWITCH = httputil.ResponseStartLine("HTTP/1.1", 101, "Switching Protocols")
GOING_AWAY = b"\x88\x02\x03\xe9"


def handshake(version: str = "1.1", method: str = "GET", lines: str = "") -> bytes:
    return (
        f"{method} /ws HTTP/{version}\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
        f"{lines}\r\n"
    ).encode()


class Visit:
    """A client that asks for an upgrade, and the page that may grant it."""

    def __init__(self, inference: Inference | None = None) -> None:
        self.pages: list[Page] = []
        self.common = shared(
            inference,
            Limits(write_timeout=10.0),
            Pages(lambda page, _headers: self.pages.append(page)),
        )
        self.connection: Connection
        self.transport: FakeTransport
        self.connection, self.transport = connect(self.common)

    def ask(self, request: bytes) -> Page:
        self.connection.data_received(request)
        return self.pages[-1]

    def open(self, sent: bytes = b"") -> Tunnel:
        page = self.ask(handshake() + sent)
        switch(page)
        return page.detach()


def switch(page: Page) -> None:
    headers = httputil.HTTPHeaders({"Upgrade": "websocket", "Connection": "Upgrade"})
    page.write_headers(SWITCH, headers)
    page.finish()


@turned
async def test_a_page_takes_its_connection_over() -> None:
    visit = Visit()
    tunnel = visit.open()
    assert visit.transport.take() == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    assert visit.transport.protocol is tunnel
    assert visit.common.guests == {tunnel}
    assert not visit.transport.closed
    with pytest.raises(RuntimeError, match="detached"):
        visit.pages[0].detach()
    assert tunnel.io_loop is IOLoop.current()


@turned
async def test_what_came_before_it_was_open_is_read_first() -> None:
    visit = Visit()
    page = visit.ask(handshake() + b"abc")
    visit.connection.data_received(b"de")
    switch(page)
    tunnel = page.detach()
    tunnel.data_received(b"fg")
    assert [await tunnel.read_bytes(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]


@turned
async def test_a_tunnel_that_is_opened_at_once_loses_nothing() -> None:
    tunnels = []

    def begin(page: Page, _headers: httputil.HTTPHeaders) -> None:
        switch(page)
        tunnels.append(page.detach())

    connection, _ = connect(shared(pages=Pages(begin)))
    connection.data_received(handshake() + b"abc")
    assert await tunnels[0].read_bytes(3) == b"abc"


@pytest.mark.parametrize(
    "request_",
    [
        handshake(version="1.0"),
        handshake(method="DELETE"),
        handshake(lines="Content-Length: 0\r\n"),
        handshake(lines="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
        handshake(lines="Upgrade: h2c\r\n"),
    ],
)
@turned
async def test_no_other_request_gets_a_tunnel(request_: bytes) -> None:
    visit = Visit()
    page = visit.ask(request_)
    switch(page)
    with pytest.raises(RuntimeError):
        page.detach()


@turned
async def test_a_handshake_in_the_middle_of_others_is_an_ordinary_request() -> None:
    visit = Visit(inference := Inference())
    visit.connection.data_received(post(b"1") + handshake())
    echo(inference.taken[0])
    await asyncio.sleep(0)
    [page] = visit.pages
    assert page.connection == b"close"
    with pytest.raises(RuntimeError, match="detached"):
        page.detach()


@turned
async def test_a_handshake_that_is_answered_otherwise_ends_the_connection() -> None:
    visit = Visit()
    page = visit.ask(handshake() + b"abc")
    line = httputil.ResponseStartLine("HTTP/1.1", 403, "Forbidden")
    page.write_headers(line, httputil.HTTPHeaders({"Content-Length": "0"}))
    page.finish()
    assert statuses(visit.transport.take()) == [403]
    assert visit.transport.closed


@turned
async def test_a_client_that_leaves_before_it_is_open_is_gone() -> None:
    visit = Visit()
    page = visit.ask(handshake())
    visit.connection.connection_lost(None)
    switch(page)
    with pytest.raises(RuntimeError, match="detached"):
        page.detach()
    assert visit.common.guests == set()


@turned
async def test_reading_pauses_while_nobody_wants_so_much() -> None:
    visit = Visit()
    tunnel = visit.open()
    tunnel.data_received(bytes(65_535))
    assert visit.transport.reading
    tunnel.data_received(b"x")
    assert not visit.transport.reading
    wanted = tunnel.read_bytes(100_000)
    assert visit.transport.reading
    tunnel.data_received(bytes(40_000))
    assert len(await wanted) == 100_000
    assert visit.transport.reading


@turned
async def test_a_client_that_sends_too_early_is_not_read_for_ever() -> None:
    visit = Visit()
    visit.ask(handshake() + bytes(70_000))
    assert not visit.transport.reading


@turned
async def test_a_reader_that_no_longer_waits_takes_nothing() -> None:
    tunnel = Visit().open()
    tunnel.read_bytes(2).cancel()
    tunnel.data_received(b"ab")
    assert await tunnel.read_bytes(2) == b"ab"


@turned
async def test_writing_waits_for_the_client() -> None:
    visit = Visit()
    tunnel = visit.open()
    visit.transport.take()
    assert tunnel.write(b"a").done()
    tunnel.pause_writing()
    room = tunnel.write(memoryview(b"b"))
    given_up = tunnel.write(b"c")
    given_up.cancel()
    assert not room.done()
    tunnel.resume_writing()
    await room
    assert visit.transport.take() == b"abc"
    tunnel.resume_writing()
    assert tunnel.write(b"d").done()
    tunnel.set_nodelay(True)


def lose(tunnel: Tunnel) -> None:
    tunnel.connection_lost(None)


def end(tunnel: Tunnel) -> None:
    assert not tunnel.eof_received()


@pytest.mark.parametrize("leave", [lose, end, Tunnel.close])
@turned
async def test_whoever_waits_is_told_of_the_end(leave: Callable[[Tunnel], Any]) -> None:
    visit = Visit()
    tunnel = visit.open()
    tunnel.data_received(b"x")
    reading = tunnel.read_bytes(2)
    tunnel.pause_writing()
    writing = tunnel.write(b"y")
    leave(tunnel)
    assert tunnel.closed()
    for future in (reading, writing, tunnel.read_bytes(2), tunnel.write(b"z")):
        with pytest.raises(StreamClosedError):
            await future
    assert await tunnel.read_bytes(1) == b"x"
    assert visit.transport.closed == (leave is Tunnel.close)
    tunnel.connection_lost(None)
    assert visit.common.guests == set()
    for late in (tunnel.close, tunnel.abort, tunnel.retire, lambda: tunnel.tick(99.0)):
        late()


@turned
async def test_a_stopping_server_says_so_in_a_close_frame() -> None:
    visit = Visit()
    tunnel = visit.open()
    visit.transport.take()
    tunnel.retire()
    assert visit.transport.take() == GOING_AWAY
    assert visit.transport.closed
    tunnel.retire()
    assert visit.transport.take() == b""


@turned
async def test_a_client_that_takes_nothing_is_given_up() -> None:
    visit = Visit()
    tunnel = visit.open()
    tunnel.tick(100.0)
    tunnel.pause_writing()
    for unsent in (9, 5, 5):
        visit.transport.unsent = unsent
        tunnel.tick(6.0)
    assert not visit.transport.aborted
    tunnel.tick(6.0)
    assert visit.transport.aborted
    tunnel.abort()
