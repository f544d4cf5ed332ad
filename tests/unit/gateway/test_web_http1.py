import asyncio
import json
from itertools import pairwise

import pytest
from http_fakes import (
    FakeTransport,
    Inference,
    Pages,
    Way,
    chunked,
    connect,
    echo,
    post,
    shared,
    statuses,
    turned,
)
from hypothesis import given
from hypothesis import strategies as st

from gateway.web import responses as answers
from gateway.web.exchange import Exchange, Limits
from gateway.web.http1 import Connection
from mesh.errors import ServerError

TRACE = "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01"


def serve(
    inference: Inference | None = None, limits: Limits | None = None
) -> tuple[Connection, FakeTransport, Inference]:
    inference = inference or Inference(at_once=True)
    connection, transport = connect(shared(inference, limits))
    return connection, transport, inference


def refused(transport: FakeTransport) -> tuple[int, str]:
    """Status and code of a refusal, which must be all that was written, and the end."""
    written = transport.take()
    assert len(statuses(written)) == 1
    assert b"\r\nConnection: close\r\n" in written
    assert b"\r\nX-Request-ID: " in written
    assert transport.ended, "the client must be told that nothing follows"
    assert not transport.closed, "closing at once would reset the answer away"
    error = json.loads(written.partition(b"\r\n\r\n")[2])["error"]
    return statuses(written)[0], error["code"]


# ---- inference


def test_a_request_becomes_an_exchange_and_its_answer_one_write() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"hello"))
    [exchange] = inference.taken
    assert exchange.body == b"hello"
    assert exchange.target == b"/inference"
    assert exchange.method == b"POST"
    assert exchange.keep_alive
    assert exchange.headers is None
    assert exchange.request_id is exchange.traceparent is exchange.timeout is None
    assert transport.writes == 1
    assert transport.take() == answers.result(b"id", b"text/plain", b"", b"hello")
    assert not transport.closed


def test_the_particulars_of_a_request_are_taken_in() -> None:
    lines = (
        f"X-Request-ID: mine\r\ntraceparent: {TRACE}\r\n"
        "X-Request-Timeout: 250ms\r\nX-Priority: high\r\n"
    )
    connection, _, inference = serve()
    connection.data_received(post(b"x", "/inference?a=b", lines))
    [exchange] = inference.taken
    assert exchange.target == b"/inference?a=b"
    assert exchange.request_id == b"mine"
    assert exchange.traceparent == TRACE
    assert (exchange.timeout, exchange.priority, exchange.fault) == (0.25, 1, None)


def test_header_lines_are_kept_only_for_a_route_that_wants_them() -> None:
    connection, _, inference = serve()
    connection.data_received(post(b"x", "/meta", "X-A: 1\r\nX-A: 2\r\n"))
    assert inference.taken[0].headers == [
        (b"Host", b"h"),
        (b"Content-Length", b"1"),
        (b"X-A", b"1"),
        (b"X-A", b"2"),
    ]


def test_an_empty_body_is_a_body() -> None:
    connection, _, inference = serve()
    connection.data_received(post(b""))
    connection.data_received(b"POST /inference HTTP/1.1\r\nHost: h\r\n\r\n")
    assert inference.bodies == [b"", b""]


def test_a_chunked_body_is_joined_and_its_trailers_are_dropped() -> None:
    connection, _, inference = serve()
    connection.data_received(chunked(b"ab", b"c", end=b"0\r\nX-Trailer: 1\r\n\r\n") + post(b"next"))
    assert inference.bodies == [b"abc", b"next"]


def test_a_body_in_a_great_many_chunks_is_not_kept_in_as_many_pieces() -> None:
    connection, _, inference = serve()
    body = b"%064d" * 2_000 % tuple(range(2_000))
    pieces = [body[at : at + 64] for at in range(0, len(body), 64)]
    whole = chunked(*pieces)
    connection.data_received(whole[:-5])
    assert len(connection._pieces or ()) <= 1024
    connection.data_received(whole[-5:])
    assert inference.bodies == [body]


