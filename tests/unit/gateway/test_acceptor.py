"""Listening sockets on loopback, on both event loops."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import cast

import pytest
import uvloop

from gateway import acceptor
from gateway.acceptor import Acceptor

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


def test_a_closed_acceptor_takes_nobody() -> None:
    async def main() -> None:
        door = Acceptor(asyncio.Protocol)
        assert not door.is_open
        host, port = await door.listen("127.0.0.1", 0)
        assert door.is_open
        door.close()
        assert not door.is_open
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port))

    asyncio.run(main())


def test_an_empty_host_means_every_interface() -> None:
    async def main() -> None:
        door = Acceptor(asyncio.Protocol)
        host, port = await door.listen("", 0)
        assert host in ("0.0.0.0", "::")
        assert port
        door.close()

    asyncio.run(main())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_without_descriptors_the_port_rests_for_a_moment(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "RESPITE", 0.0)
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
