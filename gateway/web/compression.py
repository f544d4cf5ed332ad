"""Compressed bodies: what a client sends and accepts, and how far it can be trusted. Pure.

Nothing here trusts a compressed body: what it unpacks to is bounded before it exists, and so is
the number of pieces that it may be made of, since a piece of nothing costs time as well.
"""

from __future__ import annotations

import re
import zlib
from typing import Final, NamedTuple

from mesh.protocol.messages import Buffer

# What is spoken, the best first.
SPOKEN: Final = ("zstd", "gzip")
# An answer shorter than this is not worth compressing.
SMALLEST_BYTES: Final = 1024

_GZIP_LEVEL: Final = 4  # of gzip: most of what 6 saves, in half the time
_GZIP_WINDOW_BITS: Final = 31  # zlib's word for a gzip header and trailer around the largest window
_MOST_MEMBERS: Final = 64  # gzip members or zstd frames in one body
# zstd blocks in one body: so many, and one more for each so many bytes that it may unpack to. An
# encoder fills blocks of 128 KiB unless it is flushed.
_FREE_BLOCKS: Final = 1024
_BYTES_PER_BLOCK: Final = 4096
_INPUT_BYTES: Final = 16 * 1024  # bytes that zlib is given at a time
_OUTPUT_BYTES: Final = 64 * 1024  # and that are taken from it

_ZSTD_MAGIC: Final = 0xFD2FB528
_SKIPPABLE_MAGIC: Final = 0x184D2A50
_ID_BYTES: Final = (0, 1, 2, 4)
_SIZE_BYTES: Final = (0, 2, 4, 8)
_RLE: Final = 2  # the bits of a block header that say so

_QUALITY: Final = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)
# Compressed already, so that doing it again costs time and saves nothing.
_PACKED: Final = re.compile(
    rb"(image/(?!svg)|audio/|video/|font/|application/(zip|gzip|zstd|x-(7z|bzip|xz|gzip))\b)",
    re.IGNORECASE,
)


class TooLarge(Exception):
    """A body would unpack to more than is allowed."""


class Malformed(Exception):
    """A body is not what its Content-Encoding says."""


class Shredded(Malformed):
    """A body consists of far too many pieces."""


class ContentCodings(NamedTuple):
    """What a request says of codings.

    Attributes:
        sent: the coding of its body, ``""`` for none.
        wanted: the coding that its answer should have, ``""`` for none.
    """

    sent: str = ""
    wanted: str = ""


def sent_by(value: bytes) -> str:
    """The coding that a ``Content-Encoding`` names, ``""`` for none.

    Raises:
        ValueError: one that is not spoken, or several; the text says what there is.

    Example:
        >>> sent_by(b"GZip"), sent_by(b"identity")
        ('gzip', '')
    """
    name = value.decode("latin-1").strip().lower()
    name = name.removeprefix("x-") if name == "x-gzip" else name
    if name in SPOKEN:
        return name
    if name in ("", "identity"):
        return ""
    shown = name if len(name) <= 40 else name[:40] + "..."
    raise ValueError(f"Content-Encoding is {shown!r}; send {' or '.join(SPOKEN)}, or none")


def wanted_by(value: bytes) -> str:
    """The best coding that an ``Accept-Encoding`` allows, ``""`` if it wants none.

    Example:
        >>> wanted_by(b"gzip, deflate, br, zstd;q=0.5"), wanted_by(b"br"), wanted_by(b"*")
        ('gzip', '', 'zstd')
    """
    qualities: dict[str, float] = {}
    for item in value.decode("latin-1").lower().split(","):
        name, _, parameter = item.partition(";")
        match = _QUALITY.fullmatch(parameter.strip())
        qualities[name.strip()] = float(match[1]) if match else float(not parameter.strip())
    others = qualities.get("*", 0.0)
    best = max(SPOKEN, key=lambda name: qualities.get(name, others))
    return best if qualities.get(best, others) else ""


def gunzip(body: Buffer, limit: int) -> bytes:
    """Unpack a gzip body to at most `limit` bytes.

    Raises:
        TooLarge: it would be more.
        Malformed: it is no gzip, is cut off, or consists of far too many parts.
    """
    parts: list[bytes] = []
    source = memoryview(body)
    at, left = 0, limit
    for _ in range(_MOST_MEMBERS):
        at, left = _gunzip_member(source, at, left, parts)
        if at == len(source):
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise Shredded("it has too many parts")


