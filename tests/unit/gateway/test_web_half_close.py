"""What becomes of a connection whose client sends nothing more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from h2 import events
from http2_fakes import Peer
from http_fakes import FakeTransport, Inference, Pages, connect, echo, post, shared, statuses
from tornado import httputil

from gateway.web import half_close
from gateway.web.half_close import PROBE_DELAY_S, HalfClosed, is_closed
from gateway.web.http1 import Http1Connection
from gateway.web.http2 import Http2Connection

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PAGE = b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n"


class Clock:
    """Time that passes when it is told to, and what the kernel says of the client."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.closed = False
        self.looks: list[float] = []
        self._due: list[tuple[float, Callable[[], object]]] = []
        monkeypatch.setattr(half_close, "is_closed", self._look)
        monkeypatch.setattr(half_close.asyncio, "get_running_loop", lambda: self)

    def _look(self, _transport: object) -> bool:
        self.looks.append(round(self.now, 6))
        return self.closed

    def call_later(self, pause: float, act: Callable[[], object]) -> Clock:
        self._due.append((self.now + pause, act))
        self._due.sort(key=lambda each: each[0])
        return self

    def call_soon(self, act: Callable[[], object]) -> None:
        self.call_later(0.0, act)

    def cancel(self) -> None:
        self._due.clear()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end + 1e-9:
            self.now, act = self._due.pop(0)
            act()
        self.now = end


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ended(
    sent: bytes, pages: Pages | None = None
) -> tuple[Http1Connection, FakeTransport, Inference]:
    """A connection on which this was sent, and then the end."""
    inference = Inference()
    connection, transport = connect(shared(inference, pages=pages))
    connection.data_received(sent)
    assert connection.eof_received()
    return connection, transport, inference


# ---- when it looks


def test_it_probes_once_and_looks_again_a_few_times(clock: Clock) -> None:
    told: list[str] = []
    watch = HalfClosed(FakeTransport(), lambda: told.append("probe"), lambda: told.append("gone"))
    clock.run(PROBE_DELAY_S - 0.001)
    assert (clock.looks, told) == ([], [])
    clock.run(10.0)
    assert clock.looks == [0.05, 0.055, 0.07, 0.1]
    assert told == ["probe"]
    clock.closed = True
    assert watch.look()
    assert told == ["probe", "gone"]


@pytest.mark.parametrize("after", [0.0, 0.002, 0.03])
def test_once_the_client_is_known_to_be_gone_it_ends(clock: Clock, after: float) -> None:
    told: list[str] = []
    HalfClosed(FakeTransport(), lambda: told.append("probe"), lambda: told.append("gone"))
    clock.run(PROBE_DELAY_S - 0.001 + after)
    clock.closed = True
    clock.run(1.0)
    assert told == (["probe", "gone"] if after else ["gone"])


