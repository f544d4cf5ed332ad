"""Unpacks requests and packs answers, between the HTTP wire and the inference.

A `Compressor` is an `Inference` around another. Requests that say nothing of codings pass through.
For each of the others it makes a second exchange, with the body as it was before it was
compressed; the answer to that is compressed, if its client wants it, and answers the first.

Up to 64 KB are worked on at once, more in a thread: zlib and zstd let the event loop turn
meanwhile. How much a small compressed body will be is found out by trying, up to that bound.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

import zstandard

from gateway.web import compression, responses
from gateway.web.compression import ContentCodings, Malformed, Shredded, TooLarge
from gateway.web.exchange import AnyExchange, AnyInference, Exchange
from gateway.web.http_request import HttpRequest, ResponseWriter, Route
from mesh.protocol.messages import Buffer

_AT_ONCE_BYTES: Final = 64 * 1024  # bytes that the event loop may work on itself
_TRIED_BYTES: Final = 16 * 1024  # compressed bytes of which it may see whether they are so few
# One at a time: two would take both processors of a small machine.
_THREADS: Final = 1
_NICENESS: Final = 10  # what the threads add to the process's own
_BLOCKS_AT_ONCE: Final = 128  # zstd blocks of a body that the event loop may look at itself
_MOST_WAITING: Final = 256  # bodies that may wait for a thread
_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024  # of zstd, as RFC 9659 has it for HTTP
_PIECE_BYTES: Final = 128 * 1024
_END: Final = b"\r\n\r\n"

Unpacked = bytes | Malformed | TooLarge
Result = TypeVar("Result")


class Compressor:
    """An `Inference` whose clients may compress.

    Args:
        inner: who answers.
        max_body: bytes that a body may have once it is unpacked.
    """

    def __init__(
        self,
        inner: AnyInference,
        max_body: int,
        failed: Callable[[str, str, bytes], None] = lambda code, message, request_id: None,
    ) -> None:
        """Threads are started when they are first needed; `close` ends them."""
        self.routes: Mapping[bytes, Route] = inner.routes
        self._inner = inner
        self._failed = failed
        self._max_body = max_body
        self._threads = ThreadPoolExecutor(_THREADS, "coder", _step_back)
        self._waiting = 0

    def admit(self, exchange: AnyExchange, nbytes: int) -> bytes | None:
        """As the inference does; it knows of codings that are not spoken by `Exchange.fault`."""
        return self._inner.admit(exchange, nbytes)

    def submit(self, exchange: AnyExchange) -> None:
        """Unpack the body if it is compressed, and pass it on."""
        asked = exchange.codings
        if asked is None:
            self._inner.submit(exchange)
            return
        inside = _InnerChannel(
            self._inner, exchange, partial(self._answer, exchange, asked)
        ).exchange
        exchange.inner = inside
        inside.reservation, exchange.reservation = exchange.reservation, None  # goes along
        if exchange.fault is None and asked.sent and exchange.body:
            self._unpack(inside, asked.sent)
        else:
            self._inner.submit(inside)

    def gone(self, exchange: AnyExchange) -> None:
        """The client went away."""
        if exchange.inner is not None:
            exchange.inner.lost()
        else:
            self._inner.gone(exchange)

    def close(self) -> None:
        """End the threads; what still waits for them is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    # ---- requests

    def _unpack(self, inside: AnyExchange, coding: str) -> None:
        body, limit = inside.body, self._max_body
        if len(body) <= _TRIED_BYTES:
            found = unpacked(coding, body, min(limit, _AT_ONCE_BYTES), _BLOCKS_AT_ONCE)
            if not isinstance(found, TooLarge | Shredded):
                self._pass_on(inside, found)
                return
        if self._waiting >= _MOST_WAITING:
            inside.fault = ("overloaded", "too many compressed bodies are waiting")
            self._inner.submit(inside)
            return
        work = partial(unpacked, coding, body, limit, compression.blocks_for(limit))
        self._aside(inside, work, partial(self._pass_on, inside))

    def _pass_on(self, inside: AnyExchange, found: Unpacked) -> None:
        if isinstance(found, bytes):
            inside.body = found
        elif isinstance(found, TooLarge):
            text = f"the body is larger than {self._max_body} bytes once it is unpacked"
            inside.fault = ("body_too_large", text)
        else:
            text = f"the body is not what its Content-Encoding says: {found}"
            inside.fault = ("decoding_error", text)
        if not inside.gone:
            self._inner.submit(inside)

    # ---- answers

    def _answer(
        self, exchange: AnyExchange, asked: ContentCodings, head: bytes, body: Buffer
    ) -> None:
        """Answer the client; `head` has the empty line that ends it."""
        if not (asked.wanted and compression.is_worth(head, len(body))):
            exchange.respond(head, body)
        elif len(body) <= _AT_ONCE_BYTES:
            _respond(exchange, asked.wanted, head, body, packed(asked.wanted, body))
        elif self._waiting >= _MOST_WAITING:
            exchange.respond(head, body)
        else:
            work = partial(packed, asked.wanted, body)
            self._aside(exchange, work, partial(_respond, exchange, asked.wanted, head, body))

    # ---- threads

    def _aside(
        self, exchange: AnyExchange, work: Callable[[], Result], then: Callable[[Result], None]
    ) -> None:
        """Do the work in a thread, and go on with its result in the loop."""
        loop = asyncio.get_running_loop()

        def done(future: asyncio.Future[Result]) -> None:
            self._waiting -= 1
            if future.cancelled():
                return
            try:
                then(future.result())
            except Exception as error:  # noqa: BLE001 - logged; its client is answered
                what = {"message": "an HTTP body could not be worked on", "exception": error}
                loop.call_exception_handler(what)
                name = exchange.request_id or b"-"
                self._failed("server_error", "the gateway failed", name)
                exchange.respond(
                    responses.failure("server_error", "the gateway failed", None, name)
                )

        self._waiting += 1
        loop.run_in_executor(self._threads, work).add_done_callback(done)


