import pytest

from gateway.web import headers


def test_a_plain_head_is_recognised_in_any_spelling() -> None:
    plan = headers.layout_for([b"hOST", b"User-Agent", b"CONTENT-LENGTH", b"Accept"])
    assert plan.plain
    assert plan.length == 2
    assert plan.hosts == 1


@pytest.mark.parametrize(
    "names",
    [
        [],
        [b"Host"],
        [b"Content-Length"],
        [b"Host", b"Host", b"Content-Length"],
        [b"Host", b"Content-Length", b"Connection"],
        [b"Host", b"Content-Length", b"X-Request-ID"],
        [b"Host", b"Transfer-Encoding"],
        [b"Host", b"Connection"],
    ],
)
def test_any_other_head_is_not_plain(names: list[bytes]) -> None:
    assert not headers.layout_for(names).plain


def test_the_lines_that_matter_are_found() -> None:
    names = [b"Expect", b"Accept", b"Host", b"Traceparent", b"X-Request-Timeout", b"X-Priority"]
    plan = headers.layout_for(names)
    kinds = (headers.TRACEPARENT, headers.TIMEOUT, headers.PRIORITY)
    assert plan.told == tuple(zip(kinds, (3, 4, 5), strict=True))
    assert plan.framing == ((headers.EXPECT, 0),)
    assert not plan.odd
    assert (plan.hosts, plan.length, plan.upgrades) == (1, -1, False)
    assert headers.layout_for([b"upgrade"]).upgrades
    for names in ([], [b"Host", b"Host"], [b"Host", b"Connection"], [b"Host", b"Upgrade"]):
        assert headers.layout_for(names).odd


def test_a_request_id_is_repeated_only_if_it_is_fit_for_a_header() -> None:
    assert headers.sane_request_id(b"a" * 128) == b"a" * 128
    for value in (None, b"", b"a" * 129, b"a b", b"\xfc", b"a\r\nb"):
        assert headers.sane_request_id(value) is None


def test_a_traceparent_is_passed_on_only_if_it_is_well_formed() -> None:
    good = b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"
    assert headers.sane_traceparent(good) == good.decode()
    assert headers.sane_traceparent(good + b"-later") == (good + b"-later").decode()
    for value in (None, b"", b"00-x-y-01", good.upper(), good + b"x"):
        assert headers.sane_traceparent(value) is None


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/inference", b"/inference"),
        (b"/inference?a=b/c", b"/inference"),
        (b"/inference#top", b"/inference"),
        (b"/a%2fb", b"/a/b"),
        (b"http://host:80/inference?x", b"/inference"),
        (b"HTTPS://host", b"/"),
        (b"*", b"*"),
    ],
)
def test_a_target_leads_to_its_path(target: bytes, path: bytes) -> None:
    assert headers.path_of(target) == path


def test_the_size_of_a_head_is_that_of_its_text() -> None:
    text = b"/path" + b"Host: a\r\n" + b"X: yz\r\n"
    assert headers.size_of(b"/path", [b"Host", b"X"], [b"a", b"yz"]) == len(text)


def test_a_head_without_its_upgrade_asks_for_the_same_once() -> None:
    names = [b"Host", b"Connection", b"Upgrade", b"HTTP2-Settings", b"Content-Length"]
    values = [b"h", b"Upgrade, HTTP2-Settings", b"h2c", b"AAMAAABkAAQAoAAAAAIAAAAA", b"3"]
    for version in ("1.0", "1.1"):
        sent = headers.RequestHead(b"POST", b"/a", names, values, version)
        head = headers.without_upgrade(sent)
        rest = b"Host: h\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        assert head == b"POST /a HTTP/%b\r\n" % version.encode() + rest


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"500ms", 0.5),
        (b"2s", 2.0),
        (b" 1.5 S ", 1.5),
        (b"3", 3.0),
        (b"0.25", 0.25),
        (b"1 min", 60),
        (b"9" * 400, float("inf")),
    ],
)
def test_a_time_has_a_unit_or_is_in_seconds(value: bytes, seconds: float) -> None:
    assert headers.budget_of(value) == seconds


@pytest.mark.parametrize(
    "value", [b"", b"soon", b"0", b"0ms", b"-1", b"1e3", b"nan", b"inf", b"1,5", b"2 days", b"\xb2"]
)
def test_what_is_no_time_is_refused_with_an_example(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"^X-Request-Timeout is '.*'; it must be .*500ms"):
        headers.budget_of(value)