REQUESTS = [
    post(b"one"),
    post(b"one"),
    post(b""),
    chunked(b"ab", b"cde"),
    post(b"three", lines="X-Request-ID: a\r\n"),
    b"POST /inference HTTP/1.1\r\nhost: h\r\n\r\n",
    post(b"x" * 3000, path="/meta"),
    b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n",
]


def told(inference: Inference) -> list[object]:
    return [(e.target, e.body, e.request_id, e.headers) for e in inference.taken]


@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=8),
    st.lists(st.integers(1, 400), max_size=30),
)
def test_however_the_bytes_are_split_the_requests_are_the_same(
    requests: list[bytes], sizes: list[int]
) -> None:
    asyncio.run(_split(requests, sizes))


async def _split(requests: list[bytes], sizes: list[int]) -> None:
    expected = Inference(at_once=True)
    for request in requests:
        connect(shared(expected))[0].data_received(request)
    got = Inference(at_once=True)
    connection, transport = connect(shared(got))
    stream = b"".join(requests)
    for size in [*sizes, len(stream)]:
        if stream:
            connection.data_received(stream[:size])
            stream = stream[size:]
        while not transport.reading or connection.pending:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    assert told(got) == told(expected)
    assert statuses(transport.take()) == [200] * len(requests)
    assert not transport.closed


# ---- heads that were seen before


def test_a_repeated_head_means_the_same_again() -> None:
    common = shared(inference := Inference(at_once=True))
    connection, transport = connect(common)
    for body in (b"abc", b"def", b"ghi"):
        connection.data_received(post(body))
    other, _ = connect(common)
    other.data_received(post(b"jkl"))
    assert inference.bodies == [b"abc", b"def", b"ghi", b"jkl"]
    assert statuses(transport.take()) == [200] * 3
    assert list(common.known.values()) == [(b"/inference", 3)]


def test_only_whole_plain_requests_are_learnt() -> None:
    common = shared(Inference(at_once=True))
    for segments in (
        [post(b"abc") + post(b"abc")],
        [post(b"abc")[:20], post(b"abc")[20:]],
        [post(b"abc", lines="X-Request-ID: a\r\n")],
        [post(b"abc", lines="Connection: close\r\n")],
        [post(b"abc", path="/meta")],
        [chunked(b"abc")],
        [post(b"x" * 64 * 1024)],
        [b"\r\n" + post(b"abc")[:-3], b"abc"],
        [post(b"abc", lines="X-Long: " + "x" * 3000 + "\r\n")],
    ):
        connection, _ = connect(common)
        for segment in segments:
            connection.data_received(segment)
    assert common.known == {}


def test_the_head_of_ten_kilobytes_is_learnt_unless_so_much_is_too_much() -> None:
    common = shared(Inference(at_once=True))
    connect(common)[0].data_received(post(b"x" * 10_000))
    assert list(common.known.values()) == [(b"/inference", 10_000)]
    narrow = shared(Inference(at_once=True), Limits(max_body=9_999))
    connection, transport = connect(narrow)
    connection.data_received(post(b"x" * 10_000))
    assert statuses(transport.take()) == [413]
    assert narrow.known == {}


@given(st.lists(st.sampled_from([post(b"abc"), post(b"ab"), post(b"")]), max_size=4), st.data())
def test_a_known_head_is_only_a_short_cut(requests: list[bytes], data: st.DataObject) -> None:
    common = shared(inference := Inference(at_once=True))
    for request in (post(b"abc"), post(b"ab"), post(b"")):
        connect(common)[0].data_received(request)
    assert len(common.known) == 3
    inference.taken.clear()
    stream = b"".join(requests)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=5).map(sorted))
    connection, _ = connect(common)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if start < end:
            connection.data_received(stream[start:end])
    assert inference.bodies == [request.partition(b"\r\n\r\n")[2] for request in requests]


