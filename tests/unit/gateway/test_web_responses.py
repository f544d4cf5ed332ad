import json
from email.parser import BytesParser
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.web import responses
from mesh import errors
from mesh.errors import EncodingError


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of a whole answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, _, lines = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(lines + b"\r\n\r\n")
    return int(status.split()[1]), {name.lower(): v for name, v in headers.items()}, body


def test_the_table_gives_the_statuses_of_the_design() -> None:
    promised = {
        400: {"bad_request", "decoding_error"},
        422: {"validation_error"},
        404: {"not_found"},
        405: {"method_not_allowed"},
        413: {"body_too_large"},
        415: {"unsupported_encoding"},
        431: {"headers_too_large"},
        429: {"overloaded", "cannot_meet_deadline"},
        500: {"server_error", "encoding_error", "poison_request"},
        502: {"lost"},
        503: {"no_replica", "draining"},
        504: {"deadline_exceeded", "forward_timeout"},
        499: {"client_gone"},
    }
    for status, codes in promised.items():
        assert {responses.row(code).status for code in codes} == {status}


def test_the_table_has_every_code_that_a_user_can_raise() -> None:
    raised = [errors.ClientError, errors.DecodingError, errors.ValidationError]
    raised += [errors.ServerError, errors.EncodingError]
    assert all(error.code in responses.TABLE for error in raised)


def test_only_what_may_succeed_later_says_when() -> None:
    waits = {code for code, row in responses.TABLE.items() if row.wait}
    assert all(responses.TABLE[code].retryable for code in waits)
    assert {responses.TABLE[code].status for code in waits} == {429, 503}


def test_the_words_of_the_table_are_known_to_everybody() -> None:
    assert set(responses.TABLE) == errors.CODES


@pytest.mark.parametrize(
    ("code", "status", "means"),
    [
        ("quota", 429, ("quota", responses.Row(429, True, True))),
        ("quota", 402, ("quota", responses.Row(402))),
        ("down", 503, ("down", responses.Row(503, True, True))),
        ("gone", 504, ("gone", responses.Row(504, True))),
        ("overloaded", 0, ("overloaded", responses.TABLE["overloaded"])),
        ("bad_request", 400, ("bad_request", responses.TABLE["bad_request"])),
        ("bad_request", 404, ("bad_request", responses.Row(404))),
        ("quota", 200, ("server_error", responses.TABLE["server_error"])),
    ],
)
def test_a_worker_may_choose_code_and_status(code: str, status: int, means: Any) -> None:
    assert responses.meaning(code, status) == means


def test_an_answer_that_waits_says_when_once() -> None:
    own = responses.failure("quota", "no", None, b"1", None, [("Retry-After", "60")], 429)
    status, headers, body = parsed(own)
    assert (status, headers["retry-after"]) == (429, "60")
    assert own.lower().count(b"retry-after") == 1
    assert json.loads(body)["error"] | {"message": ""} == {
        **{"code": "quota", "message": "", "stage": None, "request_id": "1", "retryable": True}
    }
    assert parsed(responses.failure("quota", "no", None, b"1", status=429))[1]["retry-after"] == "1"


def test_an_unknown_code_is_an_error_of_the_server() -> None:
    status, _, body = parsed(responses.failure("made_up", "what?", None, b"1"))
    assert status == 500
    assert json.loads(body)["error"]["code"] == "server_error"


@pytest.mark.parametrize("status", [404, 405, 413, 415, 422, 429, 431, 503])
def test_a_status_alone_leads_to_a_code_of_the_same_status(status: int) -> None:
    assert responses.row(responses.code_for(status)).status == status


def test_other_statuses_lead_to_the_general_codes() -> None:
    assert responses.code_for(418) == "bad_request"
    assert responses.code_for(507) == "server_error"


def test_a_result_is_one_answer() -> None:
    answer = responses.result(b"id-1", b"text/plain", b"a;dur=1", memoryview(b"hello"))
    status, headers, body = parsed(answer)
    assert (status, body) == (200, b"hello")
    assert headers == {
        "content-type": "text/plain",
        "content-length": "5",
        "x-request-id": "id-1",
        "server-timing": "a;dur=1",
        "server": responses.SERVER,
    }


