"""What HTTP/1.1 demands of a server, point by point, on a raw socket.

Each case names the section that demands it: RFC 9110 is HTTP's meaning, RFC 9112 its form as
HTTP/1.1, RFC 6585 the status 431. Where the standard leaves a choice, the case holds us to ours.

A case says what is sent, which answers come, and whether the connection lives on. One that does is
asked once more, on the same connection; of the others the end is read.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pytest
from wire_server import MAX_BODY, Running, serving

HEALTH = b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /inference HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OPEN, CLOSED = True, False


@dataclass(frozen=True)
class Case:
    """One demand.

    Attributes:
        section: who demands it.
        demand: what, in a few words.
        sent: by the client, all at once.
        statuses: of the answers that come.
        lives: whether the connection can be used afterwards.
        bodies: of the answers, where they matter.
        lines: header lines (in lower case) that the last answer has.
        head: the request is a HEAD.
    """

    section: str
    demand: str
    sent: bytes
    statuses: tuple[int, ...]
    lives: bool = OPEN
    bodies: tuple[bytes, ...] = ()
    lines: tuple[str, ...] = ()
    head: bool = False

    def __str__(self) -> str:
        return f"{self.section} {self.demand}"


def post(body: bytes, *lines: bytes) -> bytes:
    return POST + b"".join([line + b"\r\n" for line in lines]) + b"\r\n" + body


def get(target: bytes = b"/health", *lines: bytes, version: bytes = b"1.1") -> bytes:
    head = b"GET %b HTTP/%b\r\n" % (target, version)
    return head + b"".join([line + b"\r\n" for line in (b"Host: h", *lines)]) + b"\r\n"


CASES = [
    # --- the start line
    Case("RFC 9112 2.2", "an empty line before a request is ignored", b"\r\n" + HEALTH, (200,)),
    Case(
        "RFC 9112 2.2",
        "a line ended by a bare LF is refused (a choice)",
        b"GET /health HTTP/1.1\nHost: h\n\n",
        (400,),
        CLOSED,
    ),
    Case(
        "RFC 9112 2.2",
        "space between start line and first header is refused",
        b"GET /health HTTP/1.1\r\n Host: h\r\n\r\n",
        (400,),
        CLOSED,
    ),
    Case(
        "RFC 9112 2.3", "the name of HTTP is in capitals", b"GET / http/1.1\r\n\r\n", (400,), CLOSED
    ),
    Case("RFC 9112 3", "a request line has three parts", b"GET /health\r\n\r\n", (505,), CLOSED),
    Case("RFC 9112 3", "two words are none", b"GET  HTTP/1.1\r\nHost: h\r\n\r\n", (400,), CLOSED),
    Case(
        "RFC 9112 3.1",
        "methods are in capitals",
        b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
        (400,),
        CLOSED,
    ),
    Case("RFC 9110 15.6.6", "another major version is 505", get(version=b"2.0"), (505,), CLOSED),
    Case(
        "RFC 9110 9.1",
        "an unknown method is refused",
        b"FROB / HTTP/1.1\r\nHost: h\r\n\r\n",
        (400,),
        CLOSED,
    ),
    Case("RFC 9112 3.2.2", "the absolute form is accepted", get(b"http://h/health"), (200,)),
    Case(
        "RFC 9112 3.2.2",
        "the absolute form is accepted for inference",
        b"POST http://h:1/inference?a HTTP/1.1\r\nHost: other\r\nContent-Length: 1\r\n\r\nx",
        (200,),
        bodies=(b"x",),
    ),
    Case(
        "RFC 9112 3.2.3",
        "a server that is no proxy refuses CONNECT",
        b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        (405,),
        CLOSED,
        lines=("allow: ",),
    ),
    Case(
        "RFC 9112 3.2.4",
        "the asterisk form is answered",
        b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        (204,),
        lines=("allow: GET, HEAD, POST, OPTIONS",),
    ),
    Case(
        "RFC 9110 4.2.3",
        "escapes of letters make no difference",
        b"POST /infer%65nce HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx",
        (200,),
        bodies=(b"x",),
    ),
    # --- Host
    Case("RFC 9112 3.2", "no Host is 400", b"GET / HTTP/1.1\r\n\r\n", (400,), CLOSED),
    Case("RFC 9112 3.2", "two Hosts are 400", get(b"/health", b"Host: h"), (400,), CLOSED),
    Case(
        "RFC 9112 3.2",
        "a Host that is none is 400",
        b"GET /health HTTP/1.1\r\nHost: a b/c\r\n\r\n",
        (400,),
        CLOSED,
    ),
    Case(
        "RFC 9112 3.2",
        "for inference as well",
        b"POST /inference HTTP/1.1\r\nHost: h,i\r\nContent-Length: 1\r\n\r\nx",
        (400,),
        CLOSED,
    ),
    Case("RFC 9112 3.2", "a Host may be empty", b"GET /health HTTP/1.1\r\nHost:\r\n\r\n", (200,)),
    Case(
        "RFC 9110 7.2",
        "a Host may be an IPv6 address with a port",
        b"GET /health HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        (200,),
    ),
    Case(
        "RFC 9112 3.2",
        "HTTP/1.0 needs no Host",
        b"GET /health HTTP/1.0\r\n\r\n",
        (200,),
        CLOSED,
        lines=("connection: close",),
    ),
    # --- header lines
    Case("RFC 9112 5.1", "no space before the colon", get(b"/health", b"X-A : 1"), (400,), CLOSED),
    Case("RFC 9110 5.1", "a name is a token", get(b"/health", b"X(A): 1"), (400,), CLOSED),
    Case("RFC 9110 5.1", "a name is not empty", get(b"/health", b": 1"), (400,), CLOSED),
    Case("RFC 9112 5", "a line has a colon", get(b"/health", b"X-A"), (400,), CLOSED),
    Case(
        "RFC 9112 5.2", "a folded line is refused", get(b"/health", b"X-A: 1\r\n 2"), (400,), CLOSED
    ),
    Case("RFC 9110 5.5", "no NUL in a value", get(b"/health", b"X-A: a\0b"), (400,), CLOSED),
    Case("RFC 9110 5.5", "no bare CR in a value", get(b"/health", b"X-A: a\rb"), (400,), CLOSED),
    Case(
        "RFC 9112 5.1",
        "space around a value is not part of it",
        get(b"/health", b"X-Request-ID: \t mine \t "),
        (200,),
        lines=("x-request-id: mine",),
    ),
    Case(
        "RFC 9110 5.1",
        "names have no case",
        b"POST /inference HTTP/1.1\r\nhOsT: h\r\ncONTENT-lENGTH: 1\r\n\r\nx",
        (200,),
        bodies=(b"x",),
    ),
    Case(
        "RFC 6585 5",
        "headers that are too large are 431",
        get(b"/health", b"X-A: " + b"x" * 70_000),
        (431,),
        CLOSED,
    ),
    Case("RFC 6585 5", "so is a request line", get(b"/" + b"x" * 70_000), (431,), CLOSED),
    Case(
        "RFC 9112 5.1",
        "space behind a length and an expectation is none of theirs",
        post(b"", b"Content-Length: 1 \t", b"Expect: 100-continue \t"),
        (100,),
    ),
    # --- where a body ends
    Case("RFC 9112 6.3", "neither length nor chunks: no body", POST + b"\r\n" + HEALTH, (200, 200)),
    Case("RFC 9112 6.3", "a length of 0 is no body", post(b"", b"Content-Length: 0"), (200,)),
    Case(
        "RFC 9112 6.1",
        "length and chunks together are refused",
        post(b"0\r\n\r\n", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (400,),
        CLOSED,
    ),
    Case(
        "RFC 9112 6.1",
        "in the other order as well",
        post(b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (400,),
        CLOSED,
    ),
    *[
        Case(
            "RFC 9112 6.3",
            f"lengths that differ or are no number are refused: {shown}",
            post(b"xxxxx", *lines),
            (400,),
            CLOSED,
        )
        for shown, lines in {
            "5 and 6": (b"Content-Length: 5", b"Content-Length: 6"),
            "5 and 5 (a choice)": (b"Content-Length: 5", b"Content-Length: 5"),
            "5, 5 (a choice)": (b"Content-Length: 5, 5",),
            "negative": (b"Content-Length: -5",),
            "signed": (b"Content-Length: +5",),
            "hexadecimal": (b"Content-Length: 0x5",),
            "broken": (b"Content-Length: 5 5",),
            "empty": (b"Content-Length:",),
            "beyond 64 bits": (b"Content-Length: 99999999999999999999999",),
        }.items()
    ],
    *[
        Case(
            "RFC 9112 6.1",
            f"a transfer coding that does not end in chunked, once, is refused: {shown}",
            post(b"1\r\nx\r\n0\r\n\r\n", *lines),
            (400,),
            CLOSED,
        )
        for shown, lines in {
            "gzip": (b"Transfer-Encoding: gzip",),
            "chunked, gzip": (b"Transfer-Encoding: chunked, gzip",),
            "chunked, identity": (b"Transfer-Encoding: chunked, identity",),
            "identity": (b"Transfer-Encoding: identity",),
            "xchunked": (b"Transfer-Encoding: xchunked",),
            "two lines": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"),
            "empty": (b"Transfer-Encoding:",),
        }.items()
    ],
    *[
        Case(
            "RFC 9112 6.1",
            f"a transfer coding that is not understood is 501: {shown}",
            post(b"1\r\nx\r\n0\r\n\r\n", *lines),
            (501,),
            CLOSED,
        )
        for shown, lines in {
            "gzip, chunked": (b"Transfer-Encoding: gzip, chunked",),
            "in two lines": (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
        }.items()
    ],
    Case(
        "RFC 9112 6.1",
        "chunks in HTTP/1.0 are the last of their connection",
        b"POST /inference HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + HEALTH,
        (200,),
        CLOSED,
        bodies=(b"x",),
        lines=("connection: close",),
    ),
    Case(
        "RFC 9112 7",
        "coding names have no case",
        post(b"1\r\nx\r\n0\r\n\r\n", b"Transfer-Encoding: Chunked"),
        (200,),
        bodies=(b"x",),
    ),
    # --- chunks
    Case(
        "RFC 9112 7.1",
        "chunks are joined",
        CHUNKED + b"2\r\nab\r\n01\r\nc\r\n0\r\n\r\n",
        (200,),
        bodies=(b"abc",),
    ),
    Case(
        "RFC 9112 7.1",
        "sizes are hexadecimal",
        CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n",
        (200,),
        bodies=(b"0123456789",),
    ),
    Case(
        "RFC 9112 7.1",
        "in any case",
        CHUNKED + b"00a\r\n0123456789\r\n0\r\n\r\n",
        (200,),
        bodies=(b"0123456789",),
    ),
    Case(
        "RFC 9112 7.1.1",
        "extensions are ignored",
        CHUNKED + b'1;a;b="c"\r\nx\r\n0;d\r\n\r\n',
        (200,),
        bodies=(b"x",),
    ),
    Case(
        "RFC 9112 7.1.2",
        "trailers change nothing",
        CHUNKED + b"1\r\nx\r\n0\r\nX-Request-ID: theirs\r\nHost: theirs\r\n\r\n",
        (200,),
        bodies=(b"x",),
        lines=("x-request-id: ours",),
    ),
    Case(
        "RFC 9110 6.5.1",
        "a length among the trailers is refused (a choice)",
        CHUNKED + b"1\r\nx\r\n0\r\nContent-Length: 9\r\n\r\n",
        (400,),
        CLOSED,
    ),
    *[
        Case("RFC 9112 7.1", f"broken chunks are refused: {shown}", CHUNKED + body, (400,), CLOSED)
        for shown, body in {
            "no size": b"\r\nx\r\n0\r\n\r\n",
            "0x": b"0x1\r\nx\r\n0\r\n\r\n",
            "negative": b"-1\r\nx\r\n0\r\n\r\n",
            "no number": b"g\r\nx\r\n0\r\n\r\n",
            "beyond 64 bits": b"1" * 17 + b"\r\nx\r\n0\r\n\r\n",
            "too long for its size": b"1\r\nxx\r\n0\r\n\r\n",
            "ended by a bare LF": b"1\nx\n0\n\n",
            "a bare CR in an extension": b"1;a\rb\r\nx\r\n0\r\n\r\n",
        }.items()
    ],
    # --- the life of a connection
    Case("RFC 9112 9.3", "HTTP/1.1 persists", HEALTH * 3, (200, 200, 200)),
    Case(
        "RFC 9112 9.6",
        "close is done, and said",
        get(b"/health", b"Connection: close"),
        (200,),
        CLOSED,
        lines=("connection: close",),
    ),
    Case(
        "RFC 9112 9.6",
        "what follows a close is not looked at",
        get(b"/health", b"Connection: Close") + HEALTH,
        (200,),
        CLOSED,
    ),
    Case(
        "RFC 9110 7.6.1",
        "close is found among others",
        get(b"/health", b"Connection: te, close"),
        (200,),
        CLOSED,
    ),
    Case(
        "RFC 9112 9.3",
        "HTTP/1.0 persists if it asks for it",
        get(b"/health", b"Connection: keep-alive", version=b"1.0"),
        (200,),
        lines=("connection: keep-alive",),
    ),
    Case(
        "RFC 9112 9.3.2",
        "answers come in the order of their requests",
        post(b"1", b"Content-Length: 1") + HEALTH + post(b"2", b"Content-Length: 1"),
        (200, 200, 200),
        bodies=(b"1", b'{"status":"ok"}', b"2"),
    ),
    Case(
        "RFC 9112 9.3.2",
        "a refusal comes in its turn, as the last",
        post(b"1", b"Content-Length: 1") + b"nonsense\r\n\r\n" + HEALTH,
        (200, 400),
        CLOSED,
    ),
    # --- methods, expectations, upgrades
    Case(
        "RFC 9110 9.3.2",
        "HEAD has GET's headers and no body",
        HEALTH.replace(b"GET", b"HEAD"),
        (200,),
        head=True,
        lines=("content-length: 15",),
    ),
    Case("RFC 9110 15.5.5", "nothing there is 404", get(b"/nowhere"), (404,)),
    Case(
        "RFC 9110 15.5.6",
        "405 says what is allowed",
        get(b"/inference"),
        (405,),
        lines=("allow: POST, OPTIONS",),
    ),
    Case(
        "RFC 9110 15.5.6",
        "pages as well",
        HEALTH.replace(b"GET", b"PUT"),
        (405,),
        lines=("allow: GET, HEAD, OPTIONS",),
    ),
    Case(
        "RFC 9110 10.1.1",
        "100-continue comes before the answer",
        post(b"", b"Content-Length: 1", b"Expect: 100-Continue"),
        (100,),
    ),
    Case(
        "RFC 9110 10.1.1",
        "no 100 for a body that is refused",
        post(b"", b"Content-Length: %d" % (MAX_BODY + 1), b"Expect: 100-continue"),
        (413,),
        CLOSED,
    ),
    Case(
        "RFC 9110 10.1.1",
        "no 100 where no body comes",
        get(b"/health", b"Expect: 100-continue"),
        (200,),
    ),
    Case(
        "RFC 9110 10.1.1",
        "HTTP/1.0 does not know 100",
        b"POST /inference HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
        (200,),
        CLOSED,
        bodies=(b"x",),
    ),
    Case(
        "RFC 9110 15.5.18",
        "another expectation is 417",
        post(b"x", b"Content-Length: 1", b"Expect: miracles"),
        (417,),
        CLOSED,
    ),
    Case(
        "RFC 9110 15.5.14",
        "a body that is too large is 413",
        post(b"x", b"Content-Length: %d" % (MAX_BODY + 1)),
        (413,),
        CLOSED,
    ),
    Case(
        "RFC 9110 15.5.16",
        "a coding that is not spoken is 415",
        post(b"x", b"Content-Length: 1", b"Content-Encoding: br"),
        (415,),
    ),
    Case(
        "RFC 9110 7.8",
        "an unknown upgrade is ignored",
        get(b"/health", b"Connection: upgrade", b"Upgrade: foo/2"),
        (200,),
        CLOSED,
    ),
    Case(
        "RFC 9110 7.8",
        "Upgrade without Connection means nothing",
        get(b"/health", b"Upgrade: websocket"),
        (200,),
    ),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("bodies")) as server:
        yield server


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    status: int
    lines: list[str]
    body: bytes


def read_answer(stream: BinaryIO, head: bool = False) -> Answer | None:
    """The next answer; None at the end of the connection."""
    first = stream.readline()
    if not first:
        return None
    assert first.startswith(b"HTTP/1.1 "), first
    status = int(first[9:12])
    lines = [line.decode() for line in iter(lambda: stream.readline().strip(), b"")]
    named = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
    assert len(named) == len(lines), f"a line comes twice: {lines}"
    assert "transfer-encoding" not in named
    if head or status < 200 or status == 204:
        return Answer(status, lines, b"")
    length = int(named["content-length"])  # which every answer of ours states
    body = stream.read(length)
    assert len(body) == length
    return Answer(status, lines, body)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_as_the_standard_demands(running: Running, case: Case) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(case.sent)
        with client.makefile("rb") as stream:
            found = [read_answer(stream, case.head) for _ in case.statuses]
            answers = [answer for answer in found if answer is not None]
            assert tuple(answer.status for answer in answers) == case.statuses
            if case.bodies:
                assert tuple(answer.body for answer in answers) == case.bodies
            lines = [
                line.split(":")[0].lower() + line[line.index(":") :] for line in answers[-1].lines
            ]
            assert set(case.lines) <= {f"{line}{'' if ': ' in line else ' '}" for line in lines}
            if case.statuses == (100,):
                client.sendall(b"x")
                last = read_answer(stream)
                assert last is not None
                assert (last.status, last.body) == (200, b"x")
            if not case.lives:
                assert ("connection: close" in lines) or case.statuses[-1] < 200
                assert read_answer(stream) is None
                return
            client.sendall(HEALTH)
            again = read_answer(stream)
            assert again is not None
            assert again.status == 200


@pytest.mark.parametrize("case", [case for case in CASES if case.statuses[-1] >= 400], ids=str)
def test_every_refusal_has_the_one_form(running: Running, case: Case) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(case.sent)
        with client.makefile("rb") as stream:
            for _ in case.statuses[:-1]:
                read_answer(stream)
            answer = read_answer(stream)
    assert answer is not None
    error = json.loads(answer.body)["error"]
    assert sorted(error) == ["code", "message", "request_id", "retryable", "stage"]
    named = {
        line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in answer.lines
    }
    assert named["x-request-id"] == error["request_id"]
    assert named["content-type"] == "application/json"


def test_a_message_that_stops_half_way_is_nobodys(running: Running) -> None:
    """RFC 9112 8: an incomplete request is not answered as if it were whole."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client:
        client.sendall(post(b"hal", b"Content-Length: 5"))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000) == b""


def test_cases_are_told_apart() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)
