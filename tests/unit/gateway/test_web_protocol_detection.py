"""Where a connection begins: its first bytes say what is spoken on it."""

from __future__ import annotations

import asyncio

import pytest
from http_fakes import FakeTransport, Inference, post, shared, statuses
from hypothesis import given
from hypothesis import strategies as st

from gateway.web.http1 import Http1Connection
from gateway.web.http2 import Http2Connection
from gateway.web.http2_flood_guard import PREFACE
from gateway.web.limits import Limits
from gateway.web.protocol_detection import ANSWERED_EXCESS, ProtocolDetection
from gateway.web.server_state import ServerState


def enter(common: ServerState) -> tuple[ProtocolDetection, FakeTransport]:
    doorway, transport = ProtocolDetection(common), FakeTransport()
    doorway.connection_made(transport)
    return doorway, transport


def feed(
    doorway: ProtocolDetection, transport: FakeTransport, stream: bytes, sizes: list[int]
) -> None:
    for size in [*sizes, len(stream)]:
        segment, stream = stream[:size], stream[size:]
        if segment:
            spoken = transport.protocol or doorway
            assert isinstance(spoken, asyncio.BaseProtocol)
            spoken.data_received(segment)


@given(st.lists(st.integers(1, 30), max_size=20))
def test_http_1_is_recognised_however_it_comes(sizes: list[int]) -> None:
    common = shared(inference := Inference(at_once=True))
    doorway, transport = enter(common)
    feed(doorway, transport, post(b"hello") * 2, sizes)
    assert isinstance(transport.protocol, Http1Connection)
    assert inference.bodies == [b"hello"] * 2
    assert statuses(transport.take()) == [200, 200]
    assert common.connections == {transport.protocol}


@given(st.lists(st.integers(1, 10), max_size=10))
def test_http_2_is_recognised_however_it_comes(sizes: list[int]) -> None:
    common = shared()
    doorway, transport = enter(common)
    settings = b"\0\0\0\x04\0\0\0\0\0"
    feed(doorway, transport, PREFACE + settings, sizes)
    assert isinstance(transport.protocol, Http2Connection)
    assert transport.take().endswith(b"\0\0\0\x04\x01\0\0\0\0")  # its settings are acknowledged
    assert common.connections == {transport.protocol}


def test_half_a_preface_is_malformed_http_1() -> None:
    doorway, transport = enter(shared())
    doorway.data_received(PREFACE[:-2] + b"!!")
    assert transport.take().startswith(b"HTTP/1.1 505 ")


def test_one_connection_too_many_is_told_so() -> None:
    common = shared(limits=Limits(connections=1))
    _, first = enter(common)
    doorway, second = enter(common)
    doorway.data_received(post(b"1"))
    assert first.protocol is None
    assert statuses(second.take()) == [503]
    assert second.ended
    assert len(common.connections) == 2
    assert doorway not in common.connections


def test_in_http_2_it_is_told_so_in_http_2() -> None:
    common = shared(limits=Limits(connections=1))
    enter(common)
    doorway, transport = enter(common)
    doorway.data_received(PREFACE + b"\0\0\0\x04\0\0\0\0\0")
    *_, goodbye = frames_of(transport.take())
    assert goodbye == (7, b"\0\0\0\0\0\0\0\x0b")  # ENHANCE_YOUR_CALM, and no stream was looked at
    assert transport.ended


def frames_of(written: bytes) -> list[tuple[int, bytes]]:
    found = []
    while written:
        end = 9 + int.from_bytes(written[:3], "big")
        found.append((written[3], written[9:end]))
        written = written[end:]
    return found


def test_one_that_says_nothing_is_told_so_after_a_while_unless_there_is_room_by_then() -> None:
    common = shared(limits=Limits(connections=1, linger=2.0))
    first, _ = enter(common)
    doorway, transport = enter(common)
    doorway.tick(1.0)
    assert transport.written == b""
    doorway.tick(1.0)
    assert statuses(transport.take()) == [503]
    assert isinstance(transport.protocol, Http1Connection)
    transport.protocol.connection_lost(None)
    doorway, transport = enter(common)
    first.connection_lost(None)
    doorway.tick(5.0)
    doorway.data_received(post(b"1"))
    assert not transport.ended


def test_so_many_too_many_are_cut_off() -> None:
    common = shared(limits=Limits(connections=1))
    transports = [enter(common)[1] for _ in range(1 + ANSWERED_EXCESS + 2)]
    assert [transport.aborted for transport in transports] == [False] * (1 + ANSWERED_EXCESS) + [
        True
    ] * 2


def test_the_time_for_headers_begins_with_their_first_byte() -> None:
    doorway, transport = enter(shared())
    doorway.tick(60.0)
    doorway.data_received(b"PRI *")
    doorway.tick(9.0)
    assert not transport.closed
    doorway.tick(1.0)
    assert transport.closed


@pytest.mark.parametrize(("said", "seconds"), [(b"", 75.0), (b"PRI *", 10.0)])
def test_who_says_too_little_is_not_waited_for(said: bytes, seconds: float) -> None:
    doorway, transport = enter(shared())
    if said:
        doorway.data_received(said)
    doorway.tick(seconds - 1)
    assert not transport.closed
    doorway.tick(1)
    assert transport.closed


def test_it_ends_with_the_server_or_the_client() -> None:
    common = shared()
    left: list[bool] = []
    common.parted = lambda: left.append(True)
    doorway, transport = enter(common)
    doorway.retire()
    assert (transport.closed, transport.aborted) == (True, False)
    doorway.abort()
    assert transport.aborted
    doorway.connection_lost(None)
    assert (common.connections, left) == (set(), [True])
