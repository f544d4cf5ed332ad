"""What a worker's own errors tell the client."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from mesh.errors import ClientError, DecodingError, EncodingError, ServerError, ValidationError
from stage import error_codes
from stage.error_codes import ErrorAnswer, answer_of


class Quota(ClientError):
    code = "quota_exceeded"


class Odd(ValidationError):
    code = "odd_picture"


class Down(ServerError):
    code = "model_is_down"


@pytest.mark.parametrize(
    "kind", [ClientError, DecodingError, ValidationError, ServerError, EncodingError]
)
def test_ours_are_what_the_gateways_table_says(kind: Any) -> None:
    assert answer_of(kind("no")) == ErrorAnswer(kind.code)


@pytest.mark.parametrize(("kind", "status"), [(Quota, 400), (Odd, 422), (Down, 500)])
def test_without_a_status_it_is_the_bases(kind: Any, status: int) -> None:
    assert answer_of(kind()) == ErrorAnswer(kind.code, status)


def test_status_and_delay_may_be_the_errors_own() -> None:
    error = Quota()
    error.status, error.retry_after = 429, 1.2
    assert answer_of(error) == ErrorAnswer("quota_exceeded", 429, (("Retry-After", "2"),))
    error.retry_after = float("nan")
    assert answer_of(error).headers == ()


def test_a_word_that_the_gateway_knows_keeps_its_status() -> None:
    error = ClientError()
    error.code = "overloaded"
    assert answer_of(error) == ErrorAnswer("overloaded")


@pytest.mark.parametrize("code", ["Quota Exceeded", "", 5, None, "x" * 65, "forward_timeout"])
def test_a_code_that_cannot_be_is_the_bases(code: Any) -> None:
    error = Quota()
    error.code = code
    answer = answer_of(error)
    assert (answer.code, answer.status) == ("bad_request", 0)
    assert answer.fault.startswith("Quota: its code must be a word such as 'bad_request'")


@pytest.mark.parametrize(
    ("kind", "status"), [(Quota, 500), (Quota, 399), (Down, 429), (Quota, "429"), (Down, 600)]
)
def test_a_status_of_another_kind_is_left_out(kind: Any, status: Any) -> None:
    error = kind()
    error.status = status
    answer = answer_of(error)
    assert (answer.code, answer.status) == (kind.code, 400 if kind is Quota else 500)
    assert f"not {status!r}" in answer.fault


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(error_codes)[0] == 0
