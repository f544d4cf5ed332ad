"""What travels between stages: kept, changed, refused, and never trusted."""

from __future__ import annotations

import collections
import contextlib
import enum
import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import DecodingError, EncodingError
from mesh.protocol.messages import Buffer
from mesh.worker import codec
from mesh.worker.codec import OWN_BUFFER_BYTES, decode, encode

DTYPES = "bool i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split()


def travel(value: object) -> object:
    """Send a value as the wire does: the buffers arrive as other memory."""
    return decode([bytes(buffer) for buffer in encode(value)])


def same(one: object, other: object) -> bool:
    """Equality that tells types, dtypes and shapes apart, and nan from nothing."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())  # type: ignore[attr-defined]
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)  # type: ignore[attr-defined]
        return all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))  # type: ignore[arg-type]
    return one == other


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    size = int(np.prod(shape))
    content = draw(st.binary(min_size=8, max_size=64)) * (size * dtype.itemsize // 8 + 1)
    if dtype.kind == "b":
        content = bytes(byte & 1 for byte in content)
    return np.frombuffer(content, dtype, size).reshape(shape)


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.binary(min_size=OWN_BUFFER_BYTES, max_size=OWN_BUFFER_BYTES + 9)
)
keys = st.text(max_size=5) | st.integers(0, 99) | st.tuples(st.integers(0, 9), st.text(max_size=2))
values = st.recursive(
    plain | arrays(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_what_is_kept_comes_back_the_same(value: object) -> None:
    assert same(travel(value), value)


@given(st.lists(st.binary(max_size=80) | values.map(lambda value: encode(value)[0]), max_size=4))
def test_arbitrary_buffers_are_a_value_or_a_decoding_error(buffers: list[Buffer]) -> None:
    with contextlib.suppress(DecodingError):
        decode(buffers)


@given(values, st.data())
def test_spoilt_buffers_are_a_value_or_a_decoding_error(value: object, data: st.DataObject) -> None:
    buffers = [bytearray(buffer) for buffer in encode(value)]
    spoilt = buffers[data.draw(st.integers(0, len(buffers) - 1))]
    place = data.draw(st.integers(0, max(0, len(spoilt) - 1)))
    spoilt[place : place + 1] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(DecodingError):
        decode(buffers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_kept_in_arrays_and_scalars(dtype: str) -> None:
    array = np.arange(600).astype(dtype).reshape(20, 30)
    assert same(travel(array), array)
    assert same(travel(array[:1, :2]), np.ascontiguousarray(array[:1, :2]))
    assert same(travel(array[1, 2]), array[1, 2])


def test_scalars_and_tuples_serve_as_keys() -> None:
    value = {np.int64(3): 1, (1, (2,)): 2, b"raw": 3, None: 4, 2.5: 5}
    assert same(travel(value), value)


def test_zero_dimensions_and_empty_arrays_are_kept() -> None:
    for array in (np.array(2.5), np.zeros((0, 5), np.float32), np.zeros((3, 0), bool)):
        assert same(travel(array), array)


def test_a_large_array_is_not_copied_on_either_side() -> None:
    array = np.arange(1000.0)
    skeleton, buffer = encode({"scores": array})
    assert np.shares_memory(np.frombuffer(buffer), array)
    received = bytes(buffer)
    scores = decode([skeleton, received])["scores"]  # type: ignore[index]
    assert np.shares_memory(scores, np.frombuffer(received))


def test_a_small_array_travels_inside_the_skeleton() -> None:
    limit = OWN_BUFFER_BYTES // 8
    assert len(encode(np.zeros(limit - 1))) == 1
    assert len(encode(np.zeros(limit))) == 2


@pytest.mark.parametrize("size", [3, 3000])
def test_a_received_array_can_not_be_written_to(size: int) -> None:
    skeleton, *rest = encode(np.ones(size))
    array = decode([skeleton, *map(bytearray, rest)])
    assert isinstance(array, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2.0
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_an_array_received_at_an_odd_address_is_aligned() -> None:
    skeleton, content = encode(np.arange(1000.0))
    received = memoryview(b"x" + bytes(content))[1:]
    array = decode([skeleton, received])
    assert isinstance(array, np.ndarray)
    assert array.flags.aligned
    assert not array.flags.writeable
    assert same(array, np.arange(1000.0))


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(600.0).reshape(20, 30)),
        np.arange(600.0)[::-1],
        np.arange(600.0).astype(">f8"),
        np.arange(6).astype(">i4"),
    ],
    ids=["fortran", "reversed", "swapped", "swapped small"],
)
def test_other_memory_orders_are_changed_but_not_their_values(array: np.ndarray) -> None:
    arrived = travel(array)
    assert isinstance(arrived, np.ndarray)
    assert arrived.flags.c_contiguous
    assert arrived.dtype.isnative
    assert np.array_equal(arrived, array)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: (1, x), lambda x: {"a": x}])
def test_large_bytes_near_the_surface_are_not_copied(wrap: object) -> None:
    large = b"x" * OWN_BUFFER_BYTES
    value = wrap(large)  # type: ignore[operator]
    buffers = encode(value)
    assert buffers[1] is large
    assert same(decode(buffers), value)


def test_other_bytes_travel_inside_the_skeleton() -> None:
    large = b"x" * OWN_BUFFER_BYTES
    for value in ([[large]], [large] + [1] * 64, dict.fromkeys(range(65), large), [b"small"]):
        assert len(encode(value)) == 1
        assert same(travel(value), value)


class Colour(enum.IntEnum):
    RED = 7


class Word(str):
    __slots__ = ()


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Colour.RED, 7),
        (Word("a"), "a"),
        (np.str_("b"), "b"),
        (np.bytes_(b"c"), b"c"),
        (type("Ratio", (float,), {})(0.5), 0.5),
        (Point(1, [Point(2, 3)]), (1, [(2, 3)])),
        (collections.OrderedDict(a=1), {"a": 1}),
        (type("Row", (list,), {})([1]), [1]),
        (bytearray(b"d"), b"d"),
        (memoryview(b"e"), b"e"),
    ],
)
def test_subclasses_are_changed_to_the_plain_type(value: object, arrives: object) -> None:
    assert same(travel(value), arrives)


class Face:
    pass


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (2**64, "value is an int of more than 64 bits; send it as a str"),
        ({"boxes": [1, {2}]}, 'value["boxes"][1] is a set, which has no order; send a list'),
        ((1, frozenset()), "value[1] is a frozenset, which has no order; send a list"),
        ({(1, 2): object()}, "value[(1, 2)] is an object, which does not travel"),
        ({frozenset(): 1}, "value key frozenset() is a frozenset"),
        ({"k" * 99: {1}}, f'value["{"k" * 35}...] is a set'),
        ("\ud800", "value is a str that is not valid Unicode"),
        (1j, "value is a complex, which does not travel"),
        ([Face()], "value[0] is a test_worker_codec.Face, which does not travel"),
        (np.array(["a"]), "value is a ndarray of dtype <U1, which does not travel"),
        (np.array([None]), "value is a ndarray of dtype object, which does not travel"),
        (np.datetime64("2020"), "value is a datetime64 of dtype datetime64[Y]"),
        (np.zeros(2, "i4,f4"), "value is a ndarray of dtype [('f0'"),
        (np.ma.zeros(2), "value is a MaskedArray, a kind of array that does not travel"),
        (np.zeros((1,) * 33), "value is an ndarray of 33 dimensions; at most 32 travel"),
    ],
)
def test_what_is_refused_is_named_with_its_place(value: object, complaint: str) -> None:
    with pytest.raises(EncodingError) as caught:
        encode(value)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"a": x}])
def test_500_levels_of_nesting_are_kept_and_too_many_refused(wrap: object) -> None:
    value: object = 1
    for _ in range(codec._MAX_DEPTH):
        value = wrap(value)  # type: ignore[operator]
    assert encode(travel(value)) == encode(value)
    for _ in range(600):
        value = wrap(value)  # type: ignore[operator]
    with pytest.raises(EncodingError, match="deeper than 500 levels"):
        encode(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(EncodingError, match="contains itself"):
        encode(value)


def test_a_failure_that_can_not_be_found_again_is_still_an_encoding_error() -> None:
    class Shy(dict):  # type: ignore[type-arg]
        def items(self) -> object:  # type: ignore[override]
            return {"a": 1}.items()

    # The dict is copied without asking for its items, so that only the search is deceived.
    with pytest.raises(EncodingError, match="cannot be encoded"):
        encode([Shy(a={1})])


def test_a_failure_leaves_nothing_behind_for_the_next_value() -> None:
    with pytest.raises(EncodingError):
        encode([np.zeros(1000), {1}])
    assert len(encode([1])) == 1


def test_an_encoder_that_grew_large_is_not_kept() -> None:
    codec._idle.clear()
    encode("x" * codec._KEPT_BUFFER_BYTES)
    assert not codec._idle
    encode("x")
    assert len(codec._idle) == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_one_buffer_may_be_given_without_a_list(kind: type) -> None:
    (skeleton,) = encode({"a": (1, 2)})
    assert decode(kind(skeleton)) == {"a": (1, 2)}
    assert decode([kind(skeleton)]) == {"a": (1, 2)}


def extension(code: int, content: bytes) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, content))  # type: ignore[no-any-return]


def head(code: int, *shape: int) -> bytes:
    return struct.pack(f"<BB{len(shape)}Q", code, len(shape), *shape)


BOOL, FLOAT64 = 0, 11


@pytest.mark.parametrize(
    "buffers",
    [
        [],
        [b""],
        [b"\xc1"],
        [b"\xa1\xff"],
        [b"\x01\x01"],
        [b"\x91" * 2000],
        [b"\x01", b"unused"],
        [extension(99, b"")],
        [extension(codec._MARK, b"")],
        [extension(codec._MARK, b"x")],
        [b"\x92\x01" + codec._TUPLE_BYTES],
        [b"\x91\xc8\x00\x00\x01"],
        [b"\x81\x90\x01"],
        [extension(codec._BYTES, b"")],
        [extension(codec._BYTES, b"x"), b"y"],
        [extension(codec._SCALAR, b"")],
        [extension(codec._SCALAR, b"\x63")],
        [extension(codec._SCALAR, b"\x0b1234")],
        [extension(codec._INLINE, b"")],
        [extension(codec._INLINE, b"\x00")],
        [extension(codec._INLINE, head(FLOAT64, 2) + bytes(8))],
        [extension(codec._INLINE, head(99, 1) + bytes(8))],
        [extension(codec._INLINE, head(BOOL, *[1] * 33) + bytes(1))],
        [extension(codec._INLINE, head(BOOL, 0, 2**63))],
        [extension(codec._INLINE, head(BOOL, 2**32, 2**32))],
        [extension(codec._ARRAY, head(FLOAT64, 1))],
        [extension(codec._ARRAY, head(FLOAT64, 1) + b"x"), bytes(8)],
        [extension(codec._ARRAY, head(FLOAT64, 2)[:-1]), bytes(16)],
        [extension(codec._ARRAY, head(FLOAT64, 1)), memoryview(bytes(32))[::4]],
    ],
    ids=lambda buffers: "-".join(bytes(buffer).hex()[:24] for buffer in buffers),
)
def test_nonsense_is_a_decoding_error(buffers: list[Buffer]) -> None:
    with pytest.raises(DecodingError):
        decode(buffers)


def test_the_mark_of_tuples_inside_a_text_changes_nothing() -> None:
    value = {"a": codec._TUPLE_BYTES, "b": [1, [], (2,)]}
    assert same(travel(value), value)
