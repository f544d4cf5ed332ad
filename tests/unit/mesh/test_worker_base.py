"""A worker without a server, and the conversions around it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mesh.errors import DecodingError, EncodingError
from mesh.worker.base import Worker
from mesh.worker.codec import encode


class Echo(Worker):
    def forward(self, data: Any) -> Any:
        return data


def test_it_works_in_a_plain_script() -> None:
    class Embed(Worker):
        def __init__(self) -> None:
            self.dimensions = 2

        def forward(self, data: list[str]) -> list[list[float]]:
            return [[float(len(text))] * self.dimensions for text in data]

    assert Embed().forward(["a", "bcd"]) == [[1.0, 1.0], [3.0, 3.0]]


def test_a_worker_without_forward_can_not_be_made() -> None:
    with pytest.raises(TypeError, match="forward"):
        Worker()  # type: ignore[abstract]


def test_what_it_does_not_define_has_a_default() -> None:
    worker = Echo()
    assert worker.example is None
    assert worker.multi_examples is None
    assert worker.resp_mime_type == "application/json"
    assert (worker.worker_id, worker.stage, worker.max_batch_size) == (1, "", 1)
    assert Echo.get_forward_json_schema("INPUT", "#/{name}") == ({}, {})
    worker.unload()


@pytest.mark.parametrize(
    ("body", "value"),
    [(b"", {}), (b'{"a": [1, null]}', {"a": [1, None]}), ('"\u00e4"'.encode(), "\u00e4")],
)
def test_bodies_are_json(body: bytes, value: object) -> None:
    assert Echo().deserialize(body) == value


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'{"secret": x}', "the body is not JSON: Expecting value at line 1, column 12"),
        (b'"\xff"', "the body is not JSON: it is not UTF-8 text"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b"9" * 5000, "the body contains a number that is too long"),
    ],
    ids=["syntax", "encoding", "depth", "digits"],
)
def test_a_body_that_is_not_json_is_refused_without_repeating_it(
    body: bytes, complaint: str
) -> None:
    with pytest.raises(DecodingError) as caught:
        Echo().deserialize(body)
    assert str(caught.value) == complaint
    assert caught.value.__suppress_context__


def test_answers_are_compact_json() -> None:
    assert Echo().serialize({"a": [1, 2.5], "b": "\u00e4"}) == '{"a":[1,2.5],"b":"\u00e4"}'.encode()


def test_what_json_can_not_express_is_an_encoding_error() -> None:
    with pytest.raises(EncodingError, match=r"value\[1\] is a complex; send"):
        Echo().serialize([1, 1j])


class Page(Echo):
    resp_mime_type = "text/html; charset=utf-8"


class Picture(Echo):
    resp_mime_type = "image/png"


def test_the_content_type_says_what_texts_and_bytes_become() -> None:
    assert Page().serialize("gr\u00fcn") == "gr\u00fcn".encode()
    assert Page().serialize(np.str_("a")) == b"a"
    assert Picture().serialize(b"\x89PNG") == b"\x89PNG"
    assert Picture().serialize(bytearray(b"\x89")) == b"\x89"
    assert bytes(Picture().serialize(memoryview(b"\x89"))) == b"\x89"
    assert Page().serialize({"a": 1}) == b'{"a":1}'
    assert Echo().serialize("a") == b'"a"'
    with pytest.raises(EncodingError, match=r"bytes, which are no JSON; say what they are with"):
        Echo().serialize(b"a")
    with pytest.raises(EncodingError, match="not valid Unicode"):
        Page().serialize("\ud800")


def test_values_travel_between_stages() -> None:
    worker = Echo()
    value = {"shape": (2, 3), "text": "a"}
    payload = worker.serialize_ipc(value)
    assert payload == encode(value)
    assert worker.deserialize_ipc(payload) == value
    assert worker.deserialize_ipc(payload[0]) == value  # type: ignore[index]
