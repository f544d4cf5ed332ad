"""What everyday values become in JSON, and where one that cannot be written is said to be."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import doctest
import enum
import json
import pathlib
import re
import types
import uuid
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from mesh.errors import EncodingError
from mesh.worker import json_values
from mesh.worker.json_body import write_json
from mesh.worker.json_values import MAX_DEPTH, MAX_VALUES


class Word(str):
    __slots__ = ()


class Count(int):
    pass


class Share(float):
    pass


class Raw(bytes):
    pass


class Colour(enum.StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Box:
    left: Any
    score: Any


class Row(msgspec.Struct):
    a: int
    b: Any


class Model:
    """As pydantic's, which is not installed."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def model_dump(self, mode: str) -> Any:
        return {mode: self.content}


class Stamp(datetime.datetime):
    """As a Timestamp of pandas."""


class NoStamp(datetime.datetime):
    """As its NaT: not equal to itself."""

    __hash__ = datetime.datetime.__hash__

    def __eq__(self, other: object) -> bool:
        return False


ARRAY_ROWS = np.array([(1, 2.5)], dtype=[("a", int), ("b", float)])

WRITTEN: list[tuple[Any, Any]] = [
    *((kind(3), 3) for kind in (np.int8, np.int16, np.int32, np.int64, np.longlong)),
    *((kind(3), 3) for kind in (np.uint8, np.uint16, np.uint32, np.uint64, np.ulonglong)),
    *((kind(0.5), 0.5) for kind in (np.float16, np.float32, np.float64, np.longdouble)),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (np.bytes_(b"ab"), "YWI="),
    (np.datetime64("2024-01-02T03:04:05.123456789"), "2024-01-02T03:04:05.123456789"),
    (np.datetime64("NaT"), None),
    (np.timedelta64(90_061, "s"), "P1DT3661S"),
    (np.timedelta64(-1500, "ms"), "-PT1.5S"),
    (np.timedelta64(2, "Y"), "P2Y"),
    (np.timedelta64(0, "ns"), "PT0S"),
    (np.timedelta64(2, "D"), "P2D"),
    (np.timedelta64(5), "5"),
    (np.timedelta64("NaT", "s"), None),
    (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (np.array(5), 5),
    (np.zeros((0, 3)), []),
    (np.ones(2, np.longdouble), [1.0, 1.0]),
    (np.array(["a", "b"]), ["a", "b"]),
    (np.array([1, None, np.float32(0.5)], object), [1, None, 0.5]),
    (np.array(["2024-01-02", "NaT"], "M8[D]"), ["2024-01-02", None]),
    (np.array([[1, 2], [3, "NaT"]], "m8[ms]"), [["PT0.001S", "PT0.002S"], ["PT0.003S", None]]),
    (np.ma.array([1, 2], mask=[0, 1]), [1, None]),  # type: ignore[no-untyped-call]
    (ARRAY_ROWS, [[1, 2.5]]),
    (ARRAY_ROWS[0], [1, 2.5]),
    (Word("a"), "a"),
    (Count(3), 3),
    (Share(0.5), 0.5),
    (Raw(b"ab"), "YWI="),
    (Colour.RED, "red"),
    (Point(1, (2,)), [1, [2]]),
    (Row(1, Box(2, None)), {"a": 1, "b": {"left": 2, "score": None}}),
    (Model(np.int8(1)), {"json": 1}),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (uuid.UUID(int=1), str(uuid.UUID(int=1))),
    (datetime.timedelta(days=1, seconds=5), "P1DT5S"),
    (Stamp(2024, 1, 2), "2024-01-02T00:00:00"),
    (NoStamp(2024, 1, 2), None),
    (frozenset({3}), [3]),
    (collections.deque([1]), [1]),
    (range(3), [0, 1, 2]),
    ({"a": 1}.values(), [1]),
    ({"a": 1}.keys(), ["a"]),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.UserDict(a=np.int8(1)), {"a": 1}),
]


