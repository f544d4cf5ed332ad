"""Numbers, texts and payload buffers: what fits, what does not, and how it is called then."""

from __future__ import annotations

import doctest
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from wire_strategies import buffers, comparable, length, relaxed

from mesh.errors import ProtocolError
from mesh.protocol import fields
from mesh.protocol.fields import (
    HEADER_BYTES,
    INLINE_BYTES,
    MAX_BODY_BYTES,
    MAX_BUFFERS,
    MAX_FRAMES,
    MAX_LIST_BYTES,
    MAX_TEXT_BYTES,
    MISFITS,
    Transfer,
    pack,
    unpack_list,
)


@pytest.mark.parametrize("number", [0, 1, 2**64 - 1])
def test_a_number_of_64_bits_passes(number: int) -> None:
    assert fields.u64(number) == number


@pytest.mark.parametrize("wrong", [-1, 2**64, True, 1.0, "1", None, (1,), math.nan, 10**999])
def test_anything_else_is_no_number(wrong: Any) -> None:
    with pytest.raises(TypeError, match="is no unsigned 64-bit number") as caught:
        fields.u64(wrong)
    assert len(str(caught.value)) < 80


def test_a_hostile_value_is_named_without_being_printed() -> None:
    deep: Any = ()
    for _ in range(5000):
        deep = (deep,)
    with pytest.raises(TypeError, match="^tuple is no"):
        fields.u64(deep)
    with pytest.raises(TypeError, match="^bytes is no"):
        fields.u64(bytes(MAX_BODY_BYTES))


def test_lists_of_numbers() -> None:
    assert fields.u64s(()) == ()
    assert fields.u64s((1, 2)) == (1, 2)


@pytest.mark.parametrize("wrong", [[1], b"\x01", "1", 1, None, (1, -1), ((1,),)])
def test_anything_else_is_no_list_of_numbers(wrong: Any) -> None:
    with pytest.raises(TypeError, match="numbers belongs|is no unsigned"):
        fields.u64s(wrong)


@pytest.mark.parametrize("span", [0, 0.0, 1, 2.5, 1e9])
def test_spans_of_time(span: float) -> None:
    assert fields.seconds(span) == span
    assert type(fields.seconds(span)) is float


@pytest.mark.parametrize("wrong", [-1, -0.1, math.nan, math.inf, True, "1", None])
def test_anything_else_is_no_span_of_time(wrong: Any) -> None:
    with pytest.raises(TypeError, match="finite and not negative"):
        fields.seconds(wrong)


def test_texts_up_to_their_limit() -> None:
    assert fields.text("") == ""
    assert fields.text("ü" * MAX_TEXT_BYTES) == "ü" * MAX_TEXT_BYTES
    assert fields.text("abc", 3) == "abc"
    with pytest.raises(ValueError, match="a trace has 4097 characters, over the limit of 4096"):
        fields.text("x" * (MAX_TEXT_BYTES + 1), name="a trace")
    with pytest.raises(TypeError, match="a text is needed where bytes is given"):
        fields.text(b"abc")


def test_words_are_cut_and_mended() -> None:
    assert fields.words("as it is") == "as it is"
    assert fields.words("grün") == "grün"
    assert fields.words("x" * 9000) == "x" * MAX_TEXT_BYTES
    assert fields.words("\udcff lone") == "? lone"
    with pytest.raises(TypeError):
        fields.words(b"abc")  # type: ignore[arg-type]


def test_lists_up_to_their_limit() -> None:
    assert fields.listed([0] * MAX_LIST_BYTES) == [0] * MAX_LIST_BYTES
    with pytest.raises(ValueError, match="65537 entries, over the limit of 65536"):
        fields.listed([0] * (MAX_LIST_BYTES + 1))


