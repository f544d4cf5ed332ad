"""What the streams of an HTTP/2 connection share: windows, order, patience, good-byes."""

from __future__ import annotations

import asyncio

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from http2_fakes import Peer
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
from hypothesis import given
from hypothesis import strategies as st

from gateway.web import http2_frames as frames
from gateway.web import responses as answers
from gateway.web.exchange import Limits


def meet(
    inference: Inference | None = None, limits: Limits | None = None, window: int = 0
) -> tuple[Peer, Inference]:
    inference = inference or Inference(at_once=True)
    return Peer(shared(inference, limits), window=window), inference


@turned
async def test_answers_of_one_turn_leave_in_one_write() -> None:
    peer, inference = meet(Inference())
    numbers = [peer.ask(b"%d" % at) for at in range(5)]
    await peer.settle()
    peer.transport.writes = 0
    for exchange in reversed(inference.taken):
        echo(exchange)
    await peer.settle()
    assert peer.transport.writes == 1
    assert [peer.answers[number].body for number in numbers] == [b"0", b"1", b"2", b"3", b"4"]
    assert not peer.connection.streams


@given(st.lists(st.binary(max_size=40_000), min_size=1, max_size=5), st.lists(st.integers(1, 9000)))
@turned
async def test_however_the_bytes_are_split_the_requests_are_the_same(
    bodies: list[bytes], sizes: list[int]
) -> None:
    peer = Peer(shared(Inference()))
    for body in bodies:
        peer.ask(body)
    other = Peer(shared(inference := Inference()), greet=False)
    stream = bytes(peer.sent)
    for size in [*sizes, len(stream)]:
        if segment := stream[:size]:
            other.connection.data_received(segment)
        stream = stream[size:]
    assert inference.bodies == bodies


