"""What is compressed comes in unpacked, and goes out packed, without holding anybody up."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import threading
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
import zstandard
from http2_fakes import Peer
from http_fakes import FakeTransport, Inference, connect, echo, post, shared, turned, without_first

from gateway.web import compression as codings
from gateway.web import compressor as coder
from gateway.web import responses as answers
from gateway.web.compressor import Coder
from gateway.web.exchange import Exchange
from gateway.web.http1 import Connection
from gateway.web.server_state import Shared

LIMIT = 1_000_000
PACK = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
UNPACK = {"gzip": gzip.decompress, "zstd": zstandard.ZstdDecompressor().decompress}
TEXT = b"hello world, " * 200
BOMB = bytes(100_000_000)


async def until(true: Callable[[], bool]) -> None:
    """Let a thread come to its end, and the loop hear of it."""
    while not true():  # noqa: ASYNC110 - nobody can set an event from there
        await asyncio.sleep(0.001)


class Strict(Inference):
    """Refuses a fault, as the gateway does."""

    def submit(self, exchange: Exchange) -> None:
        if exchange.fault is not None:
            code, text = exchange.fault
            self.taken.append(exchange)
            exchange.respond(answers.failure(code, text, None, exchange.request_id or b"ours"))
        else:
            super().submit(exchange)


class Place:
    """A client that may compress."""

    def __init__(self, inference: Inference | None = None) -> None:
        self.inference = inference or Strict(at_once=True)
        self.coder = Coder(self.inference, LIMIT)
        self.common: Shared = shared(self.coder)  # type: ignore[arg-type]
        self.common.coded = True
        self.connection: Connection
        self.transport: FakeTransport
        self.connection, self.transport = connect(self.common)

    async def ask(self, body: bytes, **lines: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the one answer."""
        text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        self.connection.data_received(post(body, lines=text))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        await until(lambda: bool(self.transport.written))
        head, _, body = self.transport.take().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert int(headers["content-length"]) == len(body)
        return int(first.split()[1]), headers, body

    def error(self, body: bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(body)["error"]
        return found


def placed(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(**kwargs: object) -> None:
        async def inside() -> None:
            place = Place()
            try:
                await test(place, **kwargs)
            finally:
                place.coder.close()

        asyncio.run(inside())

    run.__signature__ = without_first(test)  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [0, 10, 5000, 70_000, LIMIT])
@placed
async def test_a_body_is_unpacked_and_its_answer_packed(
    place: Place, coding: str, size: int
) -> None:
    body = (b"abcdefghij" * (size // 10 + 1))[:size]
    lines = {"Content_Encoding": coding, "Accept_Encoding": coding, "X_Request_ID": "mine"}
    status, headers, got = await place.ask(PACK[coding](body), **lines)
    assert (status, place.inference.bodies) == (200, [body])
    assert place.inference.taken[0].request_id == b"mine"
    if size >= 1024:
        assert (headers["content-encoding"], headers["vary"]) == (coding, "accept-encoding")
        assert len(got) < len(body)
        assert UNPACK[coding](got) == body
    else:
        assert "content-encoding" not in headers
        assert got == body


@placed
async def test_who_says_nothing_of_codings_passes_through(place: Place) -> None:
    assert (await place.ask(TEXT))[2] == TEXT
    [exchange] = place.inference.taken
    assert (exchange.codings, exchange.request) == (None, None)
    assert len(place.common.known) == 1


@pytest.mark.parametrize(
    "lines",
    [
        {"Accept_Encoding": "br"},
        {"Accept_Encoding": "identity"},
        {"Content_Encoding": "identity"},
    ],
)
@placed
async def test_nothing_is_packed_that_nobody_wants(place: Place, lines: dict[str, str]) -> None:
    status, headers, body = await place.ask(TEXT, **lines)
    assert (status, body) == (200, TEXT)
    assert "content-encoding" not in headers


@placed
async def test_what_does_not_become_less_goes_as_it_is(place: Place) -> None:
    noise = b"".join([hashlib.sha256(b"%d" % at).digest() for at in range(100)])
    _, headers, body = await place.ask(noise, Accept_Encoding="gzip")
    assert "content-encoding" not in headers
    assert body == noise


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [LIMIT + 1, len(BOMB)])
@placed
async def test_a_bomb_is_not_unpacked(place: Place, coding: str, size: int) -> None:
    status, _, body = await place.ask(PACK[coding](BOMB[:size]), Content_Encoding=coding)
    error = place.error(body)
    assert (status, error["code"]) == (413, "body_too_large")
    assert "1000000 bytes once it is unpacked" in error["message"]
    assert len(place.inference.taken[0].body) <= size // 100


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("gzip", TEXT, 400, "decoding_error"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-3], 400, "decoding_error"),
        ("zstd", TEXT, 400, "decoding_error"),
        ("zstd", PACK["zstd"](TEXT)[:-3], 400, "decoding_error"),
        ("zstd", bytes([*PACK["zstd"](TEXT)[:8], 255, *PACK["zstd"](TEXT)[9:]]), 400, ""),
        ("br", TEXT, 415, "unsupported_encoding"),
        ("gzip, zstd", TEXT, 415, "unsupported_encoding"),
    ],
    # Not the bytes: gzip writes the time into them, and workers must agree on the names.
    ids=["no gzip", "cut gzip", "no zstd", "cut zstd", "broken zstd", "unknown", "two codings"],
)
@placed
async def test_what_cannot_be_unpacked_is_refused(
    place: Place, coding: str, body: bytes, status: int, code: str
) -> None:
    got, _, told = await place.ask(body, Content_Encoding=coding)
    assert got == status
    assert place.error(told)["code"] == (code or "decoding_error")
    assert (await place.ask(b"x"))[0] == 200


