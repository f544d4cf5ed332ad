"""HTTP bodies in msgpack."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import DecodingError, EncodingError
from mesh.mixin import MsgpackMixin
from mesh.worker.base import Worker


class Echo(MsgpackMixin, Worker):
    def forward(self, data: Any) -> Any:
        return data


def test_it_comes_before_the_worker() -> None:
    worker = Echo()
    assert worker.resp_mime_type == "application/msgpack"
    assert worker.deserialize(worker.serialize({"image": b"\x00", "xs": [1]})) == {
        "image": b"\x00",
        "xs": (1,),
    }


def test_a_large_body_is_read_too() -> None:
    worker = Echo()
    assert worker.deserialize(worker.serialize({"image": b"x" * 100_000}))["image"][-1:] == b"x"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_value_or_a_decoding_error(body: bytes) -> None:
    with contextlib.suppress(DecodingError):
        Echo().deserialize(body)


def test_nested_claims_are_refused_before_they_take_memory() -> None:
    """900 arrays, one in the other, that claim a million elements each: 7 GB if believed."""
    body = b"\xdd\x00\x0f\x42\x40" * 900 + b"\xc0" * 1_000_000
    with pytest.raises(DecodingError):
        Echo().deserialize(body)


class Greedy:
    def model_dump(self, mode: str) -> Any:
        raise MemoryError


@pytest.mark.parametrize(
    ("value", "said"),
    [([2**70], r"value\[0\] is"), ({"a": "\ud800"}, r'value\["a"\] is text'), (1j, "a complex")],
)
def test_what_msgpack_can_not_express_is_an_encoding_error(value: object, said: str) -> None:
    with pytest.raises(EncodingError, match=f"written as msgpack: .*{said}"):
        Echo().serialize(value)


def test_everyday_values_are_written_as_with_json_but_nan_is_kept() -> None:
    worker = Echo()
    body = worker.serialize({"a": np.arange(2), "b": np.float32(0.5), "c": {3}, "d": Path("/x")})
    assert worker.deserialize(body) == {"a": (0, 1), "b": 0.5, "c": (3,), "d": "/x"}
    with pytest.raises(MemoryError):
        worker.serialize(Greedy())
    assert math.isnan(worker.deserialize(worker.serialize(math.nan)))
