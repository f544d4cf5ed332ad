"""JSON bodies: the fast reader and writer say what the standard library says."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import doctest
import enum
import json
import math
import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import relaxed

from mesh.errors import DecodingError, EncodingError
from mesh.worker import json_body as json_text
from mesh.worker.json_body import read_json, write_body, write_json

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@relaxed
@given(values.filter(lambda value: "inf" not in repr(value)))
def test_what_is_written_is_read_again_here_and_by_others(value: Any) -> None:
    text = write_json(value)
    assert read_json(text) == json.loads(text) == value


@relaxed
@given(values)
def test_what_others_write_is_read(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "body",
    [b"NaN", b"[Infinity, -Infinity]", b"1e400", b'"\\ud800"', '{"a": "\u00e4"}'.encode("utf-16")],
)
def test_what_only_the_standard_library_understands_is_read(body: bytes) -> None:
    assert repr(read_json(body)) == repr(json.loads(body))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"[1,]", "the body is not JSON: Expecting value at line 1, column 4"),
        (b"", "the body is not JSON: Expecting value at line 1, column 1"),
        (b'"\xff"', "the body is not JSON: it is not UTF-8 text"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b"9" * 5000, "the body contains a number that is too long"),
    ],
    ids=["syntax", "empty", "encoding", "depth", "digits"],
)
def test_what_is_no_json_is_a_decoding_error(body: bytes, complaint: str) -> None:
    with pytest.raises(DecodingError) as caught:
        read_json(body)
    assert str(caught.value) == complaint


@dataclasses.dataclass
class Box:
    left: int
    text: str | None


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Box(1, None), '{"left":1,"text":null}'),
        ([Colour.RED, {3}], '["red",[3]]'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (decimal.Decimal("1.50"), '"1.50"'),
        ([b"\x00\x01"], '["AAE="]'),
        ({1: 2, None: 3}, '{"1":2,"null":3}'),
        (np.float64(1.5), "1.5"),
        ("null", '"null"'),
        ([2**70, "\u00e4"], '[1180591620717411303424,"\u00e4"]'),
    ],
    ids=repr,
)
def test_more_than_json_itself_is_written(value: Any, text: str) -> None:
    assert write_json(value) == text.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "null"),
        ([1.0, math.inf, -math.inf], "[1.0,null,null]"),
        ({"x": np.float32("nan")}, '{"x":null}'),
        (np.array([np.nan, 0.5]), "[null,0.5]"),
        (decimal.Decimal("NaN"), "null"),
        ([decimal.Decimal("-Infinity"), "NaN", "Infinity"], '[null,"NaN","Infinity"]'),
        (
            {"a": ([decimal.Decimal("sNaN")], Box(decimal.Decimal("NaN"), None), np.float32(1.5))},
            '{"a":[[null],{"left":null,"text":null},1.5]}',
        ),
        ({"NaN": math.nan, 2: decimal.Decimal("1.50")}, '{"NaN":null,"2":"1.50"}'),
        (b"ab", '"YWI="'),
    ],
    ids=repr,
)
def test_what_has_no_word_in_json(value: Any, text: str) -> None:
    assert write_json(value) == text.encode()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (object, "value is an object; send its parts as numbers, texts, lists"),
        (lambda: {"a": [1, 1j]}, 'value["a"][1] is a complex; send [z.real, z.imag]'),
        (lambda: "\ud800", "value is text that is not valid Unicode"),
    ],
    ids=["object", "complex", "surrogate"],
)
def test_what_json_can_not_express_is_an_encoding_error(make: Any, complaint: str) -> None:
    with pytest.raises(EncodingError) as caught:
        write_json(make())
    assert f"the result cannot be written as JSON: {complaint}" in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_content_type_decides_what_a_body_is() -> None:
    assert write_body("gr\u00fcn", "image/svg+xml") == "gr\u00fcn".encode()
    assert write_body("a", "application/problem+json") == b'"a"'
    assert write_body(b"\x00", "image/png") == b"\x00"
    with pytest.raises(EncodingError, match="bytes, which are no JSON"):
        write_body(b"\x00", "Application/JSON; charset=utf-8")
    with pytest.raises(EncodingError, match="not valid Unicode"):
        write_body("\ud800", "text/plain")
    with pytest.raises(EncodingError, match="resp_mime_type is None; it must be a text"):
        write_body("a", None)  # type: ignore[arg-type]  # as a worker may have set it


class Greedy:
    def model_dump(self, mode: str) -> Any:
        raise MemoryError


def test_no_memory_is_no_fault_of_the_value() -> None:
    with pytest.raises(MemoryError):
        write_json([Greedy()])


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(json_text) == (0, 4)
