"""Compressed bodies, and how far they can be trusted."""

from __future__ import annotations

import gzip
import hashlib
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway.web import compression
from gateway.web.compression import Malformed, TooLarge

BLOCKS = compression.blocks_for(1_000_000)
EMPTY = b"\x28\xb5\x2f\xfd\x00\x58"  # a zstd frame's header; blocks follow
LAST = b"\x01\0\0"
SKIPPED = b"\x50\x2a\x4d\x18\x03\0\0\0abc"


@pytest.mark.parametrize(
    ("value", "coding"),
    [(b"gzip", "gzip"), (b" X-GZIP ", "gzip"), (b"Zstd", "zstd"), (b"identity", ""), (b"", "")],
)
def test_the_coding_of_a_body(value: bytes, coding: str) -> None:
    assert compression.sent_by(value) == coding


@pytest.mark.parametrize("value", [b"br", b"deflate", b"gzip, zstd", b"x-zstd", b"\xff" * 500])
def test_a_coding_that_is_not_spoken(value: bytes) -> None:
    with pytest.raises(ValueError, match="send zstd or gzip, or none") as caught:
        compression.sent_by(value)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (b"gzip", "gzip"),
        (b"zstd", "zstd"),
        (b"gzip, deflate, br, zstd", "zstd"),
        (b"GZIP;q=1.0,zstd;Q=0.9", "gzip"),
        (b"gzip;q=0, zstd;q=0", ""),
        (b"gzip;q=0.001", "gzip"),
        (b"*", "zstd"),
        (b"zstd;q=0, *;q=0.5", "gzip"),
        (b"*;q=0", ""),
        (b"br, deflate", ""),
        (b"identity", ""),
        (b"gzip;what=1", ""),
        (b"gzip;q=2", ""),
        (b",;,", ""),
        (b"", ""),
    ],
)
def test_the_coding_that_a_client_wants(value: bytes, coding: str) -> None:
    assert compression.wanted_by(value) == coding


@given(st.binary(), st.integers(0, 200))
def test_gzip_is_bounded_to_the_byte(body: bytes, limit: int) -> None:
    less = gzip.compress(body)
    if len(body) <= limit:
        assert compression.gunzip(less, limit) == body
    else:
        with pytest.raises(TooLarge):
            compression.gunzip(less, limit)


def test_what_we_pack_others_unpack() -> None:
    body = b"hello " * 1000
    assert gzip.decompress(compression.gzip(memoryview(body))) == body


def test_gzip_may_have_some_members_but_not_thousands() -> None:
    member = gzip.compress(b"ab")
    assert compression.gunzip(member * 3, 6) == b"ababab"
    with pytest.raises(TooLarge):
        compression.gunzip(member * 3, 5)
    with pytest.raises(Malformed, match="too many"):
        compression.gunzip(gzip.compress(b"") * 65, 10)


@given(st.binary(), st.integers(0, 60))
def test_gzip_that_is_cut_off_or_wrong_is_noticed(body: bytes, cut: int) -> None:
    less = gzip.compress(body)
    for wrong in (less[: max(0, len(less) - 1 - cut)], less + b"?", zlib.compress(body), b"{}"):
        with pytest.raises(Malformed):
            compression.gunzip(wrong, 1 << 20)


FRAMES = st.builds(
    lambda body, size, check, level: zstandard.ZstdCompressor(
        level=level, write_checksum=check, write_content_size=size
    ).compress(body),
    st.binary(max_size=2000) | st.integers(0, 500_000).map(bytes),
    st.booleans(),
    st.booleans(),
    st.integers(1, 9),
)


@given(st.lists(FRAMES | st.just(SKIPPED), min_size=1, max_size=5), st.integers(1, 10))
def test_whole_zstd_frames_are_whole_and_others_are_not(frames: list[bytes], cut: int) -> None:
    compression.check_zstd(b"".join(frames), BLOCKS)
    with pytest.raises(Malformed):
        compression.check_zstd(
            b"".join([*frames[:-1], frames[-1][: -min(cut, len(frames[-1]) - 1)]]), BLOCKS
        )


def test_a_streamed_zstd_frame_is_whole_in_the_end() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    pieces = [stream.compress(b"ab" * 100) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    pieces.append(stream.compress(b"cd"))
    with pytest.raises(Malformed, match="cut off"):
        compression.check_zstd(b"".join(pieces), BLOCKS)
    compression.check_zstd(b"".join(pieces) + stream.flush(), BLOCKS)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{}", "cut off"),
        (b'{"a": 1}', "no zstd"),
        (EMPTY, "cut off"),
        (EMPTY + b"\x02", "cut off"),
        ((EMPTY + LAST) * 65, "too many"),
        (EMPTY + b"\0\0\0" * 1268 + LAST, "too many"),
        ((EMPTY + b"\0\0\0" * 500 + LAST) * 3, "too many"),
    ],
)
def test_zstd_that_is_none_or_too_much_of_it(body: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        compression.check_zstd(body, BLOCKS)


HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\nX-A: 1\r\n\r\n"
)


def test_a_compressed_answer_says_so() -> None:
    assert compression.recoded(HEAD, "zstd", 70) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: 1\r\n"
        b"Content-Encoding: zstd\r\nVary: Accept-Encoding\r\nContent-Length: 70\r\n\r\n"
    )


def test_what_is_small_or_compressed_already_stays_as_it_is() -> None:
    assert compression.is_worth(HEAD, 1024)
    assert not compression.is_worth(HEAD, 1023)
    for kind in (b"image/png", b"video/mp4", b"application/zip", b"Audio/ogg", b"font/woff2"):
        assert not compression.is_worth(HEAD.replace(b"application/json", kind), 9000)
    for kind in (b"image/svg+xml", b"application/msgpack", b"application/zippy", b"text/plain"):
        assert compression.is_worth(HEAD.replace(b"application/json", kind), 9000)
    for line in (b"Content-Encoding: br", b"cache-control: private, No-Transform"):
        assert not compression.is_worth(HEAD.replace(b"X-A: 1", line), 9000)
    assert compression.is_worth(HEAD.replace(b"X-A: 1", b"Cache-Control: no-store"), 9000)


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 9),
)
def test_gzip_is_the_same_taken_a_little_at_a_time(
    sizes: list[int], noisy: bool, level: int
) -> None:
    noise = b"".join([hashlib.sha256(b"%d" % at).digest() for at in range(6300)])
    bodies = [noise[:size] if noisy else bytes(size) for size in sizes]
    less = b"".join([gzip.compress(body, level) for body in bodies])
    whole = b"".join(bodies)
    assert compression.gunzip(less, len(whole)) == whole
    for cut in (1, 9, 5000):
        with pytest.raises(Malformed):
            compression.gunzip(
                less[: max(0, len(less) - cut)] if cut < 5000 else less + b"?" * cut, 1 << 20
            )
    if whole:
        with pytest.raises(TooLarge):
            compression.gunzip(less, len(whole) - 1)


def test_zstd_may_have_the_more_blocks_the_more_it_may_unpack_to() -> None:
    assert compression.blocks_for(10 << 20) == 1024 + 2560
    body = EMPTY + b"\0\0\0" * 99 + LAST
    compression.check_zstd(body, 100)
    with pytest.raises(compression.Shredded):
        compression.check_zstd(body, 99)