def test_a_known_head_follows_its_route() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"abc"))
    inference.routes[b"/inference"] = Way(wants_meta=True)
    connection.data_received(post(b"abc"))
    assert inference.taken[1].headers is not None
    del inference.routes[b"/inference"]
    transport.take()

    async def ask() -> None:
        connection.data_received(post(b"abc"))

    asyncio.run(ask())
    assert len(inference.taken) == 2
    assert transport.take().endswith(b"/inference")


def test_what_is_known_is_bounded() -> None:
    common = shared(Inference(at_once=True))
    connection, _ = connect(common)
    for number in range(3000):
        connection.data_received(post(b"", lines=f"X-Number: {number}\r\n"))
    assert 0 < len(common.known) <= 1024


# ---- order


def test_answers_leave_in_the_order_of_the_requests() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1") + post(b"2") + post(b"3"))
    first, second, third = inference.taken
    echo(third)
    echo(second)
    assert transport.written == b""
    echo(first)
    assert transport.take() == b"".join(
        [answers.result(b"id", b"text/plain", b"", body) for body in (b"1", b"2", b"3")]
    )


def test_an_exchange_is_answered_once() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1"))
    echo(inference.taken[0])
    connection.data_received(post(b"2"))
    echo(inference.taken[0])
    assert statuses(transport.take()) == [200, 200]


def test_a_large_body_is_written_apart() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1"))
    body = memoryview(b"y" * 100_000)
    inference.taken[0].respond(answers.result_head(b"i", b"t/p", b"", len(body)), body)
    assert transport.writes == 2
    assert statuses(transport.take()) == [200]


def test_a_refusal_waits_for_its_turn() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1") + b"nonsense\r\n\r\n")
    assert transport.written == b""
    echo(inference.taken[0])
    assert statuses(transport.take()) == [200, 400]
    assert transport.ended


# ---- the connection goes on, or not


def test_a_client_that_closes_is_told_so() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1", lines="Connection: close\r\n"))
    assert not inference.taken[0].keep_alive
    assert b"\r\nConnection: close\r\n" in transport.take()
    assert transport.closed


def test_http_1_0_closes_unless_asked_to_stay() -> None:
    connection, transport, _ = serve()
    connection.data_received(post(b"1", version="1.0", lines="Connection: keep-alive\r\n"))
    assert b"\r\nConnection: keep-alive\r\n" in transport.take()
    assert not transport.closed
    connection.data_received(b"POST /inference HTTP/1.0\r\nContent-Length: 1\r\n\r\n2")
    assert b"\r\nConnection: close\r\n" in transport.take()
    assert transport.closed


def test_what_follows_the_last_request_is_not_read() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1", lines="Connection: close\r\n") + post(b"2"))
    connection.data_received(post(b"3"))
    echo(inference.taken[0])
    assert statuses(transport.take()) == [200]
    assert transport.ended, "there is unread input: close later"
    assert inference.bodies == [b"1"]


def test_more_input_after_the_last_request_delays_the_close() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1", lines="Connection: close\r\n"))
    connection.data_received(post(b"2"))
    echo(inference.taken[0])
    assert (transport.ended, transport.closed) == (True, False)


def test_an_upgrade_that_we_do_not_do_is_answered_as_if_not_asked() -> None:
    lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    for cut in (10, len(post(b"", lines=lines)), 10_000):
        connection, transport, inference = serve()
        request = post(b"hello", lines=lines)
        connection.data_received(request[:cut])
        if request[cut:]:
            connection.data_received(request[cut:])
        assert inference.bodies == [b"hello"]
        assert b"\r\nConnection: close\r\n" in transport.take()
        assert transport.closed


def test_a_client_that_leaves_takes_its_requests_along() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1") + post(b"2") + post(b"3"))
    first, second, third = inference.taken
    echo(second)
    connection.connection_lost(None)
    assert inference.left == [first, third]
    assert first.gone
    echo(first)
    echo(third)
    assert inference.left == [first, third]
    assert transport.written == b""


