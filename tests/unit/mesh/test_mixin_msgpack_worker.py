"""HTTP bodies in msgpack."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import DecodingError, EncodingError
from mesh.mixin import MsgpackMixin
from mesh.worker import Worker


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


@pytest.mark.parametrize("value", [{1, 2}, 2**70, "\ud800"])
def test_what_msgpack_can_not_express_is_an_encoding_error(value: object) -> None:
    with pytest.raises(EncodingError, match="written as msgpack"):
        Echo().serialize(value)
