"""Processes of one host that ask each other, over sockets in a folder."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from gateway.admin import siblings
from gateway.admin.siblings import Siblings

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]
uvloop.new_event_loop().close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="s") as path:
        yield Path(path)


def member(folder: Path, number: int, processes: int = 2) -> Siblings:
    answers = {"number": lambda: b"%d" % number, "long": lambda: b"x" * 1_000_000}
    return Siblings(folder, number, processes, answers)


def run(
    test: Callable[[], Awaitable[None]],
    loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    async def inside() -> None:
        await test()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(inside())


@contextlib.asynccontextmanager
async def started(*members: Siblings):  # type: ignore[no-untyped-def]
    for one in members:
        await one.start()
    try:
        yield
    finally:
        for one in members:
            await one.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_all_others_are_asked(folder: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def test() -> None:
        members = [member(folder, number, 3) for number in (1, 2, 3)]
        async with started(*members):
            assert await members[0].ask("number") == {2: b"2", 3: b"3"}
            assert await members[2].ask("number") == {1: b"1", 2: b"2"}
            assert await members[0].ask("long") == dict.fromkeys((2, 3), b"x" * 1_000_000)

    run(test, loop)


def test_one_that_is_not_there_is_told_as_none(folder: Path) -> None:
    async def test() -> None:
        first, second = member(folder, 1), member(folder, 2)
        async with started(first):
            assert await first.ask("number") == {2: None}
            async with started(second):
                assert await first.ask("number") == {2: b"2"}
                assert await first.ask("what nobody knows") == {2: None}
            assert await first.ask("number") == {2: None}

    run(test)


def test_one_that_stands_still_is_waited_for_so_long_and_no_longer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings, "ANSWER_LIMIT_S", 0.05)

    async def test() -> None:
        first = member(folder, 1, 3)
        async with started(first, member(folder, 3, 3)):
            with socket.socket(socket.AF_UNIX) as still:
                still.bind(str(folder / "pages-2.sock"))
                still.listen()
                assert await first.ask("number") == {2: None, 3: b"3"}

    run(test)


@pytest.mark.parametrize("part", [b"", b"\0\0", b"\0\0\0\0\0\0\0\x05four"])
def test_half_an_answer_is_none(folder: Path, part: bytes) -> None:
    async def dies(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(part)
        writer.close()

    async def test() -> None:
        server = await asyncio.start_unix_server(dies, folder / "pages-2.sock")
        async with server:
            assert await member(folder, 1).ask("number") == {2: None}

    run(test)


def test_one_that_asks_nothing_is_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "ANSWER_LIMIT_S", 0.05)

    async def test() -> None:
        async with started(member(folder, 1)):
            reader, writer = await asyncio.open_unix_connection(folder / "pages-1.sock")
            assert await reader.read() == b""
            writer.close()

    run(test)


def test_a_successor_takes_the_place_of_one_that_was_killed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "pages-2.sock"))

    async def test() -> None:
        first = member(folder, 1)
        async with started(first, member(folder, 2)):
            assert await first.ask("number") == {2: b"2"}

    run(test)