@placed
async def test_a_zstd_window_may_not_be_larger_than_http_allows(place: Place) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=24)
    stream = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    body = stream.compress(TEXT) + stream.flush()
    assert (await place.ask(body, Content_Encoding="zstd"))[0] == 400


@placed
async def test_two_codings_on_two_lines_are_two(place: Place) -> None:
    lines = "Content-Encoding: gzip\r\nContent-Encoding: zstd\r\n"
    place.connection.data_received(post(TEXT, lines=lines))
    status, _, body = await place.answer()
    assert (status, "several codings" in place.error(body)["message"]) == (415, True)


def test_where_compression_is_off_it_is_refused() -> None:
    inference = Strict(at_once=True)
    connection, transport = connect(shared(inference))
    connection.data_received(post(TEXT, lines="Content-Encoding: gzip\r\n"))
    assert b"HTTP/1.1 415 " in transport.written
    assert b"compression is off here" in transport.take()
    connection.data_received(post(TEXT, lines="Content-Encoding: identity\r\n"))
    connection.data_received(post(TEXT, lines="Accept-Encoding: gzip\r\n"))
    assert transport.take().count(TEXT) == 2


@placed
async def test_a_refusal_of_the_inference_comes_before_the_body_is_read(place: Place) -> None:
    place.inference.refusal = answers.failure("overloaded", "full", None, b"7")
    status, _, _ = await place.ask(bytes(100_000), Content_Encoding="gzip")
    assert (status, place.inference.asked) == (429, [100_000])


@placed
async def test_a_client_that_leaves_is_gone_for_the_inference(place: Place) -> None:
    place.inference.at_once = False
    for lines in ("", "Accept-Encoding: gzip\r\n"):
        connection, _ = connect(place.common)
        connection.data_received(post(b"x", lines=lines))
        connection.connection_lost(None)
    assert place.inference.left == place.inference.taken
    assert len(place.inference.left) == 2
    echo(place.inference.taken[1])


@placed
async def test_a_client_that_leaves_while_its_body_is_unpacked_is_forgotten(place: Place) -> None:
    body = gzip.compress(bytes(LIMIT))
    place.connection.data_received(post(body, lines="Content-Encoding: gzip\r\n"))
    place.connection.connection_lost(None)
    await until(lambda: not place.coder._waiting)
    assert place.inference.taken == []