def test_a_lost_connection_is_forgotten() -> None:
    common = shared(Inference())
    left: list[int] = []
    common.parted = lambda: left.append(len(common.guests))
    one, other = connect(common)[0], connect(common)[0]
    one.connection_lost(None)
    assert left == [1]
    other.connection_lost(ConnectionResetError())
    assert left == [1, 0]
    assert common.guests == set()


# ---- limits


@pytest.mark.parametrize("cut", [10_000, 40])
def test_a_declared_body_that_is_too_large_is_refused_before_it_comes(cut: int) -> None:
    connection, transport, inference = serve(limits=Limits(max_body=1000))
    head = b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n"
    connection.data_received(head[:cut])
    if head[cut:]:
        connection.data_received(head[cut:])
    assert refused(transport) == (413, "body_too_large")
    connection.data_received(b"x" * 1001)
    assert transport.written == b""
    assert inference.taken == []


def test_the_largest_body_is_accepted() -> None:
    connection, transport, inference = serve(limits=Limits(max_body=1000))
    connection.data_received(post(b"x" * 1000))
    connection.data_received(chunked(b"x" * 999, b"y"))
    assert [len(body) for body in inference.bodies] == [1000, 1000]
    assert statuses(transport.take()) == [200, 200]


def test_a_chunked_body_that_grows_too_large_is_refused() -> None:
    connection, transport, inference = serve(limits=Limits(max_body=1000))
    connection.data_received(chunked(b"x" * 1000, b"y"))
    assert refused(transport) == (413, "body_too_large")
    assert inference.taken == []


def test_pages_have_the_same_limit() -> None:
    connection, transport, _ = serve(limits=Limits(max_body=1000))
    connection.data_received(post(b"x" * 1001, path="/page"))
    assert refused(transport) == (413, "body_too_large")


BIG_LINE = b"X-Big: " + b"x" * 70_000 + b"\r\n"
BIG_HEAD = b"POST /inference HTTP/1.1\r\nHost: h\r\n" + BIG_LINE + b"\r\n"


@pytest.mark.parametrize("step", [100_000, 1000, 69_000])
def test_a_head_that_is_too_long_is_refused(step: int) -> None:
    connection, transport, _ = serve()
    for start in range(0, len(BIG_HEAD), step):
        connection.data_received(BIG_HEAD[start : start + step])
    assert refused(transport) == (431, "headers_too_large")


def test_a_request_line_counts_as_well() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert refused(transport) == (431, "headers_too_large")


def test_a_long_segment_is_no_long_head() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"x" * 200_000))
    connection.data_received(post(b"x" * 200_000)[:30])
    connection.data_received(post(b"x" * 200_000)[30:] + post(b"y"))
    assert [len(body) for body in inference.bodies] == [200_000, 200_000, 1]
    assert statuses(transport.take()) == [200] * 3


def test_endless_trailers_are_refused() -> None:
    connection, transport, _ = serve()
    connection.data_received(chunked(b"a", end=b"0\r\n"))
    for _ in range(100):
        connection.data_received(b"X-Trailer: " + b"x" * 1000 + b"\r\n")
    assert refused(transport) == (431, "headers_too_large")


def test_one_connection_too_many_is_told_so() -> None:
    common = shared(Inference(), Limits(connections=1))
    connect(common)
    connection, transport = connect(common)
    assert refused(transport) == (503, "too_many_connections")
    connection.connection_lost(None)
    _, third = connect(common)
    assert third.written != b""


