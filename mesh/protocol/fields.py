"""The pieces that messages are written of: checked numbers and texts, and payload buffers. Pure.

A payload buffer travels in one of three ways. A small one lies in the msgpack list itself: a
frame of its own costs 2 µs at each end, copying 16 KiB less than one. A larger one is its own
frame. One over `PART_BYTES` has gone ahead in slices (`Part`), and is named by a `Transfer`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgpack

from mesh.errors import ProtocolError
from mesh.protocol.messages import Buffer

Frame = Buffer
Body = tuple[Any, ...]

INLINE_BYTES = 16 * 1024  # a buffer up to this many bytes travels inside the list
PART_BYTES = 1024 * 1024  # a buffer over this many bytes travels in slices of this size
HEADER_BYTES = 56  # of the fixed header, with which a first frame begins
MAX_BODY_BYTES = 4 * 1024 * 1024  # of a first frame
MAX_LIST_BYTES = 64 * 1024
MAX_TEXT_BYTES = 4096
MAX_BUFFERS = 256  # of one task
MAX_FRAMES = 1024  # of one multipart
MAX_U64 = 2**64 - 1
# What comes of reading or writing fields that do not fit.
MISFITS = (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error)

_packer = msgpack.Packer(autoreset=True)
pack = _packer.pack

Listed = TypeVar("Listed", bound=Sequence[Any])


def unpack_list(raw: Buffer) -> Body:
    """What `pack` made of a list; every list in it becomes a tuple.

    Tuples, because a hostile body of a million empty lists then costs a tenth of the time. No
    list is longer than the bytes that are there, so none is allocated that claims to be.

    Raises:
        ProtocolError: it is no msgpack, no list, or larger than the limits.
    """
    try:
        body = msgpack.unpackb(
            raw,
            use_list=False,
            object_hook=_refuse,
            ext_hook=_refuse,
            max_array_len=min(MAX_LIST_BYTES, len(raw)),
            max_map_len=0,
            max_ext_len=0,
            max_str_len=MAX_BODY_BYTES,
            max_bin_len=MAX_BODY_BYTES,
        )
    except Exception as error:
        raise ProtocolError(f"the body is not msgpack: {type(error).__name__}") from error
    if type(body) is not tuple:
        raise ProtocolError(f"the body is a {type(body).__name__}, not a list")
    return body


def _refuse(*_: Any) -> None:
    raise ValueError("no message has maps or extension types")


class Transfer(NamedTuple):
    """Stands in a task for a buffer that travels in slices.

    Attributes:
        number: the sender's counter of transfers on this pair of incarnations.
        total: bytes of the whole buffer.
    """

    number: int
    total: int


def u64(value: Any) -> int:
    """An unsigned number of at most 64 bits.

    Raises:
        TypeError: it is something else.

    Example:
        >>> u64(7)
        7
    """
    if type(value) is not int or not 0 <= value <= MAX_U64:
        shown = f"{value!r:.40}" if type(value) is int else type(value).__name__
        raise TypeError(f"{shown} is no unsigned 64-bit number")
    return value


def u64s(values: Any) -> tuple[int, ...]:
    """A list of unsigned numbers.

    Raises:
        TypeError: it is something else.
    """
    if type(values) is not tuple:
        raise TypeError(f"{type(values).__name__} where a list of numbers belongs")
    return tuple(map(u64, values))


def seconds(value: Any) -> float:
    """A span of time.

    Raises:
        TypeError: it is no number, or negative, infinite or none.

    Example:
        >>> seconds(60)
        60.0
    """
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise TypeError("a number of seconds belongs here, finite and not negative")
    return float(value)


def text(value: Any, limit: int = MAX_TEXT_BYTES, name: str = "a text") -> str:
    """A text of at most `limit` characters; `name` is what the error calls it.

    Raises:
        TypeError: it is something else.
        ValueError: it is too long.
    """
    if type(value) is not str:
        raise TypeError(f"{name} is needed where {type(value).__name__} is given")
    if len(value) > limit:
        raise ValueError(f"{name} has {len(value)} characters, over the limit of {limit}")
    return value


def words(value: str) -> str:
    """A text for people's eyes, cut and mended so that no limit costs the message it is in.

    Raises:
        TypeError: it is something else.

    Example:
        >>> words("a lone \\ud800 surrogate")
        'a lone ? surrogate'
    """
    if type(value) is str and len(value) <= MAX_TEXT_BYTES and value.isascii():
        return value
    return text(value[:MAX_TEXT_BYTES]).encode("utf-8", "replace").decode()


def listed(values: Listed) -> Listed:
    """The values, if the decoder accepts a list as long as this.

    Raises:
        ValueError: there are more than `MAX_LIST_BYTES`.
    """
    if len(values) > MAX_LIST_BYTES:
        raise ValueError(f"a list has {len(values)} entries, over the limit of {MAX_LIST_BYTES}")
    return values


def pairs(value: Any) -> tuple[tuple[str, str], ...]:
    """Name and value of each header.

    Raises:
        TypeError: it is something else.
        ValueError: an element is no pair, or there are too many of them.
    """
    return tuple(
        (text(name, name="a header's name"), text(worth, MAX_BODY_BYTES, "a header's value"))
        for name, worth in listed(value)
    )


def pack_buffers(buffers: Sequence[Buffer | Transfer]) -> tuple[list[Any], list[Frame]]:
    """Split a payload into what lies in the list and what are frames of their own.

    Returns:
        Per buffer its bytes, or its length where it is a frame, or a transfer's two numbers;
        and the frames.

    Raises:
        ValueError: there are more than `MAX_BUFFERS`.
        TypeError: a transfer's number or length is none.
    """
    if len(buffers) > MAX_BUFFERS:
        raise ValueError(f"its payload has {len(buffers)} buffers, over the limit of {MAX_BUFFERS}")
    described: list[Any] = []
    frames: list[Frame] = []
    for buffer in buffers:
        if isinstance(buffer, Transfer):
            described.append([u64(buffer.number), u64(buffer.total)])
        elif len(buffer) <= INLINE_BYTES:
            described.append(bytes(buffer))
        else:
            described.append(len(buffer))
            frames.append(buffer)
    return described, frames


def unpack_buffers(described: Any, frames: Iterator[Frame]) -> list[Any]:
    """The payload that `pack_buffers` described; `Transfer` where it came in slices.

    Raises:
        TypeError, ValueError: a description is none, or a frame has another length.
    """
    if type(described) is not tuple or len(described) > MAX_BUFFERS:
        raise TypeError(f"a payload is a list of up to {MAX_BUFFERS} buffers")
    return [item if type(item) is bytes else _large(item, frames) for item in described]


def _large(described: Any, frames: Iterator[Frame]) -> Frame | Transfer:
    if type(described) is tuple:
        return Transfer(*u64s(described))
    frame = next(frames, None)
    if frame is None or len(frame) != u64(described):
        raise ValueError("a payload frame is missing or of another length than announced")
    return frame


def check_all_used(frames: Iterator[Frame]) -> None:
    """No frame may be left over.

    Raises:
        ValueError: there is one that no row names.
    """
    if next(frames, None) is not None:
        raise ValueError("there are more payload frames than announced")


def payload_bytes(buffers: Sequence[Buffer | Transfer]) -> int:
    """Bytes of a payload, whichever way its buffers travel."""
    return sum(b.total if isinstance(b, Transfer) else len(b) for b in buffers)


def check_size(body: bytes, frames: Sequence[Frame]) -> None:
    """A message of these parts must be one that the other side reads.

    Raises:
        ValueError: it is too large, or has too many frames.
    """
    if len(body) > MAX_BODY_BYTES - HEADER_BYTES:
        raise ValueError(
            f"its first frame has {len(body)} bytes, over the limit of {MAX_BODY_BYTES}"
        )
    if len(frames) >= MAX_FRAMES:
        raise ValueError(f"it has {len(frames)} payload frames, over the limit of {MAX_FRAMES - 1}")