@placed
async def test_when_too_many_wait_bodies_are_refused_and_answers_go_unpacked(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"x" * 100_000
    _, headers, _ = await place.ask(body, Accept_Encoding="gzip")
    assert "content-encoding" in headers
    monkeypatch.setattr(coder, "_WAITING", 0)
    _, headers, _ = await place.ask(body, Accept_Encoding="gzip")
    assert "content-encoding" not in headers
    status, _, _ = await place.ask(gzip.compress(body), Content_Encoding="gzip")
    assert status == 429


def test_a_request_that_raises_after_its_thread_is_answered() -> None:
    class Broken(Inference):
        def submit(self, exchange: Exchange) -> None:
            raise RuntimeError("ours")

    async def inside() -> None:
        seen: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, what: seen.append(what["exception"]))
        place = Place(Broken())
        try:
            status, _, body = await place.ask(gzip.compress(bytes(LIMIT)), Content_Encoding="gzip")
        finally:
            place.coder.close()
        assert (status, place.error(body)["code"]) == (500, "server_error")
        assert [str(error) for error in seen] == ["ours"]

    asyncio.run(inside())


@turned
async def test_closing_drops_what_waits() -> None:
    place = Place()
    body = gzip.compress(bytes(LIMIT))
    for _ in range(20):
        connection, _ = connect(place.common)
        connection.data_received(post(body, lines="Content-Encoding: gzip\r\n"))
    place.coder.close()
    await until(lambda: not place.coder._waiting)
    assert len(place.inference.taken) < 20


@placed
async def test_http_2_compresses_as_well(place: Place) -> None:
    peer = Peer(place.common)
    lines = (("content-encoding", "gzip"), ("accept-encoding", "zstd"))
    got = await peer.answer(peer.ask(gzip.compress(TEXT), lines=lines))
    assert got.headers["content-encoding"] == "zstd"
    assert UNPACK["zstd"](got.body) == TEXT


@placed
async def test_room_for_a_compressed_body_goes_along_with_it(place: Place) -> None:
    """It was taken for the client's request, and is given back for the one made of it."""
    noise = b"".join([hashlib.sha256(b"%d" % at).digest() for at in range(5000)])
    kept: list[object] = []

    def keep(exchange: Exchange, nbytes: int) -> None:
        exchange.request = nbytes

    place.inference.admit = keep  # type: ignore[method-assign,assignment]
    place.inference.submit = lambda exchange: kept.append(exchange.request)  # type: ignore[method-assign]
    packed = gzip.compress(noise)
    place.connection.data_received(post(packed, lines="Content-Encoding: gzip\r\n"))
    await until(lambda: bool(kept))
    assert kept == [len(packed)]
    place.connection.connection_lost(None)
    assert [exchange.request for exchange in place.inference.left] == [len(packed)]


@placed
async def test_a_small_body_of_many_pieces_is_not_looked_at_by_the_loop(place: Place) -> None:
    """Each piece costs as much as a far larger one: 1000 of one byte go to a thread."""
    looked_in: list[str] = []
    check = codings.check_zstd

    def noted(body: bytes, blocks: int) -> None:
        check(body, blocks)
        looked_in.append(threading.current_thread().name)

    codings.check_zstd = noted
    try:
        piece = b"\x0a\0\0x"  # one byte, repeated once
        body = b"\x28\xb5\x2f\xfd\x00\x58" + piece * 999 + b"\x0b\0\0x"
        status, _, got = await place.ask(body, Content_Encoding="zstd")
    finally:
        codings.check_zstd = check
    assert (status, got) == (200, b"x" * 1000)
    assert [name.partition("_")[0] for name in looked_in] == ["coder"]


@placed
async def test_the_threads_step_back_before_everybody_else(place: Place) -> None:
    noise = b"".join([hashlib.sha256(b"%d" % at).digest() for at in range(5000)])
    await place.ask(gzip.compress(noise), Content_Encoding="gzip")
    [thread] = [each for each in threading.enumerate() if each.name.startswith("coder")]
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert thread.native_id is not None
    theirs = os.getpriority(os.PRIO_PROCESS, thread.native_id)
    assert theirs == min(19, mine + 10)