# ---- nonsense


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"POST /inference HTTP/1.1\nHost: h\n\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost : h\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"POST /inference HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
        chunked(end=b"zz\r\n\r\n"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_submitted(request_bytes: bytes) -> None:
    connection, transport, inference = serve()
    connection.data_received(request_bytes)
    assert refused(transport) == (400, "bad_request")
    assert inference.taken == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /inference HTTP/2.0\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"GET /inference\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_another_version_is_not_spoken(request_bytes: bytes) -> None:
    connection, transport, _ = serve()
    connection.data_received(request_bytes)
    assert refused(transport) == (505, "version_not_supported")


def test_this_is_no_proxy() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert refused(transport) == (405, "method_not_allowed")


@given(st.binary(max_size=300), st.booleans())
@turned
async def test_any_bytes_end_in_an_answer_or_in_waiting_for_more(
    garbage: bytes, after: bool
) -> None:
    connection, transport, _ = serve()
    connection.data_received((post(b"x") if after else b"") + garbage)
    assert set(statuses(transport.take())) <= {200, 400, 405, 431, 505}


# ---- early refusals, 100-continue


def test_a_large_body_can_be_refused_before_it_comes() -> None:
    connection, transport, inference = serve()
    inference.refusal = answers.failure("overloaded", "full", None, b"1", 3)
    connection.data_received(post(b"x" * 100_000)[:1000])
    assert inference.asked == [100_000]
    assert refused(transport) == (429, "overloaded")
    connection.data_received(post(b"x" * 100_000)[1000:])
    assert inference.taken == []


def test_small_bodies_are_not_asked_about_early() -> None:
    connection, _, inference = serve()
    connection.data_received(post(b"x" * 1000))
    connection.data_received(post(b"x" * 20_000))
    assert inference.asked == []
    connection.data_received(chunked(b"x"))
    assert inference.asked == [65_536]


EXPECT = "Expect: 100-Continue\r\n"


def test_a_client_that_waits_for_our_word_gets_it() -> None:
    connection, transport, inference = serve()
    request = post(b"hello", lines=EXPECT)
    connection.data_received(request[:-5])
    assert transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert inference.asked == [5]
    connection.data_received(request[-5:])
    assert statuses(transport.take()) == [200]


def test_our_word_comes_after_earlier_answers() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1") + post(b"hello", lines=EXPECT)[:-5])
    assert transport.written == b""
    echo(inference.taken[0])
    assert transport.take().endswith(b"\r\n\r\n1HTTP/1.1 100 Continue\r\n\r\n")


def test_a_refusal_takes_the_place_of_our_word() -> None:
    connection, transport, inference = serve()
    inference.refusal = answers.failure("draining", "stopping", None, b"1")
    connection.data_received(post(b"hello", lines=EXPECT)[:-5])
    assert refused(transport) == (503, "draining")


def test_other_expectations_fail() -> None:
    connection, transport, _ = serve()
    connection.data_received(post(b"hello", lines="Expect: cake\r\n"))
    assert refused(transport) == (417, "expectation_failed")


def test_nobody_waits_without_a_body_or_with_http_1_0() -> None:
    connection, transport, _ = serve()
    connection.data_received(post(b"", lines=EXPECT))
    assert statuses(transport.take()) == [200]
    connection.data_received(post(b"hello", lines=EXPECT, version="1.0"))
    assert statuses(transport.take()) == [200]


# ---- pages


def ask(request: bytes, limits: Limits | None = None) -> tuple[FakeTransport, Pages]:
    pages = Pages()

    async def run() -> FakeTransport:
        connection, transport = connect(shared(Inference(), limits, pages))
        connection.data_received(request)
        return transport

    return asyncio.run(run()), pages


def test_everything_else_is_a_page() -> None:
    transport, pages = ask(
        b"PUT /thing?x=1 HTTP/1.1\r\nHost: h\r\nCookie: a\r\nCookie: b\r\n"
        b"Content-Length: 2\r\n\r\nhi"
    )
    assert pages.lines == [("PUT", "/thing?x=1", "HTTP/1.1")]
    assert pages.headers[0].get_list("Cookie") == ["a", "b"]
    assert pages.bodies == [b"hi"]
    assert statuses(transport.take()) == [200]


def test_another_method_on_an_inference_route_is_a_page_that_knows() -> None:
    allowed: list[str | None] = []

    async def run() -> None:
        pages = Pages(lambda page, _headers: allowed.append(page.allow))
        for path in (b"/inference?x", b"/other"):
            connection, _ = connect(shared(Inference(), pages=pages))
            connection.data_received(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)

    asyncio.run(run())
    assert allowed == ["POST", None]


@turned
async def test_pages_and_inference_keep_their_order() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1") + b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n" + post(b"2"))
    echo(inference.taken[1])
    assert transport.written == b""
    echo(inference.taken[0])
    await asyncio.sleep(0)
    assert [part.rpartition(b"\r\n")[2] for part in transport.take().split(b"HTTP/1.1")] == [
        b"",
        b"1",
        b"/page",
        b"2",
    ]


