"""What a worker learns of its requests, and what a Reply may say."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import numpy as np
import pytest

from mesh.errors import EncodingError
from mesh.protocol.messages import Meta, Task
from mesh.protocol.request_names import namer
from mesh.worker.request_info import Reply, RequestFacts, Requests, check_header, requests_text

META = Meta("PUT", "/infer", "a=1", (("Accept", "text/plain"), ("X-A", "b")))


def named(number: int) -> str:
    return namer(0xAB)(number).decode()


def task(number: int, trace: str | None = None, meta: Meta | None = None) -> Task:
    return Task(0xAB, number, (("s", ""),), 0, 1, 9.0, [b""], 0, trace=trace, meta=meta)


def test_requests_are_told_until_there_is_no_room() -> None:
    names = [f"{number:03}" for number in range(100)]
    assert requests_text([]) == ""
    assert requests_text(["a"]) == "request a"
    assert requests_text(names) == f"requests {', '.join(names)}"
    assert requests_text(names, longest=12) == "requests 000, 001, 002 and 97 more"


def test_facts_are_made_of_the_task_when_they_are_read() -> None:
    now = [8.0]
    requests = Requests([task(1), task(2, "00-aa-bb-01", META), task(3)], lambda: now[0])
    assert len(requests) == 3
    assert requests[0] == RequestFacts(named(1), "", 1.0)
    now[0] = 8.75
    assert requests[1] == RequestFacts(
        named(2), "00-aa-bb-01", 0.25, "PUT", "/infer", "a=1", META.headers
    )
    assert [facts.id for facts in requests[1:]] == [named(2), named(3)]
    now[0] = 20.0
    assert requests[-1].budget == 0.0
    with pytest.raises(IndexError):
        requests[3]


@pytest.mark.parametrize("status", [199, 600, "201", True])
def test_a_status_that_cannot_be_is_refused(status: Any) -> None:
    with pytest.raises(EncodingError, match="from 200 to 599"):
        Reply(1, status=status)


@pytest.mark.parametrize(
    "wrong",
    [
        {"headers": {"A": True}},
        {"headers": {"A": b"x"}},
        {"headers": {1: "a"}},
        {"headers": [("A", "b")]},
        {"content_type": 5},
    ],
)
def test_headers_and_content_type_are_texts(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncodingError, match="texts, not"):
        Reply(1, **wrong)


@pytest.mark.parametrize("status", [HTTPStatus.CREATED, np.int64(201), np.uint8(201)])
def test_any_whole_number_is_a_status(status: Any) -> None:
    reply = Reply(1, status=status)
    assert (type(reply.status), reply.status) == (int, 201)


def test_numbers_in_headers_become_text() -> None:
    reply = Reply(1, headers={"X-Count": 3, "X-Rows": np.int32(4), "X-Name": np.str_("a")})  # type: ignore[dict-item]
    assert reply.headers == {"X-Count": "3", "X-Rows": "4", "X-Name": "a"}
    assert {type(value) for value in reply.headers.values()} == {str}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("X Y", "a", "malformed name"),
        ("X", "a\r\nB: c", "forbidden characters"),
        ("X", "\u20ac", "forbidden characters"),
        ("Content-Length", "5", "belongs to the gateway"),
    ],
)
def test_a_header_that_would_break_the_answer_is_refused(name: str, value: str, said: str) -> None:
    check_header("X-Fine", "a")
    with pytest.raises(EncodingError, match=said):
        check_header(name, value)


def test_a_reply_keeps_what_it_was_given() -> None:
    reply = Reply(1, 404, {"A": "b", "C": "d"}, "text/plain")
    assert (reply.value, reply.status, reply.content_type) == (1, 404, "text/plain")
    assert reply.headers == {"A": "b", "C": "d"}
    assert (Reply(2).status, Reply(2).headers, Reply(2).content_type) == (200, {}, None)
