"""Real sockets on loopback, on both event loops."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import wraps

import pytest
import uvloop
from http_fakes import Inference, Pages, echo, post, statuses, without_first

from gateway.web import http_server
from gateway.web.exchange import Exchange
from gateway.web.http_request import HttpRequest
from gateway.web.http_server import HttpServer, fitted
from gateway.web.limits import Limits
from gateway.web.server_state import LogAccess
from mesh.process.accept_balance import AcceptBalance, AcceptShare
from mesh.process.listen_socket import bound, look_up


@pytest.fixture(autouse=True)
def _no_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "NOTICE_S", 0.0)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - the loop must turn, nothing tells
        await asyncio.sleep(0)


LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]
# libuv opens a pipe for signals once per process, which is nothing that a test leaves behind.
uvloop.new_event_loop().close()
BIG = 8 * 1024 * 1024


class Later(Inference):
    """Echoes at the end of the loop's turn, unless it is told to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()
        self.departed = asyncio.Event()
        self.hold = False

    def submit(self, exchange: Exchange) -> None:
        super().submit(exchange)
        self.arrived.set()
        if not self.hold:
            asyncio.get_running_loop().call_soon(echo, exchange)

    def gone(self, exchange: Exchange) -> None:
        super().gone(exchange)
        self.departed.set()


class Client:
    """One connection, read to the byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        """The next answer that states its length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return head + await self.reader.readexactly(int(value))
        return head

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Place:
    """A server of a test, and its clients."""

    def __init__(self, limits: Limits | None = None, access: LogAccess | None = None) -> None:
        self.inference = Later()
        self.refused: list[str] = []
        self.server = HttpServer(
            self.inference,
            Pages(),
            limits,
            access=access,
            refused=lambda code, message, name: self.refused.append(code),
        )
        self.clients: list[Client] = []
        self.port = 0

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def post(self, body: bytes) -> bytes:
        client = await self.connect()
        client.writer.write(post(body))
        return await client.answer()


def run(
    loop: Callable[[], asyncio.AbstractEventLoop],
    test: Callable[[Place], Awaitable[None]],
    limits: Limits | None = None,
    access: LogAccess | None = None,
) -> None:
    async def inside() -> None:
        place = Place(limits, access)
        host, place.port = await place.server.start("127.0.0.1", 0)
        assert host == "127.0.0.1"
        try:
            await asyncio.wait_for(test(place), 20)
        finally:
            for client in place.clients:
                client.writer.close()
            await place.server.drain(1.0)
            assert place.server.connections == 0

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(inside())


def served(
    limits: Limits | None = None,
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]:
    """Run a test with a server, on both event loops."""

    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        @pytest.mark.parametrize("loop", LOOPS)
        @wraps(test)
        def on(loop: Callable[[], asyncio.AbstractEventLoop], **kwargs: object) -> None:
            run(loop, lambda place: test(place, **kwargs), limits)

        on.__signature__ = without_first(test, "loop")  # type: ignore[attr-defined]
        return on

    return decorate


@served()
async def test_requests_of_many_clients_are_answered(place: Place) -> None:
    bodies = [b"%d" % number * number for number in range(30)]
    answered = await asyncio.gather(*map(place.post, bodies))
    assert [a.partition(b"\r\n\r\n")[2] for a in answered] == bodies
    assert place.server.connections == 30


@served()
async def test_pipelined_requests_are_answered_in_order(place: Place) -> None:
    client = await place.connect()
    bodies = [b"x" * (number % 7) + b"%d" % number for number in range(500)]
    client.writer.write(b"".join([post(body) for body in bodies]))
    for body in bodies:
        assert (await client.answer()).endswith(b"\r\n\r\n" + body)