# ---- our own mistakes


class Broken(Inference):
    """Fails where it is asked to."""

    def submit(self, exchange: Exchange) -> None:
        super().submit(exchange)
        if exchange.body == b"bad":
            raise ServerError("a mistake of ours")

    def admit(self, exchange: Exchange, nbytes: int) -> bytes | None:
        raise ServerError("another mistake")


@pytest.mark.parametrize("known", [True, False])
def test_a_bug_costs_one_request_an_honest_answer(known: bool) -> None:
    async def run() -> list[dict[str, object]]:
        seen: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: seen.append(what))
        common = shared(inference := Broken(at_once=True))
        if known:
            connect(common)[0].data_received(post(b"goo"))
        connection, transport = connect(common)
        inference.at_once = False
        connection.data_received(post(b"1") + post(b"2") if not known else post(b"1"))
        connection.data_received(post(b"bad"))
        for exchange in list(inference.taken):
            echo(exchange)
        expected = [200, 500] if known else [200, 200, 500]
        assert statuses(transport.take()) == expected
        assert transport.ended
        return seen

    [what] = asyncio.run(run())
    assert isinstance(what["exception"], ServerError)


@turned
async def test_a_bug_in_the_middle_of_a_head_is_answered_as_well() -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: seen.append(what))
    connection, transport, _ = serve(Broken())
    connection.data_received(chunked(b"a"))
    assert refused(transport) == (500, "server_error")
    assert len(seen) == 1


# ---- the end


def test_an_idle_connection_retires_at_once() -> None:
    connection, transport, _ = serve()
    connection.retire()
    assert transport.closed


def test_a_busy_connection_retires_after_its_last_answer() -> None:
    connection, transport, inference = serve(Inference())
    connection.data_received(post(b"1") + post(b"2"))
    connection.retire()
    connection.data_received(post(b"3"))
    echo(inference.taken[0])
    assert b"Connection" not in transport.take()
    echo(inference.taken[1])
    assert b"\r\nConnection: close\r\n" in transport.take()
    assert inference.bodies == [b"1", b"2"]


@pytest.mark.parametrize("cut", [10, -2])
def test_a_request_that_has_begun_is_still_answered(cut: int) -> None:
    connection, transport, inference = serve()
    request = post(b"last")
    connection.data_received(request[:cut])
    connection.retire()
    connection.data_received(request[cut:] + post(b"more"))
    assert b"\r\nConnection: close\r\n" in transport.take()
    assert inference.bodies == [b"last"]


def test_a_retiring_connection_takes_no_known_head() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"abc"))
    connection.data_received(post(b"abc")[:4])
    connection.retire()
    connection.data_received(post(b"abc")[4:] + post(b"abc"))
    assert statuses(transport.take()) == [200, 200]
    assert transport.closed
    assert len(inference.taken) == 2


def test_it_shows_its_state() -> None:
    connection, _, inference = serve(Inference())
    connection.data_received(post(b"1"))
    assert repr(connection) == "<Connection phase 0, 1 pending>"
    assert repr(inference.taken[0]) == "<Exchange b'/inference' 1 bytes, open>"


# ---- room for bodies that are still to come