def test_head_and_body_apart_are_the_same_answer() -> None:
    parts = (b"id-1", b"text/plain", b"a;dur=1")
    assert responses.result_head(*parts, 5) + b"hello" == responses.result(*parts, b"hello")


def test_a_failure_tells_whose_fault_and_when_to_come_back() -> None:
    answer = responses.failure("overloaded", "full", None, b"id-1", 7, [("Server-Timing", "a")])
    status, headers, body = parsed(answer)
    assert status == 429
    assert headers["retry-after"] == "7"
    assert headers["server-timing"] == "a"
    assert headers["content-length"] == str(len(body))
    assert json.loads(body) == {
        "error": {
            "code": "overloaded",
            "message": "full",
            "stage": None,
            "request_id": "id-1",
            "retryable": True,
        }
    }


def test_where_the_table_demands_a_wait_there_is_one() -> None:
    assert parsed(responses.failure("no_replica", "", "detect", b"1"))[1]["retry-after"] == "1"
    assert "retry-after" not in parsed(responses.failure("lost", "", "detect", b"1", 5))[1]


@given(st.text(), st.sampled_from(sorted(responses.TABLE)))
def test_any_message_makes_an_answer_that_can_be_read(message: str, code: str) -> None:
    status, headers, body = parsed(responses.failure(code, message, "stage", b"1"))
    assert status == responses.TABLE[code].status
    assert int(headers["content-length"]) == len(body)
    shown = json.loads(body)["error"]["message"]
    assert shown == message.encode("utf-8", "replace").decode()


def test_a_worker_may_choose_status_type_and_headers() -> None:
    head = responses.special_head(
        201,
        b"id",
        b"application/json",
        [("Content-Type", "image/png"), ("X-Colour", "gr\xfcn")],
        b"a;dur=1",
        3,
    )
    status, headers, _ = parsed(head)
    assert status == 201
    assert headers["content-type"] == "image/png"
    assert headers["content-length"] == "3"
    assert b"X-Colour: gr\xfcn\r\n" in head
    assert headers["x-request-id"] == "id"
    assert headers["server-timing"] == "a;dur=1"


def test_the_usual_status_is_200() -> None:
    assert parsed(responses.special_head(0, b"", b"text/plain", [], b"", 0))[0] == 200


def test_an_answer_without_a_body_has_no_length() -> None:
    head = responses.special_head(204, b"", b"text/plain", [], b"", 0)
    assert b"Content-Length" not in head
    assert b"Content-Type" not in head
    assert not responses.has_body(304)
    assert not responses.has_body(101)


@pytest.mark.parametrize("status", [100, 199, 600, -1])
def test_a_status_that_cannot_end_a_request_is_refused(status: int) -> None:
    with pytest.raises(EncodingError, match="status"):
        responses.special_head(status, b"", b"text/plain", [], b"", 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "1\r\nX-B: 2"),
        ("X-A", "1\n"),
        ("X-A", "\0"),
        ("X-A", "\u20ac"),
        ("X A", "1"),
        ("X-A:", "1"),
        ("", "1"),
        ("Content-Length", "5"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
    ],
)
def test_a_header_that_would_change_the_framing_is_refused(name: str, value: str) -> None:
    with pytest.raises(EncodingError, match="header"):
        responses.special_head(200, b"", b"text/plain", [(name, value)], b"", 0)


def test_a_content_type_that_would_change_the_framing_is_refused() -> None:
    with pytest.raises(EncodingError, match="Content-Type"):
        responses.special_head(200, b"", b"a\r\nb", [], b"", 0)


def test_a_status_line_has_its_phrase() -> None:
    assert responses.head(404, []).startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert responses.head(599, []).startswith(b"HTTP/1.1 599 Unknown\r\n")
    assert {row.status for row in responses.TABLE.values()} <= {s.value for s in HTTPStatus} | {499}