def test_pairs() -> None:
    assert fields.pairs((("a", "1"), ("b", "x" * 9000))) == (("a", "1"), ("b", "x" * 9000))
    assert fields.pairs([]) == ()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (7, "has no len"),
        (((1, "x"),), "a header's name is needed where int"),
        ((("x" * 5000, ""),), "a header's name has 5000"),
        ((("x", None),), "a header's value is needed where NoneType"),
        ((("a", "b", "c"),), "too many values"),
        ((("a", "b"),) * (MAX_LIST_BYTES + 1), "entries"),
    ],
)
def test_anything_else_is_no_pairs(wrong: Any, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        fields.pairs(wrong)


def travelled(described: Any) -> Any:
    """The description as the receiver sees it."""
    return msgpack.unpackb(fields.pack(described), use_list=False)


@relaxed
@given(buffers)
def test_every_payload_arrives_as_it_left(payload: list[Any]) -> None:
    described, frames = fields.pack_buffers(payload)
    rest = iter(frames)
    arrived = fields.unpack_buffers(travelled(described), rest)
    fields.check_all_used(rest)
    assert comparable(arrived) == comparable(payload)
    assert fields.payload_bytes(arrived) == fields.payload_bytes(payload) == length(payload)


def test_a_large_buffer_is_never_copied() -> None:
    large = bytearray(INLINE_BYTES + 1)
    described, frames = fields.pack_buffers([b"small", large])
    assert described == [b"small", INLINE_BYTES + 1]
    assert frames[0] is large
    assert fields.unpack_buffers((INLINE_BYTES + 1,), iter(frames))[0] is large


def test_an_inlined_buffer_no_longer_belongs_to_the_sender() -> None:
    mine = bytearray(b"before")
    described, _ = fields.pack_buffers([mine, memoryview(b"view")])
    mine[:] = b"after!"
    assert described == [b"before", b"view"]


def test_a_payload_has_a_limited_number_of_buffers() -> None:
    assert fields.pack_buffers([b""] * MAX_BUFFERS) == ([b""] * MAX_BUFFERS, [])
    assert fields.unpack_buffers((b"",) * MAX_BUFFERS, iter([])) == [b""] * MAX_BUFFERS
    with pytest.raises(ValueError, match="257 buffers, over the limit of 256"):
        fields.pack_buffers([b""] * (MAX_BUFFERS + 1))
    with pytest.raises(TypeError, match="up to 256 buffers"):
        fields.unpack_buffers((b"",) * (MAX_BUFFERS + 1), iter([]))


@pytest.mark.parametrize("wrong", [Transfer(-1, 1), Transfer(1, 2**64)])
def test_a_transfer_is_two_numbers(wrong: Transfer) -> None:
    with pytest.raises(TypeError, match="is no unsigned"):
        fields.pack_buffers([wrong])


@pytest.mark.parametrize(
    "wrong",
    [None, b"", [b""], ("text",), (None,), (5,), (7, 7), ((1,),), ((1, 2, 3),), ((1, -2),), (-1,)],
)
def test_any_other_description_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        fields.unpack_buffers(wrong, iter([b"7 bytes"]))


def test_a_frame_that_nothing_names_is_refused() -> None:
    fields.check_all_used(iter([]))
    with pytest.raises(ValueError, match="more payload frames"):
        fields.check_all_used(iter([b"x"]))


def test_the_size_of_a_message_is_limited() -> None:
    fields.check_size(bytes(MAX_BODY_BYTES - HEADER_BYTES), [b""] * (MAX_FRAMES - 1))
    with pytest.raises(ValueError, match="first frame has 41942"):
        fields.check_size(bytes(MAX_BODY_BYTES - HEADER_BYTES + 1), [])
    with pytest.raises(ValueError, match="1024 payload frames, over the limit of 1023"):
        fields.check_size(b"", [b""] * MAX_FRAMES)


@pytest.mark.parametrize("wrong", [-1, 2**64, "\ud800", object()])
def test_what_can_not_be_packed_is_a_misfit_and_leaves_nothing_behind(wrong: Any) -> None:
    with pytest.raises(MISFITS):
        fields.pack([b"left over", fields.u64(wrong) if wrong == -1 else wrong])
    assert fields.pack([1]) == b"\x91\x01"


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(fields) == (0, 3)


def test_a_list_is_read_as_tuples() -> None:
    assert unpack_list(pack([1, [b"x", None]])) == (1, (b"x", None))
    assert unpack_list(memoryview(pack([]))) == ()


@pytest.mark.parametrize("raw", [b"", b"\xc1", pack(7), pack({}), pack({"a": 1}), b"\xc7\x01\x02x"])
def test_what_is_no_list_of_plain_values_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_list(raw)