def test_room_is_asked_for_before_a_body_comes_and_as_it_grows() -> None:
    connection, _, inference = serve()
    connection.data_received(post(b"x" * 100)[:-50])  # small, but not here yet
    connection.data_received(b"x" * 50)
    connection.data_received(post(b"x" * 80_000)[:-1])
    connection.data_received(b"x")
    assert inference.asked == [100, 80_000]
    inference.asked.clear()
    connection.data_received(chunked(b"x" * 60_000, b"x" * 60_000, b"x" * 60_000, b"x" * 60_000))
    assert inference.asked[0] == 65_536
    steps = [after - before for before, after in pairwise(inference.asked)]
    assert 2 <= len(steps) <= 3
    assert all(65_536 <= step <= 65_536 + 32_768 for step in steps)
    assert inference.asked[-1] >= 240_000
    assert [len(body) for body in inference.bodies] == [100, 80_000, 240_000]
    assert inference.left == []


TINY = b"1\r\nx\r\n"
CHUNKED = b"POST /inference HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@turned
async def test_a_segment_of_tiny_chunks_is_refused_after_a_few_thousand_of_them() -> None:
    connection, transport, inference = serve()
    dropped: list[str] = []
    connection._shared.dropped = dropped.append
    connection.data_received(CHUNKED)
    connection.data_received(TINY * 40_000)
    for _ in range(3):
        await asyncio.sleep(0)
    assert refused(transport) == (400, "bad_request")
    assert (dropped, inference.taken) == (["tiny_pieces"], [])


@turned
async def test_some_thousand_tiny_chunks_are_no_offence() -> None:
    connection, _, inference = serve()
    connection.data_received(CHUNKED + TINY * 3_900 + b"0\r\n\r\n")
    for _ in range(10):
        await asyncio.sleep(0)
    assert inference.bodies == [b"x" * 3_900]


@turned
async def test_others_have_their_turn_between_a_few_thousand_pieces() -> None:
    connection, transport, _ = serve()
    piece = b"40\r\n" + b"x" * 64 + b"\r\n"
    connection.data_received(CHUNKED)
    connection.data_received(piece * 4_000)
    assert (connection._calls < 2 * 2_048, transport.reading) == (True, False)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (connection._received, transport.reading) == (64 * 4_000, True)
    connection.data_received(piece * 48)
    assert connection._received == 64 * 4_048
    # All that is read in one turn counts together, although it comes in many segments.
    for _ in range(40):
        if transport.reading:
            connection.data_received(piece * 64)
    assert not transport.reading
    await asyncio.sleep(0)
    assert transport.reading


@pytest.mark.parametrize("split", [False, True])
def test_a_head_of_a_great_many_lines_is_refused(split: bool) -> None:
    connection, transport, _ = serve()
    head = b"POST /inference HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + b"a:\r\n" * 254
    if split:
        connection.data_received(head)
        connection.data_received(b"a:\r\n" * 2)
    else:
        connection.data_received(head + b"\r\n")
        assert statuses(transport.take()) == [200]
        connection.data_received(head + b"a:\r\n\r\n")
    assert refused(transport) == (431, "headers_too_large")


def test_a_long_head_in_one_segment_is_not_parsed_to_its_end() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 60_000)
    assert refused(transport) == (431, "headers_too_large")
    assert connection._names == []


@pytest.mark.parametrize("asked", [0, 1])
def test_without_room_a_body_is_refused_where_it_stands(asked: int) -> None:
    connection, transport, inference = serve()
    full = answers.failure("overloaded", "full", None, b"1", 3)
    inference.refusals = [None] * asked + [full]
    connection.data_received(chunked(b"x" * 60_000, b"x" * 60_000))
    assert refused(transport) == (429, "overloaded")
    assert inference.taken == []
    connection.data_received(post(b"y"))
    assert inference.taken == []


