import struct

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated
from hypothesis import given
from hypothesis import strategies as st

from gateway.web import http2_frames as frames

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 1) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def sift(stream: bytes, sizes: list[int]) -> tuple[bytes, float, bool]:
    """What comes through, how much of it is unwelcome, and whether the client said good-bye."""
    sieve = frames.Sieve()
    through, unwelcome = b"", 0.0
    for size in [*sizes, len(stream)]:
        segment, stream = stream[:size], stream[size:]
        for run, count in sieve.runs(segment):
            assert run or count
            through += run
            unwelcome += count
    return through, round(unwelcome, 6), sieve.departed


FRAMES = st.builds(frame, st.integers(0, 12), st.binary(max_size=40), st.integers(0, 255))


@given(st.lists(FRAMES, max_size=30), st.lists(st.integers(1, 60), max_size=30))
def test_however_the_bytes_are_split_all_but_goaway_comes_through(
    sent: list[bytes], sizes: list[int]
) -> None:
    through, unwelcome, departed = sift(frames.PREFACE + b"".join(sent), sizes)
    kept = [one for one in sent if one[3] != GOAWAY]
    assert through == frames.PREFACE + b"".join(kept)
    assert departed == (len(kept) < len(sent))
    assert unwelcome == sift(frames.PREFACE + b"".join(sent), [])[1]


@pytest.mark.parametrize(
    ("sent", "unwelcome"),
    [
        (frame(HEADERS, b"x"), 0),
        (frame(CONTINUATION, b"x"), 0),
        (frame(WINDOW, bytes(4)), 1),
        (frame(DATA, b"x"), 0.05),
        (frame(DATA, b"x", flags=1), 0),
        (frame(DATA, bytes(64)), 0),
        (frame(DATA, b"", flags=1), 0),
        (frame(DATA, b""), 1),
        (frame(PRIORITY, bytes(5)), 1),
        (frame(RESET, bytes(4)), 1),
        (frame(SETTINGS), 1),
        (frame(PING, bytes(8)), 1),
        (frame(200, b"what"), 1),
        (frame(GOAWAY, bytes(8)), 1),
    ],
)
def test_frames_that_ask_for_nothing_are_counted(sent: bytes, unwelcome: float) -> None:
    pieces = frames.PREFACE + sent + frame(HEADERS, b"x")
    assert sift(pieces, [])[1] == unwelcome


def test_few_frames_are_passed_on_at_once() -> None:
    sieve = frames.Sieve()
    runs = list(sieve.runs(frames.PREFACE + frame(PING, bytes(8)) * 200))
    assert [count for _, count in runs] == [32] * 6 + [8]


@pytest.mark.parametrize("kind", [HEADERS, SETTINGS, PUSH, CONTINUATION])
def test_of_frames_whose_every_byte_may_cost_something_few_bytes_are_passed_on(kind: int) -> None:
    sieve = frames.Sieve()
    sent = frames.PREFACE + frame(kind, bytes(100)) * 7 + frame(kind, bytes(1000)) * 2
    runs = [len(run) for run, _ in sieve.runs(sent)]
    assert runs == [24 + 3 * 109, 3 * 109, 109 + 1009, 1009]
    assert len(list(sieve.runs(frame(DATA, bytes(1000)) * 32))) == 1


def test_what_is_not_complete_waits_or_goes_ahead() -> None:
    sieve = frames.Sieve()
    assert list(sieve.runs(frames.PREFACE + b"\0\0")) == [(frames.PREFACE, 0)]
    assert list(sieve.runs(b"\x05")) == []
    rest = frame(DATA, b"hello")[3:]
    little = 0.05
    assert list(sieve.runs(rest[:8])) == [(b"\0\0\x05" + rest[:8], little)]
    assert list(sieve.runs(rest[8:])) == [(rest[8:], 0)]


def test_nothing_of_a_frame_that_is_too_long_is_passed_on() -> None:
    sieve = frames.Sieve()
    assert list(sieve.runs(frames.PREFACE + frame(DATA, bytes(16_384)))) != []
    assert not sieve.overlong
    assert list(sieve.runs(frame(DATA, bytes(16_385)))) == []
    assert sieve.overlong


def test_h2_reads_our_goaway() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    [event] = client.receive_data(frame(SETTINGS, stream=0) + frames.goaway(7, 2))[-1:]
    assert isinstance(event, ConnectionTerminated)
    assert (event.last_stream_id, event.error_code) == (7, 2)


def test_window_updates_are_welcome_as_far_as_there_was_reason_for_them() -> None:
    sieve = frames.Sieve()
    sieve.updates = 3
    runs = list(sieve.runs(frames.PREFACE + frame(WINDOW, bytes(4)) * 5))
    assert [count for _, count in runs] == [2]
    assert sieve.updates == 0


def test_pieces_of_bodies_are_counted() -> None:
    sieve = frames.Sieve()
    list(sieve.runs(frames.PREFACE + frame(DATA, b"x") * 2 + frame(HEADERS) + frame(DATA)))
    assert sieve.bodies == 3


def test_headers_that_are_not_complete_are_known_by_their_number() -> None:
    sieve = frames.Sieve()
    seen = []
    pieces = (
        frames.PREFACE,
        frame(HEADERS, b"x", flags=4),
        frame(HEADERS, b"x"),
        frame(CONTINUATION, b"x"),
        frame(CONTINUATION, b"x", flags=4),
        frame(HEADERS, b"xyz", flags=4)[:-1],
        b"z" + frame(DATA, b"xyz")[:-1],
    )
    for piece in pieces:
        list(sieve.runs(piece))
        seen.append(sieve.block)
    assert seen == [0, 0, 2, 2, 0, 3, 0]


def header_frame(kind: int, nbytes: int, flags: int = 0) -> bytes:
    return nbytes.to_bytes(3, "big") + bytes([kind, flags]) + b"\0\0\0\1" + bytes(nbytes)


def test_headers_in_many_frames_are_counted_together_until_they_are_complete() -> None:
    sieve = frames.Sieve(most=1000)
    list(sieve.runs(frames.PREFACE + header_frame(1, 400) + header_frame(9, 400)))
    assert (sieve.pending, sieve.excessive) == (800, False)
    list(sieve.runs(header_frame(9, 100, flags=4)))
    assert (sieve.pending, sieve.excessive) == (0, False)
    list(sieve.runs(header_frame(1, 900)))
    assert (sieve.pending, sieve.excessive) == (900, False)
    assert b"".join(run for run, _ in sieve.runs(header_frame(9, 200))) == b""
    assert sieve.excessive