def test_a_long_nonsense_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match=r"x{40}\.\.\.'") as caught:
        headers.budget_of(b"x" * 5000)
    assert len(str(caught.value)) < 200


def test_there_are_two_priorities() -> None:
    assert [headers.priority_of(value) for value in (b"normal", b"0")] == [0, 0]
    assert [headers.priority_of(value) for value in (b"high", b" HIGH ", b"1")] == [1, 1, 1]
    for value in (b"", b"2", b"-1", b"urgent", b"\xff"):
        with pytest.raises(ValueError, match="it must be normal"):
            headers.priority_of(value)


def test_a_head_of_http_2_becomes_one_of_http_1() -> None:
    head = headers.from_http2(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"h:1"),
            (b":path", b"/a?b"),
            (b"host", b"h:1"),
            (b"cookie", b"a=1"),
            (b"x-a", b"1"),
            (b"cookie", b"b=2"),
            (b"x-a", b"2"),
        ]
    )
    assert head == (
        b"POST",
        b"/a?b",
        [b"host", b"cookie", b"x-a", b"x-a"],
        [b"h:1", b"a=1; b=2", b"1", b"2"],
        "2.0",
    )


def test_without_an_authority_the_host_is_what_the_client_says() -> None:
    said = [(b"host", b"h"), (b"host", b"i")]
    assert headers.from_http2(said) == (b"", b"", [b"host"] * 2, [b"h", b"i"], "2.0")


def test_a_target_is_a_path() -> None:
    for target in (b"/", b"/a/b?c=%20", b"/\xc3\xa4"):
        assert headers.sane_target(target, b"GET")
    for target in (b"", b"a", b"http://h/", b"/a b", b"/\x1b[2J", b"/\n", b"*"):
        assert not headers.sane_target(target, b"GET")
    assert headers.sane_target(b"*", b"OPTIONS")


def test_codings_matter_only_where_they_are_spoken() -> None:
    names = [b"Content-Encoding", b"Accept-Encoding"]
    assert headers.layout_for(names).told == ((headers.UNREAD, 0),)
    assert headers.layout_for(names, coded=True).told == ((headers.CODING, 0), (headers.WANTED, 1))


def test_a_websocket_asks_for_one_upgrade_and_sends_no_body() -> None:
    def asks(*lines: tuple[bytes, bytes]) -> bool:
        names, values = [name for name, _ in lines], [value for _, value in lines]
        return headers.asks_for_websocket(headers.layout_for(names), names, values)

    assert asks((b"Host", b"h"), (b"UPGRADE", b" WebSocket"))
    assert not asks((b"Upgrade", b"h2c"))
    assert not asks((b"Upgrade", b"websocket"), (b"Upgrade", b"websocket"))
    assert not asks((b"Upgrade", b"websocket"), (b"Content-Length", b"0"))
    assert not asks((b"Upgrade", b"websocket"), (b"Transfer-Encoding", b"chunked"))


def test_a_host_is_a_name_or_an_address() -> None:
    for host in (b"", b"h", b"h:80", b"127.0.0.1:8000", b"[::1]", b"[fe80::1%25eth0]:1", b"a_b.c "):
        assert headers.sane_host(host)
    for host in (b"a b", b"a/b", b"a@b", b"a,b", b"h:x", b"[", b"[]", b"\xff", b"a\n", b" h"):
        assert not headers.sane_host(host)


def test_space_around_values_is_not_part_of_them() -> None:
    assert headers.lines_of([b"A", b"B"], [b"1 \t", b""]) == [(b"A", b"1"), (b"B", b"")]


def test_a_line_of_http2_is_one_line_of_http1() -> None:
    def head(
        name: bytes = b"a", value: bytes = b"b", method: bytes = b"GET"
    ) -> headers.RequestHead:
        return headers.RequestHead(method, b"/", [b"host", name], [b"h", value])

    assert headers.sane_lines(head())
    assert headers.sane_lines(head(value=b""))
    assert headers.sane_lines(head(value=b"\t\x80 \x1b"))
    for value in (b"b\r\nc: d", b"b\n", b"\rb", b"b\0"):
        assert not headers.sane_lines(head(value=value))
    for name in (b"", b"A", b"a b", b"a:", b"a\r", b"a\n", b"a\0", b"\xe9"):
        assert not headers.sane_lines(head(name))
    for method in (b"", b"GET /", b"G\nT"):
        assert not headers.sane_lines(head(method=method))