def test_the_kernel_is_asked() -> None:
    class Transport(FakeTransport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return file

    reading, writing = os.pipe()
    with open(writing, "wb") as file:
        assert not is_closed(Transport())
        os.close(reading)
        assert is_closed(Transport())
    file = None  # type: ignore[assignment]
    assert not is_closed(Transport())


# ---- HTTP/1.1


def test_what_was_asked_is_answered_and_then_it_closes(clock: Clock) -> None:
    connection, transport, inference = ended(post(b"1") + post(b"2"))
    echo(inference.taken[1])
    echo(inference.taken[0])
    written = transport.take()
    assert statuses(written) == [200, 200]
    assert written.count(b"Connection: close") == 1
    assert transport.closed
    assert inference.left == []
    connection.connection_lost(None)
    clock.run(1.0)
    assert clock.looks == []


@pytest.mark.parametrize("sent", [b"", PAGE[:20], post(b"12345")[:-2]])
def test_with_nothing_whole_it_closes_at_once(clock: Clock, sent: bytes) -> None:
    inference = Inference()
    connection, _ = connect(shared(inference))
    connection.data_received(sent)
    assert not connection.eof_received()
    assert inference.taken == []


def test_what_is_cut_off_is_dropped(clock: Clock) -> None:
    _, transport, inference = ended(post(b"1") + post(b"x" * 100)[:-1])
    echo(inference.taken[0])
    assert statuses(transport.take()) == [200]
    assert transport.closed
    assert len(inference.taken) == 1


def test_a_refusal_still_leaves_in_its_turn(clock: Clock) -> None:
    _, transport, inference = ended(post(b"1") + b"nonsense\r\n\r\n")
    echo(inference.taken[0])
    assert statuses(transport.take()) == [200, 400]
    assert transport.closed
    assert not transport.ended


@pytest.mark.parametrize(("version", "probe"), [("1.1", CONTINUE), ("1.0", b"")])
def test_a_late_answer_has_a_probe_before_it(clock: Clock, version: str, probe: bytes) -> None:
    _, transport, inference = ended(post(b"1", version=version))
    clock.run(5.0)
    assert transport.take() == probe
    echo(inference.taken[0])
    assert statuses(transport.take()) == [200]


def test_no_probe_comes_in_the_middle_of_an_answer(clock: Clock) -> None:
    begun: list[Any] = []

    def begin(page: Any, headers: httputil.HTTPHeaders) -> None:
        line = httputil.ResponseStartLine("HTTP/1.1", 200, "OK")
        page.write_headers(line, httputil.HTTPHeaders({"Content-Length": "2"}), b"a")
        begun.append(page)

    async def run() -> None:
        connection, transport = connect(shared(Inference(), pages=Pages(begin)))
        connection.data_received(PAGE)
        assert connection.eof_received()
        clock.run(1.0)
        begun[0].write(b"b")
        begun[0].finish()
        assert statuses(transport.written) == [200]
        assert transport.written.endswith(b"\r\n\r\nab")
        assert transport.closed

    class Future(asyncio.Future[None]):
        pass

    clock.create_future = lambda: Future(loop=loop)  # type: ignore[attr-defined]
    loop = asyncio.new_event_loop()
    loop.run_until_complete(run())
    loop.close()


def test_a_client_that_takes_nothing_is_not_probed(clock: Clock) -> None:
    connection, transport, _ = ended(post(b"1"))
    connection.pause_writing()
    clock.run(1.0)
    assert transport.take() == b""


@pytest.mark.parametrize("by", ["timer", "sweep"])
def test_for_a_client_that_has_closed_nothing_is_computed(clock: Clock, by: str) -> None:
    connection, transport, inference = ended(post(b"1") + post(b"2"))
    if by == "sweep":
        clock.run(1.0)
    clock.closed = True
    if by == "sweep":
        connection.tick(0.5)
    else:
        clock.run(1.0)
    assert inference.left == inference.taken
    assert transport.aborted
    connection.connection_lost(None)
    assert connection._half_closed is None


def test_one_that_waits_is_not_closed_by_the_sweep(clock: Clock) -> None:
    connection, transport, _ = ended(post(b"1"))
    for _ in range(1000):
        connection.tick(0.5)
    assert not transport.closed


# ---- HTTP/2


def ended_http2(inference: Inference) -> tuple[Peer, int]:
    """A peer that asked for one thing whole and for one in part, and then sent its end."""
    peer = Peer(shared(inference))
    number = peer.ask(b"x")
    peer.ask(None)
    assert peer.connection.eof_received()
    return peer, number


def pings(peer: Peer) -> int:
    rest, found = peer.transport.take(), 0
    while rest:
        length = int.from_bytes(rest[:3], "big")
        found += any(
            isinstance(event, events.PingReceived)
            for event in peer.wire.receive_data(rest[: 9 + length])
        )
        rest = rest[9 + length :]
    return found


def test_streams_that_are_whole_are_answered(clock: Clock) -> None:
    inference = Inference()
    peer, _ = ended_http2(inference)
    assert len(inference.left) == 1  # the one that was not whole
    clock.run(1.0)
    assert pings(peer) == 1
    echo(inference.taken[0])
    clock.run(0.0)
    assert peer.transport.written.endswith(b"x")
    assert peer.transport.closed
    assert not peer.transport.ended
    peer.connection.connection_lost(None)
    assert peer.connection._half_closed is None


def test_without_a_stream_that_is_whole_it_closes_at_once(clock: Clock) -> None:
    inference = Inference()
    peer = Peer(shared(inference))
    peer.ask(None)
    assert not peer.connection.eof_received()
    assert (inference.taken, len(inference.left)) == ([], 1)


def test_a_refusal_is_still_sent(clock: Clock) -> None:
    inference = Inference()
    peer = Peer(shared(inference))
    peer.ask(b"", path="/inference", method="POST", lines=(("expect", "more"),))
    number = peer.ask(None, lines=(("expect", "more"),))
    assert peer.connection.eof_received()
    clock.run(0.0)
    peer.hear()
    assert peer.answers[number].status == 417


@pytest.mark.parametrize("by", ["timer", "sweep"])
def test_streams_of_a_client_that_has_closed_are_dropped(clock: Clock, by: str) -> None:
    inference = Inference()
    peer, _ = ended_http2(inference)
    if by == "sweep":
        clock.run(1.0)
    clock.closed = True
    if by == "sweep":
        peer.connection.tick(0.5)
    else:
        clock.run(1.0)
    assert inference.taken[0] in inference.left
    assert peer.transport.aborted
    assert isinstance(peer.connection, Http2Connection)


def test_nothing_is_sent_to_one_that_takes_nothing(clock: Clock) -> None:
    peer, _ = ended_http2(Inference())
    peer.transport.take()
    peer.connection.pause_writing()
    clock.run(1.0)
    assert peer.transport.take() == b""