def test_timings_are_shown_in_milliseconds_per_stage() -> None:
    shown = responses.server_timing(("decode", "detect"), (100, 12_300, 20_000, 5))
    assert shown == b"decode-queue;dur=0.10, decode;dur=12.30, detect-queue;dur=20.00, " + (
        b"detect;dur=0.01"
    )
    assert responses.server_timing(("decode",), (9_990, 10_010)) == (
        b"decode-queue;dur=9.99, decode;dur=10.01"
    )
    assert responses.server_timing(("decode",), (10_000, 9_999)) == (
        b"decode-queue;dur=10.00, decode;dur=9.99"
    )


def test_timings_may_end_early() -> None:
    assert responses.server_timing(("a", "b"), (1000, 2000)) == b"a-queue;dur=1.00, a;dur=2.00"
    assert responses.server_timing(("a", "b"), ()) == b""
    assert responses.server_timing(("a",), (1000, 2000, 3000)) == b"a-queue;dur=1.00, a;dur=2.00"


def test_a_stage_name_becomes_a_token() -> None:
    assert responses.server_timing(("a b%",), (0, 0)) == b"a-b--queue;dur=0.00, a-b-;dur=0.00"


def test_templates_of_timings_are_bounded() -> None:
    for number in range(1000):
        name = f"stage{number}"
        expected = f"{name}-queue;dur=0.00, {name};dur=0.00".encode()
        assert responses.server_timing((name,), (0, 0)) == expected
    assert len(responses._TIMINGS) <= responses._MAX_TIMINGS


def test_a_head_is_taken_apart_for_http_2() -> None:
    head = responses.head(201, [("X-A", "1"), ("Connection", "close"), ("Transfer-Encoding", "x")])
    assert responses.parted(head.removesuffix(b"\r\n\r\n")) == [
        (b":status", b"201"),
        (b"x-a", b"1"),
    ]
    made = responses.special_head(200, b"7", b"a/b", [("X-B", " b: c ")], b"", 3)
    assert dict(responses.parted(made.removesuffix(b"\r\n\r\n"))) == {
        b":status": b"200",
        b"content-type": b"a/b",
        b"content-length": b"3",
        b"x-b": b"b: c",
        b"x-request-id": b"7",
        b"server-timing": b"",
        b"server": responses.SERVER.encode(),
    }


def test_every_answer_says_which_server_made_it() -> None:
    assert f"meshline/{version('meshline')}" == responses.SERVER
    for answer in (
        responses.result(b"1", b"a/b", b"", b""),
        responses.special_head(204, b"1", b"", (), b"", 0),
        responses.failure("not_found", "", None, b"1"),
    ):
        assert parsed(answer)[1]["server"] == responses.SERVER


def test_a_worker_may_name_another() -> None:
    head = responses.special_head(200, b"1", b"a/b", [("SERVER", "mine/2")], b"", 0)
    assert head.lower().count(b"\r\nserver: ") == 1
    assert parsed(head)[1]["server"] == "mine/2"


def test_a_traceback_is_there_only_where_there_is_one() -> None:
    plain = json.loads(responses.failure_body("server_error", "boom", "a", b"7"))["error"]
    assert "traceback" not in plain
    shown = json.loads(
        responses.failure_body("server_error", "boom", "a", b"7", traceback="Traceback ...")
    )["error"]
    assert shown == plain | {"traceback": "Traceback ..."}
    whole = responses.failure("server_error", "boom", "a", b"7", traceback="Traceback ...")
    assert json.loads(whole.partition(b"\r\n\r\n")[2])["error"] == shown


@pytest.mark.parametrize("line", [b"A: b\rc", b"A: b\nc", b"A: b\0", b"A\n: b"])
def test_a_head_that_breaks_out_of_its_lines_is_not_parted(line: bytes) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        responses.parted(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nX: y")


def test_an_error_moves_no_terminal() -> None:
    said = "\x1b[2J\x9b\u202e\u2028\x7f end"
    body = responses.failure_body("bad_request", said, None, b"7", traceback="a\n\x9b")
    assert body.decode().isprintable()
    error = json.loads(body)["error"]
    assert (error["message"], error["traceback"]) == (said, "a\n\x9b")