@served()
async def test_a_large_body_comes_and_goes_whole(place: Place) -> None:
    body = bytes(range(256)) * (BIG // 256)
    for _ in range(2):
        assert (await place.post(body)).partition(b"\r\n\r\n")[2] == body


def insist(port: int) -> bytes:
    """A client that reads only once it has sent everything, as many do."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(post(b"x" * BIG))
        return client.makefile("rb").read()


@served(Limits(max_body=1000))
async def test_a_client_that_still_sends_can_read_why_it_is_refused(place: Place) -> None:
    for _ in range(20):
        assert statuses(await asyncio.to_thread(insist, place.port)) == [413]
    assert place.inference.taken == []
    assert place.refused == ["body_too_large"] * 20


@served()
async def test_a_client_that_leaves_is_noticed(place: Place) -> None:
    place.inference.hold = True
    client = await place.connect()
    client.writer.write(post(b"1"))
    await place.inference.arrived.wait()
    await client.close()
    await place.inference.departed.wait()
    assert place.inference.left == place.inference.taken


@served(Limits(linger=0.1))
async def test_a_drain_answers_what_has_begun(place: Place) -> None:
    place.inference.hold = True
    idle, busy = await place.connect(), await place.connect()
    busy.writer.write(post(b"1"))
    await place.inference.arrived.wait()
    draining = asyncio.ensure_future(place.server.drain(10.0))
    assert await idle.reader.read() == b""
    late = await place.connect()  # it may ask once
    late.writer.write(post(b"2") + post(b"3"))
    await until(lambda: len(place.inference.taken) == 2)
    silent = await place.connect()
    for exchange, client in zip(place.inference.taken, (busy, late), strict=True):
        echo(exchange)
        assert b"\r\nConnection: close\r\n" in await client.answer()
        assert await client.reader.read() == b""
    await draining
    assert await silent.reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await place.connect()


@served()
async def test_a_server_that_drains_can_still_be_asked_for_a_moment(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "NOTICE_S", 60.0)
    place.inference.hold = True
    draining = asyncio.ensure_future(place.server.drain(0.3))
    client = await place.connect()
    client.writer.write(post(b"1"))
    await place.inference.arrived.wait()
    echo(place.inference.taken[0])
    assert b"\r\nConnection: close\r\n" in await client.answer()
    assert not draining.done()
    await draining  # within the grace, whatever the notice is
    monkeypatch.setattr(http_server, "NOTICE_S", 0.0)


@served()
async def test_a_drain_ends_when_its_grace_does(place: Place) -> None:
    place.inference.hold = True
    client = await place.connect()
    client.writer.write(post(b"1"))
    await place.inference.arrived.wait()
    await place.server.drain(0.05)
    assert place.server.connections == 0
    assert place.inference.left == place.inference.taken


@served(Limits(idle_timeout=0.1, body_timeout=0.1))
async def test_the_sweep_ends_what_takes_too_long(place: Place) -> None:
    client = await place.connect()
    assert await client.reader.read() == b""
    slow = await place.connect()
    slow.writer.write(post(b"12345")[:-1])
    assert statuses(await slow.reader.read()) == [408]


def test_answers_are_logged_if_so_wanted() -> None:
    logged: list[tuple[int, str]] = []

    def access(turn: HttpRequest, client: str, status: int = 0) -> None:
        logged.append((turn.status, client))

    async def test(place: Place) -> None:
        await place.post(b"hello")

    run(asyncio.new_event_loop, test, access=access)
    assert logged == [(200, "127.0.0.1")]


def test_an_address_in_use_is_an_error() -> None:
    async def inside() -> None:
        place = Place()
        _, port = await place.server.start("127.0.0.1", 0)
        try:
            with pytest.raises(OSError, match="in use"):
                await Place().server.start("127.0.0.1", port)
        finally:
            await place.server.drain(1.0)

    asyncio.run(inside())


def test_a_port_that_others_share_is_theirs_when_one_drains() -> None:
    """The one that leaves answers whom it has; whoever connects then is for its sibling."""
    closed: list[str] = []

    async def inside() -> None:
        (door,) = bound(look_up("127.0.0.1", 0))
        accept_balance = AcceptBalance(bytearray(AcceptBalance.size(2)))
        leaving, staying = Place(), Place()
        address = leaving.server.take(
            [door.dup()], AcceptShare(accept_balance, 1), lambda: closed.append("first")
        )
        leaving.port = staying.port = address[1]
        leaving.inference.hold = True
        asked = asyncio.ensure_future(leaving.post(b"old"))
        await leaving.inference.arrived.wait()
        staying.server.take([door], AcceptShare(accept_balance, 2), lambda: closed.append("second"))
        draining = asyncio.ensure_future(leaving.server.drain(10.0))
        await asyncio.sleep(0)
        assert statuses(await staying.post(b"new")) == [200]
        assert (closed, draining.done()) == ([], False)
        echo(leaving.inference.taken[0])
        assert statuses(await asked) == [200]
        await draining
        assert closed == ["first"]
        assert statuses(await staying.post(b"newer")) == [200]
        assert len(staying.inference.taken) == 2
        for client in leaving.clients + staying.clients:
            await client.close()
        await staying.server.drain(1.0)
        await staying.server.drain(1.0)
        assert closed == ["first", "second"]

    asyncio.run(asyncio.wait_for(inside(), 20))


def test_those_who_share_a_port_know_at_once_who_has_gone() -> None:
    async def inside() -> None:
        (door,) = bound(look_up("127.0.0.1", 0))
        accept_balance = AcceptBalance(bytearray(AcceptBalance.size(2)))
        place = Place()
        place.port = place.server.take([door], AcceptShare(accept_balance, 1))[1]
        for _ in range(8):
            await place.post(b"x")
        assert accept_balance.room(2) == 8 + 1 + 8 // 4
        for client in place.clients:
            await client.close()
        await until(lambda: place.server.connections == 0)
        assert accept_balance.room(2) == 1
        await place.server.drain(1.0)

    asyncio.run(asyncio.wait_for(inside(), 20))


def test_the_last_of_those_who_share_a_port_tells_newcomers_that_it_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "NOTICE_S", 5.0)

    async def inside() -> None:
        (door,) = bound(look_up("127.0.0.1", 0))
        accept_balance = AcceptBalance(bytearray(AcceptBalance.size(2)))
        accept_balance.count(2, 0)  # a sibling that takes connections, and then none any more
        place = Place()
        place.port = place.server.take([door], AcceptShare(accept_balance, 1))[1]
        draining = asyncio.ensure_future(place.server.drain(0.5))
        asked = asyncio.ensure_future(place.post(b"late"))
        await asyncio.sleep(0.1)
        assert not asked.done()
        accept_balance.away(2)
        assert b"connection: close" in (await asked).lower()
        await place.clients[0].close()
        await draining

    asyncio.run(asyncio.wait_for(inside(), 20))


def test_a_server_that_never_started_can_be_drained() -> None:
    asyncio.run(HttpServer(Inference(), Pages()).drain(1.0))


def test_there_are_no_more_connections_than_descriptors_for_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = Limits(connections=20_000)
    assert fitted(limits, 1 << 20) is limits
    assert fitted(limits, 20_000).connections == 20_000 - 1024
    assert caplog.messages == []
    assert fitted(limits, 256).connections == 192
    assert "only 192 client connections" in caplog.messages[0]
    assert fitted(limits, 10).connections == 1
