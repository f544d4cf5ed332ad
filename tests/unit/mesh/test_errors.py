"""The tree of errors: who is below whom, which words go out, and what user code may not swallow."""

from __future__ import annotations

import doctest
import inspect

import pytest

from mesh import errors
from mesh.errors import (
    ClientError,
    DecodingError,
    EncodingError,
    ForwardTimeout,
    MeshError,
    ProtocolError,
    ServerError,
    SettingsError,
    StartError,
    ValidationError,
)

TREE = {
    ClientError: (MeshError, "bad_request"),
    DecodingError: (ClientError, "decoding_error"),
    ValidationError: (ClientError, "validation_error"),
    ServerError: (MeshError, "server_error"),
    EncodingError: (ServerError, "encoding_error"),
    ProtocolError: (MeshError, "protocol_error"),
    SettingsError: (MeshError, "settings_error"),
    StartError: (MeshError, "start_error"),
}


@pytest.mark.parametrize(("error", "base", "code"), [(e, *rest) for e, rest in TREE.items()])
def test_each_error_has_its_place_and_its_word(
    error: type[MeshError], base: type[MeshError], code: str
) -> None:
    assert error.__bases__ == (base,)
    assert error.code == code
    assert not error.retryable
    assert str(error("what was wrong")) == "what was wrong"


def test_no_error_is_missing_from_this_list() -> None:
    defined = {one for _, one in inspect.getmembers(errors, inspect.isclass)}
    assert defined == {MeshError, ForwardTimeout, *TREE}


def test_an_unspecific_error_is_the_services_fault() -> None:
    assert MeshError.code == ServerError.code == "server_error"


def test_a_worker_that_catches_every_exception_does_not_swallow_the_timeout() -> None:
    def forward() -> str:
        try:
            raise ForwardTimeout
        except Exception:  # noqa: BLE001 - this is what a user's worker does
            return "swallowed"

    with pytest.raises(ForwardTimeout):
        forward()


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(errors) == (0, 1)