def _gunzip_member(source: memoryview, at: int, left: int, parts: list[bytes]) -> tuple[int, int]:
    """Unpack the member that begins at `at`; returns where it ends and how much may still come.

    A little is given and taken at a time: whatever zlib does not use, or makes in one go, it copies
    while it holds the interpreter's lock.
    """
    member = zlib.decompressobj(_GZIP_WINDOW_BITS)
    rest: Buffer = b""
    while not member.eof:
        if not rest:
            rest = source[at : at + _INPUT_BYTES]
            at += len(rest)
        try:
            part = member.decompress(rest, min(left + 1, _OUTPUT_BYTES))
        except zlib.error as error:
            raise Malformed(str(error)) from None
        if not (part or rest or member.eof):
            raise Malformed("it is cut off")
        rest = member.unconsumed_tail
        left -= len(part)
        if left < 0:
            raise TooLarge
        parts.append(part)
    return at - len(member.unused_data), left


def gzip(body: Buffer) -> bytes:
    """Pack a body."""
    return zlib.compress(body, _GZIP_LEVEL, _GZIP_WINDOW_BITS)


def blocks_for(limit: int) -> int:
    """Of how many zstd blocks a body may consist that unpacks to at most `limit` bytes."""
    return _FREE_BLOCKS + limit // _BYTES_PER_BLOCK


def check_zstd(body: bytes, blocks: int) -> None:
    """Make sure that a zstd body consists of whole frames, and not of far too many pieces.

    Decoders that can be bounded in what they write do not notice when a body is cut off.

    Args:
        body: what was sent.
        blocks: of which it may consist at most.

    Raises:
        Malformed: it does not; Shredded if they are too many.
    """
    at = frames = 0
    while at < len(body):
        frames += 1
        if frames > _MOST_MEMBERS:
            raise Shredded("it has too many parts")
        magic = _number(body, at, 4)
        if magic & 0xFFFFFFF0 == _SKIPPABLE_MAGIC:
            at += 8 + _number(body, at + 4, 4)
        elif magic == _ZSTD_MAGIC:
            at, blocks = _after_frame(body, at + 4, blocks)
        else:
            raise Malformed("it is no zstd")
    if at > len(body):
        raise Malformed("it is cut off")


def _after_frame(body: bytes, at: int, blocks: int) -> tuple[int, int]:
    """Where the frame ends whose header goes on at `at`, and how many blocks may come after it."""
    descriptor = _number(body, at, 1)
    single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
    size_bytes = _SIZE_BYTES[descriptor >> 6] or single
    at += 1 + (1 - single) + _ID_BYTES[descriptor & 3] + size_bytes
    try:
        for left in range(blocks - 1, -1, -1):
            header = body[at] | body[at + 1] << 8 | body[at + 2] << 16
            at += 3 + (1 if header & 6 == _RLE else header >> 3)
            if header & 1:
                return at + 4 * checksum, left
    except IndexError:
        raise Malformed("it is cut off") from None
    raise Shredded("it has too many parts")


def _number(body: bytes, at: int, length: int) -> int:
    """A number of so many bytes, the lowest first."""
    if at + length > len(body):
        raise Malformed("it is cut off")
    return int.from_bytes(body[at : at + length], "little")


def is_worth(head: bytes, length: int) -> bool:
    """Whether an answer with this head and a body of `length` bytes should be compressed."""
    if length < SMALLEST_BYTES:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name = name.strip().lower()
        if name == b"content-encoding":
            return False
        if name == b"cache-control" and b"no-transform" in value.lower():
            return False
        if name == b"content-type" and _PACKED.match(value.strip()):
            return False
    return True


def recoded(head: bytes, coding: str, length: int) -> bytes:
    """The head of an answer whose body was compressed to `length` bytes.

    Example:
        >>> recoded(b"HTTP/1.1 200 OK\\r\\nContent-Length: 9000\\r\\n\\r\\n", "gzip", 70)[17:]
        b'Content-Encoding: gzip\\r\\nVary: Accept-Encoding\\r\\nContent-Length: 70\\r\\n\\r\\n'
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"content-length:")]
    told = b"Content-Encoding: %b\r\nVary: Accept-Encoding\r\nContent-Length: %d"
    return b"\r\n".join([first, *kept, told % (coding.encode("ascii"), length)]) + b"\r\n\r\n"