def test_an_address_has_so_many_slow_bodies_and_no_more() -> None:
    common = shared(inference := Inference(at_once=True), Limits(uploads_per_address=2))
    clients = [connect(common) for _ in range(3)]
    for client, _ in clients:
        client.data_received(post(b"12")[:-1])
        client.tick(0.5)
    assert clients[2][1].written == b""
    for client, _ in clients:
        client.tick(0.5)
    assert refused(clients[2][1]) == (429, "overloaded")
    clients[0][0].data_received(b"2")
    clients[1][0].connection_lost(None)
    for _ in range(2):
        client, transport = connect(common)
        client.data_received(post(b"34")[:-1])
        client.tick(1.0)
        assert transport.written == b""
    assert inference.bodies == [b"12"]
    client, transport = connect(common)
    client.data_received(post(b"whole"))
    assert statuses(transport.take()) == [200]


ENDS = {
    "the client leaves": lambda connection: connection.connection_lost(None),
    "the client says nothing more": lambda connection: connection.eof_received(),
    "nonsense": lambda connection: connection.data_received(b"zz\r\n"),
    "too much": lambda connection: connection.data_received(
        b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n"
    ),
    "too slowly": lambda connection: [connection.tick(10.0) for _ in range(5)],
}


@pytest.mark.parametrize("end", ENDS)
def test_room_is_given_back_once_when_a_body_does_not_become_whole(end: str) -> None:
    connection, _, inference = serve(limits=Limits(max_body=100_000))
    connection.data_received(chunked(b"x" * 10, end=b""))
    assert (len(inference.asked), inference.left) == (1, [])
    ENDS[end](connection)
    connection.connection_lost(None)
    assert len(inference.left) == 1
    assert inference.taken == []


@turned
async def test_room_for_pages_bodies_is_bounded_as_well() -> None:
    pages = Pages()
    common = shared(Inference(), Limits(max_body=100_000, page_bytes=150_000), pages)
    request = post(b"x" * 100_000, path="/page")
    first, _ = connect(common)
    first.data_received(request[:-1])
    second, transport = connect(common)
    second.data_received(request[:-1])
    assert refused(transport) == (429, "overloaded")
    first.data_received(request[-1:])
    for _ in range(3):  # given back by an answer, and by a client that leaves
        third, transport = connect(common)
        third.data_received(request)
        assert statuses(transport.take()) == [200]
        third.data_received(request[:-1])
        third.connection_lost(None)
    assert len(pages.bodies) == 4


H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
AS_H2C = {
    "too large": (post(b"x" * 2000, lines=H2C)[:400], (413, "body_too_large")),
    "two hosts": (post(b"x", lines=H2C + "Host: i\r\n"), (400, "bad_request")),
    "no host": (post(b"x", lines=H2C).replace(b"Host: h\r\n", b""), (400, "bad_request")),
    "wrong host": (post(b"x", lines=H2C).replace(b": h\r", b": a b\r"), (400, "bad_request")),
    "expectation": (post(b"x", lines=H2C + "Expect: cake\r\n"), (417, "expectation_failed")),
    "not admitted": (post(b"x" * 900, lines=H2C)[:-1], (429, "overloaded")),
}


@pytest.mark.parametrize("case", AS_H2C)
@pytest.mark.parametrize("step", [10_000, 50])
def test_what_asks_for_an_upgrade_is_refused_like_anything_else(case: str, step: int) -> None:
    sent, expected = AS_H2C[case]
    connection, transport, inference = serve(limits=Limits(max_body=1000))
    if expected[0] == 429:
        inference.refusal = answers.failure("overloaded", "full", None, b"1", 3)
    for at in range(0, len(sent), step):
        connection.data_received(sent[at : at + step])
    assert refused(transport) == expected
    assert inference.taken == []


def test_http_1_0_that_asks_for_an_upgrade_stays_http_1_0() -> None:
    connection, transport, inference = serve()
    request = post(b"x", lines=H2C, version="1.0").replace(b"Host: h\r\n", b"")
    connection.data_received(request)
    assert inference.bodies == [b"x"]
    assert statuses(transport.take()) == [200]
    assert transport.closed
