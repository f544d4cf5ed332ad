import pytest

from gateway.web import headers as heads
from gateway.web.browser_policy import (
    BrowserPolicy,
    NotServed,
    Reach,
    pairs_of,
    reach_of,
    told_by,
    with_lines,
)

LOOPBACK = BrowserPolicy(reach=Reach.MACHINE)
APP = "https://app.example"


def serves(policy: BrowserPolicy, host: str, target: bytes = b"/inference") -> bool:
    try:
        policy.check_host(host.encode("latin-1"), target)
    except NotServed as error:
        return not (error.code == "host_not_served" and "[gateway] hosts" in str(error))
    return True


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LOCALHOST.:1", "app.localhost", "127.0.0.1:8000"),
        *("127.4.5.6", "[::1]:8000", "[::1]", "[::ffff:127.0.0.1]:1", "", " localhost\t"),
    ],
)
def test_a_loopback_listener_serves_loopback_names(host: str) -> None:
    assert serves(LOOPBACK, host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "xlocalhost", "x"),
        *("10.0.0.7", "[fe80::1]", "[::2]:8000", "127.0.0.1.evil.example", "0.0.0.0", "127.1"),
        *("0x7f000001", "2130706433", "[localhost]"),
    ],
)
def test_a_loopback_listener_serves_no_others(host: str) -> None:
    if host == "[localhost]":
        assert serves(LOOPBACK, host)
        return
    assert not serves(LOOPBACK, host)
    assert not serves(LOOPBACK, host, b"/health")


def test_names_that_are_listed_are_served_beside_them() -> None:
    listed = BrowserPolicy(("Box.example", "*.lan", "[fe80::1]"), reach=Reach.MACHINE)
    ours = ("box.example:8000", "BOX.EXAMPLE.", "a.lan", "a.b.lan", "[fe80::1]:1", "localhost")
    for host in ours:
        assert serves(listed, host)
    for host in ("lan", "box.example.evil", "ybox.example", "10.0.0.7"):
        assert not serves(listed, host)
    assert serves(BrowserPolicy(("*",), reach=Reach.MACHINE), "evil.example")


def test_a_public_listener_serves_any_name_until_some_are_listed() -> None:
    assert serves(BrowserPolicy(reach=Reach.NETWORK), "evil.example")
    listed = BrowserPolicy(("api.example",), reach=Reach.NETWORK)
    assert serves(listed, "api.example:443")
    for host in ("evil.example", "localhost", "127.0.0.1:8000", "10.0.0.7"):
        assert not serves(listed, host)


def test_whoever_looks_whether_a_public_service_is_alive_may_use_its_address() -> None:
    listed = BrowserPolicy(("api.example",), reach=Reach.NETWORK)
    assert serves(listed, "10.0.0.7:8000", b"/readyz")
    assert not serves(listed, "10.0.0.7:8000", b"/inference")
    # Or every later request under that name would be served.
    assert not listed.check_host(b"10.0.0.7:8000", b"/readyz")
    assert listed.check_host(b"api.example", b"/readyz")


@pytest.mark.parametrize("page", [b"/metrics", b"/mesh/status"])
def test_whoever_watches_a_public_service_finds_it_by_address(page: bytes) -> None:
    listed = BrowserPolicy(("api.example",), reach=Reach.NETWORK)
    for host in ("10.0.0.7:8000", "[fd00::7]:8000"):
        assert serves(listed, host, page)
        assert not listed.check_host(host.encode(), page)
    assert not serves(listed, "evil.example", page)
    assert not serves(LOOPBACK, "10.0.0.7:8000", page)


def test_the_administrators_listener_is_also_found_by_address() -> None:
    listed = BrowserPolicy(("api.example",), reach=Reach.NETWORK, by_address=True)
    assert serves(listed, "10.0.0.7:9000")
    assert not serves(listed, "evil.example")
    assert not serves(BrowserPolicy(reach=Reach.MACHINE, by_address=True), "evil.example")