def _named(value: Any) -> str:
    """A value in a test's name, without its address, which differs between two processes."""
    return re.sub(r" at 0x[0-9a-f]*", "", repr(value))[:40]


@pytest.mark.parametrize(("value", "read"), WRITTEN, ids=_named)
def test_an_everyday_value_is_written(value: Any, read: Any) -> None:
    assert json.loads(write_json(value)) == read
    assert json.loads(write_json({"in": [value]})) == {"in": [read]}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (1, "1"),
        (np.int64(1), "1"),
        (1.5, "1.5"),
        (np.float32(0.5), "0.5"),
        (True, "true"),
        (np.bool_(False), "false"),
        (None, "null"),
        (Colour.RED, "red"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (pathlib.PurePosixPath("/a"), "/a"),
        (np.str_("a"), "a"),
    ],
    ids=repr,
)
def test_a_key_is_written_as_text(key: Any, text: str) -> None:
    assert json.loads(write_json({key: 0})) == {text: 0}


class Odd:
    """Of no kind that is known, but with a way out."""

    def tolist(self) -> list[int]:
        return [1]


class Broken:
    def model_dump(self, mode: str) -> Any:
        raise ValueError("no such field")


class Unread(collections.UserDict[str, int]):
    def __iter__(self) -> Any:
        raise ValueError("gone")

    def __len__(self) -> int:
        return 1


def circle() -> Any:
    value: dict[str, Any] = {}
    value["a"] = [value]
    return value


def nested(levels: int) -> Any:
    value: Any = 1j
    for _ in range(levels):
        value = [value]
    return value


async def coroutine() -> None:
    return None


def unfinished() -> Any:
    made = coroutine()
    made.close()
    return made


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: {"boxes": [1, 2, 3, Box(1, 1j)]}, 'value["boxes"][3].score is a complex; send'),
        (lambda: [np.complex64(1)], "value[0] is a numpy.complex64; send [z.real, z.imag]"),
        (
            lambda: {"a": np.ones(2, complex)},
            'value["a"] is an array of complex128; send its',
        ),
        (lambda: [Row(1, object())], "value[0].b is an object; send its parts"),
        (
            lambda: Point(1, Odd()),
            "value.y is a test_worker_json_values.Odd; convert it with .tolist()",
        ),
        (
            lambda: {"a": {"b": 1, (1, 2): 3}},
            'value["a"] key (1, 2) is a tuple that is a key of a dict',
        ),
        (lambda: {1j}, "value{...} is a complex"),
        (lambda: np.array([[1, object()]], object), "value[0, 1] is an object"),
        (lambda: {"k" * 99: 1j}, f'value["{"k" * 35}...] is a complex'),
        (lambda: [Broken()], "value[0] is a Broken that cannot be written: ValueError: no such"),
        (circle, 'value["a"][0] is value again: it contains itself'),
        (lambda: nested(100_000), f"nested too deeply, more than {MAX_DEPTH} levels"),
        (lambda: nested(150), "[0][0] is a complex"),
        (lambda: {"a": [Box]}, 'as JSON: value["a"][0] is a type; '),
        (lambda: [0] * MAX_VALUES + [1j], "something in value is a complex"),
        (lambda: dict.fromkeys(range(MAX_VALUES)) | {"x": 1j}, "something in value is a complex"),
        (lambda: [Unread()], "value[0] is an Unread that cannot be written: ValueError: gone"),
        (lambda: (i for i in range(3)), "value is a generator; make it a list"),
        (lambda: [unfinished()], "value[0] is a coroutine; `forward` must await it"),
    ],
    ids=_named,
)
def test_what_cannot_be_written_is_named_with_its_place(make: Any, said: str) -> None:
    with pytest.raises(EncodingError) as caught:
        write_json(make())
    text = str(caught.value)
    assert said in text
    assert len(text) < 600


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(json_values) == (0, 3)
