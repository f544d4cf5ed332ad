"""What the client says, and how it understands answers; no sockets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.client.core import (
    Response,
    ServiceOrigin,
    build,
    error_of,
    fold_headers,
    parse_timings,
    parse_url,
    unreachable,
)
from mesh.errors import (
    ClientError,
    DecodingError,
    EncodingError,
    MeshError,
    ServerError,
    SettingsError,
    ValidationError,
)

HERE = ServiceOrigin("127.0.0.1", 8000, "")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://127.0.0.1:8000", HERE),
        ("http://127.0.0.1:8000/", HERE),
        ("http://service", ServiceOrigin("service", 80, "")),
        ("unix:/run/admin.sock", ServiceOrigin("localhost", 0, "", "/run/admin.sock")),
        ("http://[::1]:8000/behind/proxy/", ServiceOrigin("::1", 8000, "/behind/proxy")),
    ],
)
def test_a_url_is_taken_apart(url, origin):
    assert parse_url(url) == origin


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("127.0.0.1:8000", "write http://HOST:PORT"),
        ("https://127.0.0.1", "write http://HOST:PORT"),
        ("http://", "write http://HOST:PORT"),
        ("http://host:eight", "port"),
        ("http://host:99999", "port"),
        ("http://host/?a=1", "leave out"),
        ("http://host/#top", "leave out"),
    ],
)
def test_a_wrong_url_is_refused_with_the_way_out(url, says):
    with pytest.raises(SettingsError, match=says):
        parse_url(url)


@pytest.mark.parametrize("body", [b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG")])
def test_bytes_go_as_they_are(body):
    request = build(HERE, "/inference", body)
    assert request.body == b"\x89PNG"
    assert request.headers == {"Content-Type": "application/octet-stream"}
    assert (request.method, request.path) == ("POST", "/inference")


def test_other_values_go_as_compact_json():
    request = build(HERE, "/x", {"text": "größer", "n": [1, 2]})
    assert request.body == '{"text":"größer","n":[1,2]}'.encode()
    assert request.headers == {"Content-Type": "application/json"}


def test_content_type_prefix_and_headers_are_the_callers_to_choose():
    origin = ServiceOrigin("host", 80, "/ocr")
    request = build(origin, "/inference", b"", "image/png", {"X-Request-ID": "one"})
    assert request.path == "/ocr/inference"
    assert request.headers == {"Content-Type": "image/png", "X-Request-ID": "one"}


def _endless():
    nest: list[object] = []
    nest.append(nest)
    return nest


@pytest.mark.parametrize("body", [{1, 2}, object(), _endless()])
def test_a_body_that_json_cannot_say_is_the_callers_fault(body):
    with pytest.raises(ClientError, match="send bytes instead"):
        build(HERE, "/inference", body)


def test_header_names_fold_and_repeated_values_join():
    pairs = [("Server-Timing", "a;dur=1"), ("X-A", "b"), ("server-timing", "c;dur=2")]
    assert fold_headers(pairs) == {"server-timing": "a;dur=1, c;dur=2", "x-a": "b"}


@pytest.mark.parametrize(
    ("header", "timings"),
    [
        ("", {}),
        (
            "decode-queue;dur=0.1, decode;dur=12.3,detect;dur=5",
            {"decode-queue": 0.1, "decode": 12.3, "detect": 5.0},
        ),
        ('cache;desc="hit, warm; dur=9";dur=2, miss', {"cache": 2.0}),
        ("a ; DUR=4.5", {"a": 4.5}),
        ("a;dur=x, b;dur=1.2.3, c;dur=., ;dur=2, d;dur=1", {"d": 1.0}),
    ],
)
def test_server_timing_is_read(header, timings):
    assert parse_timings(header) == timings


@given(st.text())
def test_any_server_timing_header_is_survived(header):
    assert all(isinstance(value, float) for value in parse_timings(header).values())


def test_a_response_shows_what_came():
    response = Response(
        200, {"x-request-id": "r-1", "server-timing": "embed;dur=3"}, b'{"lines": []}'
    )
    assert response.ok
    assert response.json() == {"lines": []}
    assert response.request_id == "r-1"
    assert response.timings == {"embed": 3.0}
    response.raise_for_status()


def test_a_response_may_bear_nothing():
    response = Response(204)
    assert (response.request_id, response.timings) == ("", {})


@pytest.mark.parametrize("body", [b"\x89PNG", b"", b"[" * 100_000])
def test_a_body_that_is_not_json_says_what_it_is(body):
    with pytest.raises(ServerError, match=r"status 200, image/png.*\.body"):
        Response(200, {"content-type": "image/png"}, body).json()


def refusal(status, code, **more):
    said = {"code": code, "message": "why", "stage": "detect", "request_id": "r-9", **more}
    return Response(status, {}, json.dumps({"error": said}).encode())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", ClientError),
        (400, "decoding_error", DecodingError),
        (422, "validation_error", ValidationError),
        (404, "not_found", ClientError),
        (429, "overloaded", ServerError),
        (429, "cannot_meet_deadline", ServerError),
        (500, "server_error", ServerError),
        (500, "encoding_error", EncodingError),
        (502, "lost", ServerError),
        (504, "deadline_exceeded", ServerError),
        (599, "of_next_year", ServerError),
    ],
)
def test_the_code_decides_the_error_and_else_the_status(status, code, kind):
    error = error_of(refusal(status, code))
    assert type(error) is kind
    assert (error.code, error.status, str(error)) == (code, status, "why")
    assert (error.stage, error.request_id, error.retryable) == ("detect", "r-9", False)


def test_an_error_shows_the_traceback_that_debug_sends():
    assert refusal(500, "server_error").body
    error = error_of(refusal(500, "server_error", traceback="Traceback ...\nValueError: boom"))
    assert error.traceback.endswith("ValueError: boom")
    assert "ValueError: boom" in error.__notes__[0]
    plain = error_of(refusal(500, "server_error"))
    assert (plain.traceback, hasattr(plain, "__notes__")) == ("", False)


def test_an_error_says_whether_and_when_to_try_again():
    response = refusal(429, "overloaded", retryable=True)
    again = Response(429, {"retry-after": "7"}, response.body)
    assert error_of(again).retryable is True
    assert error_of(again).retry_after == 7.0


@pytest.mark.parametrize("value", ["", "Fri, 01 Jan 2027 00:00:00 GMT", "-1", "²"])
def test_other_retry_after_values_are_left(value):
    assert error_of(Response(503, {"retry-after": value})).retry_after is None


def test_raise_for_status_raises_that_error():
    with pytest.raises(ValidationError, match="why"):
        refusal(422, "validation_error").raise_for_status()


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"error": "no"}', b'{"error": {"code": 5, "message": null}}'],
)
def test_an_answer_of_somebody_else_is_understood_by_its_status(body):
    error = error_of(Response(502, {"x-request-id": "r-2"}, body))
    assert type(error) is ServerError
    assert (error.code, error.request_id) == ("server_error", "r-2")
    assert "502" in str(error)


def test_errors_of_one_answer_leave_the_classes_alone():
    error_of(refusal(422, "validation_error"))
    assert (ValidationError.code, MeshError.status, MeshError.stage) == ("validation_error", 0, "")


def test_a_service_that_cannot_be_reached_is_worth_another_try():
    error = unreachable("http://127.0.0.1:1", "Connection refused")
    assert isinstance(error, ServerError)
    assert error.retryable
    assert error.code == "unreachable"
    assert str(error) == "no answer from http://127.0.0.1:1: Connection refused"