class _InnerChannel:
    """The connection that the inner exchange came by, as far as that one knows it.

    Attributes:
        exchange: the inner one.
    """

    special: bool = True

    def __init__(
        self, inference: AnyInference, outside: AnyExchange, answer: Callable[[bytes, Buffer], None]
    ) -> None:
        self.inference = inference
        self._answer = answer
        self._parts: list[Buffer] = []
        # The outer exchange says how the connection goes on, and how bodies are compressed.
        exchange: AnyExchange = Exchange(
            self,
            outside.route,
            outside.target,
            outside.arrived,
            body=outside.body,
            request_id=outside.request_id,
            traceparent=outside.traceparent,
            timeout=outside.timeout,
            priority=outside.priority,
            fault=outside.fault,
            headers=outside.headers,
        )
        self.exchange = exchange
        self.pending: list[HttpRequest] = [exchange]

    @property
    def transport(self) -> ResponseWriter:
        """Where the answer is written: here."""
        return self

    def write(self, piece: Buffer, /) -> None:
        """Take a part of the answer."""
        self._parts.append(piece)

    def abort(self) -> None:
        """Never called: an exchange answers whole or not at all."""

    def release(self) -> None:
        """The answer is there: pass it on."""
        if self.pending and self.pending[0].flush(self):
            self.pending.clear()
            first, *rest = self._parts
            head, _, body = bytes(first).partition(_END)
            self._answer(head + _END, rest[0] if rest else body)


def _step_back() -> None:
    """Let everybody else have the processor first: on Linux a thread has a priority of its own."""
    with suppress(OSError):
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), mine + _NICENESS)


def unpacked(coding: str, body: bytes, limit: int, blocks: int) -> Unpacked:
    """The body before it was compressed; or what is wrong with it.

    Args:
        coding: how it was.
        body: as it was sent.
        limit: bytes that it may have.
        blocks: of zstd that it may consist of.
    """
    try:
        if coding == "gzip":
            return compression.gunzip(body, limit)
        compression.check_zstd(body, blocks)
        return _unzstd(body, limit)
    except (TooLarge, Malformed) as error:
        return error


def _unzstd(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    left = limit
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    with decompressor.stream_reader(io.BytesIO(body), read_across_frames=True) as reader:
        while left >= 0:
            try:
                part = reader.read(min(left + 1, _PIECE_BYTES))
            except zstandard.ZstdError as error:
                raise Malformed(str(error)) from None
            if not part:
                return b"".join(parts)
            parts.append(part)
            left -= len(part)
    raise TooLarge


def packed(coding: str, body: Buffer) -> bytes:
    """The body, compressed."""
    return compression.gzip(body) if coding == "gzip" else zstandard.ZstdCompressor().compress(body)


def _respond(exchange: AnyExchange, coding: str, head: bytes, body: Buffer, less: bytes) -> None:
    """Answer with what is less."""
    if len(less) < len(body):
        exchange.respond(compression.recoded(head, coding, len(less)), less)
    else:
        exchange.respond(head, body)
