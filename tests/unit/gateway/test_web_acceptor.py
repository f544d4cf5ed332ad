"""Listening sockets on loopback, on both event loops."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import cast

import pytest
import uvloop
from http_fakes import turned

from gateway.web import acceptor
from gateway.web.acceptor import Acceptor
from mesh.process.accept_balance import AcceptBalance, AcceptShare
from mesh.process.listen_socket import bound, look_up

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]
# libuv opens a pipe for signals once per process, which is nothing that a test leaves behind.
uvloop.new_event_loop().close()


class Greeted(asyncio.Protocol):
    """Remembers the order in which connections came."""

    def __init__(self, came: list["Greeted"]) -> None:
        self._came = came
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._came.append(self)


class Short:
    """A listening socket of a process that has no descriptors left."""

    def __init__(self, number: int) -> None:
        self._number = number

    def accept(self) -> None:
        raise OSError(self._number, "no descriptor")

    def fileno(self) -> int:
        return -1


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_connects_at_once_is_taken_in_a_few_turns(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    came: list[Greeted] = []

    async def main() -> None:
        door = Acceptor(lambda: Greeted(came))
        host, port = await door.listen("127.0.0.1", 0)
        clients = [socket.create_connection((host, port)) for _ in range(100)]
        await turns(10)
        assert len(came) == len(clients)
        door.close()
        for guest, client in zip(came, clients, strict=True):
            guest.transport.abort()
            client.close()
        await turns(3)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@turned
async def test_a_closed_acceptor_takes_nobody() -> None:
    door = Acceptor(asyncio.Protocol)
    assert not door.is_open
    host, port = await door.listen("127.0.0.1", 0)
    assert door.is_open
    door.close()
    assert not door.is_open
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))


@turned
async def test_an_empty_host_means_every_interface() -> None:
    door = Acceptor(asyncio.Protocol)
    host, port = await door.listen("", 0)
    assert host in ("0.0.0.0", "::")
    assert port
    door.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_without_descriptors_the_port_rests_for_a_moment(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "SHORTAGE_PAUSE_S", 0.0)
    came: list[Greeted] = []

    async def main() -> None:
        door = Acceptor(lambda: Greeted(came))
        address = await door.listen("127.0.0.1", 0)
        (listening,) = door._listening
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        door._pause(listening, OSError(number, "no descriptor"))
        with socket.create_connection(address):
            await turns(10)
            assert len(came) == 1
            came[0].transport.abort()
            await turns(3)
        door.close()

    asyncio.run(main())
    assert "no descriptor" in caplog.text


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_shortage_pauses_and_no_other_error_does(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[int | None] = []
    door = Acceptor(asyncio.Protocol)
    monkeypatch.setattr(door, "_pause", lambda _, error: paused.append(error.errno))
    door._accept(Short(number))  # type: ignore[arg-type]
    door._accept(Short(errno.ECONNABORTED))  # type: ignore[arg-type]
    assert paused == [number]


def shared_doors(processes: int) -> tuple[list[socket.socket], AcceptBalance]:
    """One bound port, once for each of so many processes."""
    (first,) = bound(look_up("127.0.0.1", 0))
    doors = [first, *[first.dup() for _ in range(processes - 1)]]
    return doors, AcceptBalance(bytearray(AcceptBalance.size(processes)))


@pytest.mark.parametrize("loop", LOOPS)
def test_those_who_share_a_port_share_who_connects(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """In one loop, where the first would take all of them before the second is asked."""
    cames: list[list[Greeted]] = [[], []]

    def door(number: int) -> Acceptor:
        came = cames[number]
        return Acceptor(lambda: Greeted(came), lambda: len(came))

    async def main() -> None:
        doors, accept_balance = shared_doors(2)
        acceptors = [door(number) for number in range(2)]
        for number, one in enumerate(acceptors):
            address = one.take([doors[number]], AcceptShare(accept_balance, number + 1))
        clients = [socket.create_connection(address) for _ in range(64)]
        async with asyncio.timeout(20):
            while sum(map(len, cames)) < 64:  # noqa: ASYNC110 - the loop must turn, nothing tells
                await asyncio.sleep(0.001)
        for one in acceptors:
            one.close()
        for guest, client in zip(cames[0] + cames[1], clients, strict=True):
            guest.transport.abort()
            client.close()
        await turns(3)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())
    assert min(map(len, cames)) >= 24, list(map(len, cames))


def test_a_newcomer_whom_the_others_do_not_take_is_taken() -> None:
    """They are said to have none, and stand still."""
    came: list[Greeted] = []

    async def main() -> None:
        doors, accept_balance = shared_doors(2)
        accept_balance.count(2, 0)
        door = Acceptor(lambda: Greeted(came), lambda: len(came))
        address = door.take(doors[:1], AcceptShare(accept_balance, 1))
        clients = [socket.create_connection(address) for _ in range(10)]
        async with asyncio.timeout(20):
            while len(came) < 10:  # noqa: ASYNC110 - the loop must turn, nothing tells
                await asyncio.sleep(0.001)
        door.close()
        doors[1].close()
        for guest, client in zip(came, clients, strict=True):
            guest.transport.abort()
            client.close()
        await turns(3)

    asyncio.run(main())


def test_one_that_gives_way_takes_newcomers_only_while_nobody_else_does() -> None:
    came: list[Greeted] = []

    async def main() -> None:
        doors, accept_balance = shared_doors(2)
        accept_balance.count(2, 50)
        door = Acceptor(lambda: Greeted(came), lambda: len(came))
        address = door.take(doors[:1], AcceptShare(accept_balance, 1))
        door.give_way()
        with socket.create_connection(address):
            await turns(10)
            assert came == []
            accept_balance.away(2)
            door.give_way()
            await turns(10)
            assert len(came) == 1
            came[0].transport.abort()
            await turns(3)
        door.close()
        doors[1].close()

    asyncio.run(main())


def test_one_that_is_not_among_others_gives_no_way() -> None:
    came: list[Greeted] = []

    async def main() -> None:
        door = Acceptor(lambda: Greeted(came))
        address = await door.listen("127.0.0.1", 0)
        door.give_way()
        with socket.create_connection(address):
            await turns(10)
            assert len(came) == 1
            came[0].transport.abort()
            await turns(3)
        door.close()

    asyncio.run(main())


@turned
async def test_a_stranger_who_listens_at_the_port() -> None:
    doors, accept_balance = shared_doors(1)
    host, port = doors[0].getsockname()
    (stranger,) = bound(look_up(host, port))  # only bound, both may be
    stranger.listen()
    door = Acceptor(asyncio.Protocol)
    with pytest.raises(OSError, match="in use"):
        door.take(doors, AcceptShare(accept_balance, 1))
    assert not door.is_open
    assert doors[0].fileno() == -1
    stranger.close()