def test_a_unix_socket_has_no_name() -> None:
    assert serves(BrowserPolicy(("api.example",)), "evil.example")


def test_an_odd_host_is_not_repeated() -> None:
    with pytest.raises(NotServed) as refused:
        LOOPBACK.check_host(b"a" * 300, b"/")
    assert "aaa" not in str(refused.value)


@pytest.mark.parametrize(
    ("names", "reach"),
    [
        ([("127.0.0.1", 80)], Reach.MACHINE),
        ([("127.0.0.1", 80), ("::1", 80, 0, 0)], Reach.MACHINE),
        ([("127.0.0.1", 80), ("10.0.0.7", 80)], Reach.NETWORK),
        ([("::", 80, 0, 0)], Reach.NETWORK),
        ([("0.0.0.0", 80)], Reach.NETWORK),
        (["/run/admin.sock"], Reach.SOCKET),
        ([("odd", 1)], Reach.NETWORK),
        ([], Reach.SOCKET),
    ],
)
def test_where_it_listens_says_who_reaches_it(names: list[object], reach: Reach) -> None:
    assert reach_of(names) is reach
    assert BrowserPolicy(("x",)).listening_at(names) == BrowserPolicy(("x",), reach=reach)


# ---- pages of other origins


def lines(
    policy: BrowserPolicy,
    method: str = "POST",
    host: str = "localhost:8000",
    **told: str,
) -> bytes | None:
    """The header lines of the answer, None where the request is refused."""
    kinds = {
        "origin": heads.ORIGIN,
        "site": heads.SITE,
        "mode": heads.MODE,
        "dest": heads.DESTINATION,
        "asked": heads.ASKED_METHOD,
        "headers": heads.ASKED_HEADERS,
    }
    said = {kinds[key.strip("_")]: value.encode("latin-1") for key, value in told.items()}
    try:
        return policy.check_origin(method.encode(), host.encode(), said)
    except NotServed as error:
        is_told = error.code == "cross_site" and "[gateway] cors" in str(error)
        return None if is_told else str(error).encode()


@pytest.mark.parametrize(
    "told",
    [
        {"site": "same-origin", "origin": "http://localhost:8000"},
        {"site": "none"},
        {"site": "Same-Origin ", "origin": "https://evil.example"},  # a page cannot set that line
        {"origin": "http://localhost:8000"},
        {"origin": "http://LOCALHOST:8000"},
    ],
)
def test_its_own_pages_are_served(told: dict[str, str]) -> None:
    assert lines(LOOPBACK, **told) == b""


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost", "localhost:80"),
        ("http://localhost:80", "localhost"),
        ("https://api.example", "api.example"),
        ("https://api.example", "api.example:443"),
    ],
)
def test_a_default_port_may_be_left_out(origin: str, host: str) -> None:
    assert lines(LOOPBACK, host=host, origin=origin) == b""


@pytest.mark.parametrize(
    "told",
    [
        {"site": "cross-site", "origin": "https://evil.example"},
        {"site": "cross-site"},  # such as <script src>
        {"site": "same-site", "origin": "http://localhost:3000"},
        {"site": "nonsense"},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:3000"},
        {"origin": "null"},
        {"origin": "localhost:8000"},
        {"origin": "http://localhost:8000.evil.example"},
        {"origin": "https://localhost:80"},
        {"origin": ""},
        {"site": "cross-site", "mode": "navigate", "dest": "document"},  # a form
    ],
)
def test_pages_of_other_origins_are_refused(told: dict[str, str]) -> None:
    assert lines(LOOPBACK, **told) is None
    assert lines(LOOPBACK, "OPTIONS", **told) is None


def test_what_is_shown_of_an_origin_is_printable_and_short() -> None:
    for origin in (b"http://a\x1b[2J", b"http://" + b"a" * 300, b"\xff"):
        with pytest.raises(NotServed) as refused:
            LOOPBACK.check_origin(b"POST", b"localhost", {heads.ORIGIN: origin})
        assert "another site" in str(refused.value)