@given(st.integers(1, 100_000), st.floats(0, 8))
@turned
async def test_an_answer_keeps_to_the_clients_windows(window: int, times: float) -> None:
    """h2's client half raises if a frame is too long or a window is overrun."""
    peer, inference = meet(Inference(), window=window)
    number = peer.ask(b"x")
    size = int(window * times)
    body = (b"0123456789" * (size // 10 + 1))[:size]
    inference.taken[0].respond(answers.result_head(b"id", b"a/b", b"", size), memoryview(body))
    got = await peer.answer(number)
    while not got.ended:
        assert len(got.body) <= size
        before = len(got.body)
        for place in (None, number):
            peer.wire.increment_flow_control_window(window, place)
        peer.tell()
        await peer.settle()
        assert len(got.body) > before
    assert got.body == body
    assert got.headers["content-length"] == str(size)


@turned
async def test_large_answers_take_turns() -> None:
    peer, inference = meet(Inference())
    numbers = [peer.ask(b"x") for _ in range(3)]
    for exchange in inference.taken:
        exchange.respond(answers.result_head(b"id", b"a/b", b"", 60_000), bytes(60_000))
    await peer.settle()
    assert [len(peer.answers[number].body) for number in numbers] == [60_000] * 3


@turned
async def test_a_client_that_does_not_read_is_not_written_to() -> None:
    peer, inference = meet(Inference())
    number = peer.ask(b"x")
    peer.connection.pause_writing()
    assert not peer.transport.reading
    echo(inference.taken[0])
    await peer.settle()
    assert not peer.answers.get(number)
    peer.connection.resume_writing()
    assert peer.transport.reading
    assert (await peer.answer(number)).body == b"x"


@turned
async def test_writing_stops_as_soon_as_the_socket_is_full() -> None:
    peer, inference = meet(Inference())
    body = bytes(10_000_000)
    peer.wire.increment_flow_control_window(20_000_000)
    write = peer.transport.write

    def full(piece: bytes) -> None:
        write(piece)
        if peer.transport.reading:
            peer.connection.pause_writing()

    peer.transport.write = full  # type: ignore[method-assign]
    for _ in range(20):
        number = peer.ask(b"x")
        peer.wire.increment_flow_control_window(20_000_000, number)
    peer.tell()
    for exchange in inference.taken:
        exchange.respond(answers.result_head(b"id", b"a/b", b"", len(body)), body)
    await asyncio.sleep(0)
    assert 0 < len(peer.transport.written) < 600_000


# ---- windows for what clients send


@turned
async def test_a_long_body_gets_its_window_again() -> None:
    peer, inference = meet(limits=Limits(max_body=40_000_000))
    body = bytes(33_000_000)
    number = peer.ask(None, lines=(("content-length", str(len(body))),))
    peer.send(number, body, end=True)
    assert inference.bodies == [body]


@turned
async def test_a_connection_that_holds_much_reads_on_with_its_oldest_only() -> None:
    peer, inference = meet(Inference(), limits=Limits(max_body=100_000))
    first, second = peer.ask(None), peer.ask(None)
    for number in (first, second):
        peer.send(number, bytes(65_536))
    assert peer.wire.local_flow_control_window(first) > 65_536
    assert peer.wire.local_flow_control_window(second) == 65_536
    peer.send(first, bytes(10), end=True)
    peer.tell()
    assert peer.wire.local_flow_control_window(second) == 65_536
    echo(inference.taken[0])
    await peer.settle()
    assert peer.wire.local_flow_control_window(second) > 65_536
    peer.send(second, bytes(10), end=True)
    assert [len(body) for body in inference.bodies] == [65_546, 65_546]


@turned
async def test_who_waits_for_us_is_not_late() -> None:
    peer, _ = meet(Inference(), limits=Limits(max_body=100_000, body_timeout=1.0))
    first, second = peer.ask(None), peer.ask(None)
    for number in (first, second):
        peer.send(number, bytes(65_536))
    for _ in range(6):
        peer.connection.tick(1.0)
    await peer.settle()
    assert peer.answers[first].status == 408
    assert peer.answers.get(second) is None


# ---- too much of anything


@turned
async def test_one_stream_too_many_is_refused_and_may_be_sent_again() -> None:
    peer = Peer(shared(Inference(), Limits(streams=2)), greet=False)
    peer.wire.initiate_connection()  # not one word of ours has reached it
    numbers = [peer.ask() for _ in range(3)]
    await peer.settle()
    assert peer.answers[numbers[2]].reset == ErrorCodes.REFUSED_STREAM
    assert len(peer.connection.streams) == 2
    assert peer.wire.remote_settings.max_concurrent_streams == 2
    assert peer.goodbye is None


@turned
async def test_rapid_resets_end_the_connection() -> None:
    peer, inference = meet(Inference())
    for _ in range(210):
        if peer.goodbye is None:
            peer.wire.reset_stream(peer.ask(b"x"))
            peer.tell()
            peer.hear()
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
    assert peer.transport.ended
    assert len(inference.left) == len(inference.taken) < 210


@turned
async def test_pings_without_end_end_the_connection_early() -> None:
    peer, _ = meet()
    ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    peer.tell(ping * 10_000)
    await peer.settle()
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
    peer.tell(ping)
    assert peer.transport.written == b""


@turned
async def test_so_do_goodbyes_without_end() -> None:
    peer, _ = meet(Inference())
    peer.ask(b"x")
    for _ in range(250):
        peer.tell(frames.goaway(0))
    peer.hear()
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@turned
async def test_patience_comes_back_with_time_and_with_answers() -> None:
    peer, _ = meet()
    ping = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
    for _ in range(20):
        peer.tell(ping * 45)
        await peer.settle()
        peer.connection.tick(1.0)
    for _ in range(500):
        peer.ask(b"x")
        peer.tell(ping)
        await peer.settle()
    assert peer.goodbye is None


# ---- beginnings and ends


@turned
async def test_nonsense_is_told_so() -> None:
    for nonsense in (b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0", b"\xff" * 50):
        peer, inference = meet(Inference())
        peer.ask(b"x")
        peer.tell(nonsense)
        peer.hear()
        assert peer.goodbye is not None
        assert peer.transport.ended
        assert len(inference.left) == 1
        assert not peer.connection.streams


@given(st.binary(max_size=300), st.booleans())
@turned
async def test_no_bytes_raise(noise: bytes, framed: bool) -> None:
    peer, _ = meet(Inference())
    peer.ask(None)
    if framed:
        noise = len(noise).to_bytes(3, "big") + noise[:6].ljust(6, b"\0") + noise
    peer.tell(noise)
    await asyncio.sleep(0)
    peer.connection.data_received(noise)
    peer.connection.connection_lost(None)


@turned
async def test_draining_answers_what_has_begun() -> None:
    peer, inference = meet(Inference())
    whole, half = peer.ask(b"x"), peer.ask(None)
    peer.connection.retire()
    peer.connection.retire()
    raced = peer.ask(b"y")  # sent before the client knows
    peer.wire.send_data(half, b"z", end_stream=True)
    peer.tell()
    await peer.settle()
    assert peer.goodbye == ErrorCodes.NO_ERROR
    assert peer.answers[raced].reset == ErrorCodes.REFUSED_STREAM
    assert inference.bodies == [b"x", b"z"]
    assert not peer.transport.ended
    for exchange in inference.taken:
        echo(exchange)
    await peer.settle()
    assert [peer.answers[number].body for number in (whole, half)] == [b"x", b"z"]
    assert peer.transport.ended


@turned
async def test_draining_closes_what_is_idle() -> None:
    peer, _ = meet()
    peer.connection.retire()
    assert peer.transport.ended
    peer.hear()
    assert peer.goodbye == ErrorCodes.NO_ERROR


@turned
async def test_a_client_that_says_goodbye_gets_its_answers() -> None:
    peer, inference = meet(Inference())
    number = peer.ask(b"x")
    peer.tell(frames.goaway(0))
    echo(inference.taken[0])
    assert (await peer.answer(number)).body == b"x"
    assert peer.transport.ended
    peer, _ = meet()
    peer.tell(frames.goaway(0))
    assert peer.transport.ended


@turned
async def test_a_client_that_hangs_up_is_gone() -> None:
    peer, inference = meet(Inference())
    peer.ask(b"x")
    peer.ask(None)
    peer.connection.connection_lost(None)
    assert inference.left[:1] == inference.taken
    assert len(inference.left) == 2  # the one that was not whole held a place, too
    echo(inference.taken[0])
    await asyncio.sleep(0)
    assert not peer.connection.streams


@turned
async def test_whoever_goes_is_noticed() -> None:
    common = shared(Inference())
    left: list[int] = []
    common.parted = lambda: left.append(len(common.guests))
    peers = [Peer(common), Peer(common)]
    assert len(common.guests) == 2
    for peer in peers:
        peer.connection.connection_lost(None)
    assert left == [1, 0]


# ---- time


@turned
async def test_an_idle_connection_is_ended() -> None:
    peer, inference = meet(Inference(), Limits(idle_timeout=10.0, linger=2.0))
    peer.ask(b"x")
    peer.connection.tick(30.0)
    assert not peer.transport.ended
    echo(inference.taken[0])
    await peer.settle()
    peer.connection.tick(9.0)
    assert not peer.transport.ended
    peer.connection.tick(1.0)
    peer.hear()
    assert peer.goodbye == ErrorCodes.NO_ERROR
    assert peer.transport.ended
    peer.connection.tick(1.0)
    assert not peer.transport.aborted
    peer.connection.tick(1.0)
    assert peer.transport.aborted


@turned
async def test_a_client_that_takes_nothing_is_given_up() -> None:
    peer, _ = meet(Inference(), Limits(write_timeout=10.0))
    peer.ask(b"x")
    peer.connection.pause_writing()
    for unsent in (5, 4, 3):
        peer.transport.unsent = unsent
        peer.connection.tick(3.0)
    assert not peer.transport.aborted
    peer.connection.tick(6.0)
    peer.connection.tick(6.0)
    assert peer.transport.aborted


@turned
async def test_answers_that_are_not_taken_are_charged_to_their_route_until_they_are() -> None:
    peer, inference = meet(Inference(), window=1000)
    way = inference.routes[b"/inference"]
    numbers = [peer.ask(b"x") for _ in range(3)]
    for exchange in inference.taken:
        exchange.respond(answers.result(b"id", b"a/b", b"", bytes(5000)))
    await peer.settle()
    assert way.held == peer.connection.shared.unread.nbytes == 12_000
    peer.wire.increment_flow_control_window(5000, numbers[0])
    peer.tell()
    await peer.settle()
    assert (way.held, peer.answers[numbers[0]].ended) == (8000, True)
    peer.wire.reset_stream(numbers[1])
    peer.tell()
    peer.connection.tick(0.5)
    assert way.held == 4000
    peer.connection.connection_lost(None)
    assert (way.held, peer.connection.shared.unread.nbytes) == (0, 0)


@turned
async def test_what_chokes_nobody_and_is_not_taken_is_charged_as_well() -> None:
    peer, inference = meet(Inference())
    unread, dropped = peer.connection.shared.unread, []
    peer.connection.shared.dropped = dropped.append
    peer.ask(b"x")
    peer.transport.unsent = 10_000
    inference.taken[0].respond(answers.result(b"id", b"a/b", b"", b""))
    await peer.settle()
    peer.connection.tick(0.5)
    assert unread.nbytes == 10_000
    peer.transport.unsent = 5_000  # it takes some
    for _ in range(60):
        peer.connection.tick(0.5)
    assert (unread.nbytes, peer.transport.aborted) == (5_000, False)
    for _ in range(3):
        peer.connection.tick(0.5)
    assert (unread.nbytes, peer.transport.aborted, dropped) == (0, True, ["slow_reader"])


@turned
async def test_who_takes_it_a_little_later_is_not_charged_any_more() -> None:
    peer, _ = meet()
    peer.transport.unsent = 10_000
    for _ in range(40):
        peer.connection.tick(0.5)
    peer.transport.unsent = 0
    peer.connection.tick(0.5)
    assert (peer.connection.shared.unread.nbytes, peer.connection._account) == (0, None)


@turned
async def test_heads_that_a_choked_client_does_not_take_count_as_well() -> None:
    peer, inference = meet(Inference())
    for _ in range(3):
        peer.ask(b"x")
    peer.transport.unsent = 70_000
    peer.connection.pause_writing()
    for exchange in inference.taken:
        exchange.respond(answers.result(b"id", b"a/b", b"", b""))
    await asyncio.sleep(0)
    assert peer.connection.shared.unread.nbytes == 70_000 + 3 * 512
    peer.transport.unsent = 0
    peer.connection.resume_writing()
    assert peer.connection.shared.unread.nbytes == 0


@turned
async def test_a_connection_with_much_that_is_unread_gets_nothing_more() -> None:
    peer, inference = meet(Inference(), Limits(unread_bytes=20_000), window=1000)
    dropped: list[str] = []
    peer.connection.shared.dropped = dropped.append
    peer.ask(b"x")
    inference.taken[0].respond(answers.result(b"id", b"a/b", b"", bytes(9000)))
    await peer.settle()
    refused = await peer.answer(peer.ask(b"y"))
    assert (refused.status, len(inference.taken)) == (429, 1)
    for _ in range(3):
        peer.connection.tick(0.5)
    assert not peer.transport.aborted
    for _ in range(5):
        peer.connection.tick(0.5)
    assert (peer.transport.aborted, dropped) == (True, ["unread"])


@turned
async def test_the_table_of_headers_stays_small_whatever_the_client_allows() -> None:
    peer, _ = meet()
    peer.wire.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**32 - 1})
    peer.tell()
    for at in range(200):
        assert (await peer.answer(peer.ask(b"%d" % at))).body == b"%d" % at
    encoder = peer.connection._wire.encoder
    assert encoder.header_table_size == 4096
    peer.wire.update_settings({SettingCodes.HEADER_TABLE_SIZE: 100})
    peer.tell()
    assert (await peer.answer(peer.ask(b"small"))).body == b"small"
    assert encoder.header_table_size == 100


def begun_headers(nbytes: int) -> bytes:
    """A HEADERS frame of stream 1 that goes on in another."""
    return nbytes.to_bytes(3, "big") + b"\1\0\0\0\0\1" + bytes(nbytes)


@turned
async def test_headers_that_are_not_complete_have_so_much_room_together() -> None:
    common = shared(Inference(), Limits(head_bytes=1000))
    first, second = Peer(common), Peer(common)
    first.tell(begun_headers(600))
    second.tell(begun_headers(600))
    second.hear()
    assert (first.goodbye, second.goodbye) == (None, ErrorCodes.ENHANCE_YOUR_CALM)
    first.connection.connection_lost(None)
    assert common.heads.take(1000)


@turned
async def test_headers_are_not_gathered_beyond_what_they_may_be() -> None:
    peer, _ = meet(limits=Limits(max_header=8192))
    peer.tell(begun_headers(16_000))
    peer.hear()
    assert peer.goodbye is None
    more = (400).to_bytes(3, "big") + b"\x09\0\0\0\0\1" + bytes(400)
    peer.tell(more)
    peer.hear()
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@turned
async def test_aborting_is_at_once() -> None:
    peer, _ = meet()
    peer.connection.abort()
    assert peer.transport.aborted
    assert "0 streams" in repr(peer.connection)


class Deaf(FakeTransport):
    """Cannot end one direction alone."""

    def can_write_eof(self) -> bool:
        return False


@turned
async def test_a_transport_that_cannot_end_one_way_is_closed() -> None:
    peer, _ = meet()
    peer.transport.__class__ = Deaf
    peer.connection.retire()
    assert peer.transport.closed


@turned
async def test_http_1_says_where_http_2_begins() -> None:
    connection, transport = connect(shared(Inference(at_once=True)))
    connection.data_received(post(b"x"))
    connection.data_received(frames.PREFACE)
    written = transport.take()
    assert statuses(written) == [200, 505]
    assert b"first byte" in written


@turned
async def test_room_is_asked_for_before_a_body_comes_and_as_it_grows() -> None:
    peer, inference = meet(Inference())
    peer.ask(b"x" * 10)
    peer.ask(b"x" * 100_000, length=False)
    assert inference.asked == [10, 65_536, 131_072 + 16_384 - 65_536 % 16_384]
    assert inference.left == []
    inference.refusals = [None, answers.failure("overloaded", "full", None, b"1", 3)]
    number = peer.ask(None)
    peer.send(number, bytes(100_000))
    await peer.settle()
    assert peer.answers[number].status == 429
    assert len(inference.taken) == 2


@turned
async def test_room_is_given_back_once_when_a_body_does_not_become_whole() -> None:
    ends = (
        lambda peer, number: (peer.wire.reset_stream(number), peer.tell()),
        lambda peer, _: peer.connection.connection_lost(None),
        lambda peer, _: [peer.connection.tick(10.0) for _ in range(5)],
        lambda peer, number: peer.send(number, bytes(200_000)),
        lambda peer, _: peer.tell(b"\xff" * 50),
    )
    for end in ends:
        peer, inference = meet(Inference(), Limits(max_body=100_000))
        number = peer.ask(None)
        assert (len(inference.asked), inference.left) == (1, [])
        end(peer, number)
        await asyncio.sleep(0)
        peer.connection.connection_lost(None)
        assert len(inference.left) == 1
        assert inference.taken == []


# ---- floods: what we are made to do counts like what is done to us


async def flood(peer: Peer, sent: bytes) -> int:
    """Send it all at once; returns in how many turns of the loop it was looked at."""
    peer.tell(sent)
    turns = 0
    while not (peer.transport.reading or peer.transport.ended):
        turns += 1
        await asyncio.sleep(0)
    await peer.settle()
    return turns


def window_update(stream: int, more: int) -> bytes:
    return b"\0\0\x04\x08\0" + stream.to_bytes(4, "big") + more.to_bytes(4, "big")


@turned
async def test_resets_that_we_are_made_to_send_end_the_connection() -> None:
    """MadeYouReset: each request is followed by something that h2 must reset it for."""
    for offence in (
        lambda number: b"\0\0\x01\0\0" + number.to_bytes(4, "big") + b"x",  # after its end
        lambda number: window_update(number, 2**31 - 1),
    ):
        peer, inference = meet(Inference())
        for _ in range(210):
            if peer.goodbye is None:
                number = peer.ask(b"")
                peer.tell(offence(number))
                peer.hear()
        assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
        assert len(inference.taken) < 210
        assert len(inference.left) == len(inference.taken)


@turned
async def test_streams_that_we_must_refuse_end_the_connection() -> None:
    peer = Peer(shared(inference := Inference(), Limits(streams=2)), greet=False)
    peer.wire.initiate_connection()
    sent = peer.wire.data_to_send()
    for _ in range(1500):
        number = peer.wire.get_next_available_stream_id()
        head = [
            (":method", "POST"),
            (":authority", "h"),
            (":scheme", "http"),
            (":path", "/inference"),
        ]
        peer.wire.remote_settings.max_concurrent_streams = 10_000
        peer.wire.remote_settings.acknowledge()
        peer.wire.send_headers(number, head, end_stream=True)
        sent += peer.wire.data_to_send()
    turns = await flood(peer, sent)
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM
    assert turns >= 5
    assert len(inference.taken) == 2


@turned
async def test_bodies_for_streams_that_are_reset_end_the_connection() -> None:
    peer, _ = meet(Inference())
    number = peer.ask(None)
    peer.connection.cancel(peer.connection.streams[number])
    piece = b"\0\0\x64\0\0" + number.to_bytes(4, "big") + bytes(100)
    await flood(peer, piece * 150)
    assert peer.goodbye is None  # it may not know yet
    await flood(peer, piece * 150)
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@turned
async def test_window_updates_without_reason_end_the_connection() -> None:
    peer, _ = meet(Inference())
    number = peer.ask(None)
    await flood(peer, window_update(0, 1) * 190 + window_update(number, 1) * 190)
    assert peer.goodbye is None
    await flood(peer, window_update(0, 1) * 50)
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@turned
async def test_a_client_that_reads_may_update_its_windows() -> None:
    peer, inference = meet(window=1000)
    for _ in range(10):
        number = peer.ask(b"x" * 50_000)
        while not (await peer.answer(number)).ended:
            for place in (None, number):
                peer.wire.increment_flow_control_window(250, place)
            peer.tell()
    assert peer.goodbye is None
    assert len(inference.taken) == 10


@turned
async def test_after_a_large_segment_others_have_their_turn() -> None:
    inference = Inference()
    peer, _ = meet(inference)
    number = peer.ask(None)
    piece = (16_000).to_bytes(3, "big") + b"\0\0" + number.to_bytes(4, "big") + bytes(16_000)
    peer.tell(piece)
    assert peer.transport.reading  # a small one
    peer.tell(piece * 3)
    assert not peer.transport.reading
    peer.tell(piece[:5] + b"\0\0\0\1" + piece[9:])  # reaches us all the same, and is kept
    assert peer.connection.streams[number].received == 4 * 16_000
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (peer.connection.streams[number].received, peer.transport.reading) == (5 * 16_000, True)


@turned
async def test_tiny_pieces_of_bodies_are_borne_for_a_while() -> None:
    peer, _ = meet(Inference())
    number = peer.ask(None)
    tiny = b"\0\0\x01\0\0" + number.to_bytes(4, "big") + b"x"
    assert await flood(peer, tiny * 3000) > 50
    assert peer.goodbye is None
    await flood(peer, tiny * 3000)
    assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@turned
async def test_pages_are_made_one_at_a_turn() -> None:
    begun: list[object] = []
    peer = Peer(shared(pages=Pages(lambda page, _headers: begun.append(page))))
    numbers = [peer.ask(path="/page", method="GET") for _ in range(20)]
    gone = numbers.pop(10)
    peer.wire.reset_stream(gone)
    peer.tell()
    for count in range(20):
        assert len(begun) <= count
        await asyncio.sleep(0)
    await peer.settle()
    assert len(begun) == 19


@turned
async def test_headers_that_do_not_end_are_not_waited_for() -> None:
    unfinished = b"\0\0\x01\x01\0\0\0\0\x01\x83"  # HEADERS without END_HEADERS
    cut_off = b"\0\0\x09\x01\4\0\0\0\x01\x83"  # the beginning of a whole one
    for sent in (unfinished, cut_off):
        peer, _ = meet(limits=Limits(header_timeout=10.0))
        peer.connection.data_received(sent)
        for _ in range(20):
            assert peer.goodbye is None
            peer.connection.tick(0.5)
        peer.connection.tick(0.5)
        peer.hear()
        assert peer.goodbye == ErrorCodes.ENHANCE_YOUR_CALM


@turned
async def test_headers_that_are_always_being_sent_are_no_slow_ones() -> None:
    peer, inference = meet(limits=Limits(header_timeout=1.0))
    for _ in range(10):
        number = peer.wire.get_next_available_stream_id()
        head = [
            (":method", "POST"),
            (":authority", "h"),
            (":scheme", "http"),
            (":path", "/inference"),
        ]
        peer.wire.send_headers(number, head, end_stream=True)
        sent = peer.wire.data_to_send()
        peer.connection.data_received(sent[:12])
        peer.connection.tick(0.6)
        peer.connection.data_received(sent[12:])
        await peer.settle()
    assert peer.goodbye is None
    assert len(inference.taken) == 10


@turned
async def test_a_refusal_is_logged_for_what_it_refuses() -> None:
    logged: list[tuple[bytes, bytes, int]] = []
    common = shared(access=lambda turn, _: logged.append((turn.method, turn.target, turn.status)))
    peer = Peer(common)
    peer.ask(None, "/page", "PUT", (("content-length", "99999999"),))
    await peer.settle()
    assert logged == [(b"PUT", b"/page", 413)]