def test_a_link_may_be_followed() -> None:
    visit = {"site": "cross-site", "mode": "navigate", "dest": "document"}
    assert lines(LOOPBACK, "GET", **visit) == b""
    assert lines(LOOPBACK, "HEAD", **visit) == b""
    assert lines(LOOPBACK, "POST", **visit) is None
    assert lines(LOOPBACK, "GET", **visit | {"dest": "embed"}) is None
    assert lines(LOOPBACK, "GET", **visit | {"mode": "no-cors"}) is None
    assert lines(LOOPBACK, "GET", site="cross-site") is None


# ---- pages that may


LISTED = BrowserPolicy(cors=(APP, "null"), reach=Reach.MACHINE)


@pytest.mark.parametrize("told", [{"site": "cross-site"}, {}])
def test_pages_of_a_listed_origin_are_served_and_may_read(told: dict[str, str]) -> None:
    assert lines(LISTED, origin=APP, **told) == (
        b"Access-Control-Allow-Origin: https://app.example\r\n"
        b"Access-Control-Expose-Headers: *\r\nVary: Origin\r\n"
    )
    assert b"Allow-Origin: null\r\n" in (lines(LISTED, origin="null", **told) or b"")
    for other in ("https://app.example:444", "http://app.example", "https://x.app.example"):
        assert lines(LISTED, origin=other, **told) is None
    assert lines(LISTED, site="cross-site") is None


def test_an_answer_that_may_be_kept_says_that_it_depends_on_the_origin() -> None:
    assert lines(LISTED, site="same-origin") == b"Vary: Origin\r\n"
    assert lines(LISTED, "GET", site="cross-site", mode="navigate") == b"Vary: Origin\r\n"
    assert LISTED.vary == b"Vary: Origin\r\n"
    assert LOOPBACK.vary == BrowserPolicy(cors=("*",)).vary == b""


def test_a_preflight_is_told_what_may_be_sent() -> None:
    asked = {"site": "cross-site", "origin": APP, "asked": "POST"}
    found = lines(LISTED, "OPTIONS", headers="content-type, x-priority", **asked)
    assert found is not None
    assert dict(pairs_of(found)) == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Headers": "content-type, x-priority",
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin",
    }
    for odd in ({}, {"headers": "a\r\nb: c"}, {"headers": "a\x1b"}):
        assert b"Allow-Headers" not in (lines(LISTED, "OPTIONS", **asked, **odd) or b"")
    plain = lines(LISTED, "OPTIONS", origin=APP)
    assert plain is not None
    assert b"Methods" not in plain


def test_a_star_lets_every_page_in() -> None:
    star = BrowserPolicy(cors=("*",), reach=Reach.MACHINE)
    expected = b"Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n"
    assert lines(star, origin="https://evil.example") == expected
    assert lines(star, site="cross-site") == expected


def test_lines_are_added_unless_the_worker_wrote_its_own() -> None:
    answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nVary: no\r\n"
    assert with_lines(answer, b"X: y\r\n") == answer.replace(b"A:", b"X: y\r\nA:")
    own = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n\r\n"
    assert with_lines(own, b"X: y\r\n") == own
    assert pairs_of(b"A: b\r\nC: d: e\r\n") == [("A", "b"), ("C", "d: e")]


def test_what_a_browser_says_is_found_by_the_plan() -> None:
    names = [b"Host", b"Origin", b"Sec-Fetch-Site", b"Content-Length", b"Sec-Fetch-Mode"]
    plan = heads.plan_for(names)
    assert not plan.plain
    assert not plan.told
    values = [b"h", b"http://h", b"none", b"0", b"cors"]
    told = told_by(plan.browser, values)
    assert told == {heads.ORIGIN: b"http://h", heads.SITE: b"none", heads.MODE: b"cors"}
    # Without any of the two that say whose page it was there is nothing to decide.
    assert not heads.plan_for([b"Host", b"Sec-Fetch-Mode", b"Content-Length"]).browser
