"""Clients at the HTTP door that do what people do: half-close, ask around, mistype."""

import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
from importlib.metadata import version

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from site_runs import MESH, PATIENCE, Site, service_text, settings, shared_site

SERVICE = service_text("door")
ROUTES = ("/inference", "/v2/models", "/docs")
FILE = settings({"echo": "Echo"}, {path: ["echo"] for path in ROUTES}, timeout="10s")
site = shared_site("door", FILE)


def post(value, version="1.1", path="/inference"):
    body = json.dumps(value).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def until_closed(connection):
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def half_closed(site, sent):
    """All that comes after these bytes and the end of what is sent."""
    with site.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return until_closed(connection)


def finals(received):
    """Status and body of each final answer, and how many interim ones came."""
    found, interim = [], 0
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            interim += 1
            continue
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        found.append((status, received[:length]))
        received = received[length:]
    return found, interim


# ---- half-closed connections


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("seconds", [0, 0.4])
def test_a_client_that_ends_its_sending_is_answered(site, version, seconds):
    answers, interim = finals(half_closed(site, post(seconds, version)))
    assert answers == [(200, json.dumps(seconds).encode())]
    assert interim <= (version == "1.1")
    if seconds:
        assert interim == (version == "1.1")


def test_a_page_is_answered_as_well(site):
    answers, _ = finals(half_closed(site, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert answers == [(200, b'{"status":"ok"}')]


def test_all_that_was_asked_before_the_end_is_answered_in_order(site):
    page = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = post(0.1) + page + b"".join(post(n / 1000) for n in range(30)) + post(0.2)
    answers, interim = finals(half_closed(site, sent))
    assert [status for status, _ in answers] == [200] * 33
    bodies = [body for _, body in answers]
    assert bodies == [
        b"0.1",
        b'{"status":"ok"}',
        *[json.dumps(n / 1000).encode() for n in range(30)],
        b"0.2",
    ]
    assert interim <= 1


@pytest.mark.parametrize("cut", [10, -1])
def test_what_is_cut_off_is_dropped_and_what_came_before_answered(site, cut):
    answers, _ = finals(half_closed(site, post(0.1) + post(0.77)[:cut]))
    assert answers == [(200, b"0.1")]
    assert half_closed(site, post(0.77)[:cut]) == b""
    assert "0.77" not in (site.folder / "computed").read_text()


def test_python_s_own_client_reads_past_the_probe(site):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)
    connection.request("POST", "/inference", b"0.3")
    connection.sock.shutdown(socket.SHUT_WR)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"0.3")
    connection.close()


def http2(connection, *values):
    """Ask for each of these on a stream of its own."""
    wire = H2Connection(H2Configuration(client_side=True))
    wire.initiate_connection()
    head = {":method": "POST", ":path": "/inference", ":scheme": "http", ":authority": "localhost"}
    for value in values:
        stream = wire.get_next_available_stream_id()
        wire.send_headers(stream, list(head.items()))
        wire.send_data(stream, json.dumps(value).encode(), end_stream=value is not None)
    connection.sendall(wire.data_to_send())
    return wire


def test_http_2_as_well(site):
    bodies, pings = {}, 0
    with site.connect() as connection:
        wire = http2(connection, 0, 0.3, None)
        connection.shutdown(socket.SHUT_WR)
        for event in wire.receive_data(until_closed(connection)):
            pings += isinstance(event, events.PingReceived)
            if isinstance(event, events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
    assert bodies == {1: b"0", 3: b"0.3"}
    assert pings == 1


def cancelled(site):
    """How many requests ended because their clients had left."""
    return site.metric_or_0("mesh_throughput_total", code="499")


def leave(site, ask, value):
    """Ask while the replica is busy, and close; whether that was computed all the same."""
    gone = cancelled(site)
    with site.connect() as first:
        first.sendall(post(1.5))
        site.until(lambda: site.metric("mesh_remaining_task") == 1, "it has not begun")
        second = site.connect()
        ask(second, value)
        site.until(lambda: site.metric("mesh_remaining_task") == 2, "it has not come")
        second.close()
        assert first.recv(12) == b"HTTP/1.1 200"
    site.until(lambda: site.metric("mesh_remaining_task") == 0, "something is left")
    left = cancelled(site) - gone
    computed = (site.folder / "computed").read_text().split()
    return left, str(value) in computed


def by_http_1_1(connection, value):
    connection.sendall(post(value))


def by_http_1_0(connection, value):
    connection.sendall(post(value, "1.0"))


@pytest.mark.parametrize(("ask", "value"), [(by_http_1_1, 0.0411), (http2, 0.0412)])
def test_a_client_that_closes_is_not_computed_for(site, ask, value):
    assert leave(site, ask, value) == (1, False)


def test_of_http_1_0_it_cannot_be_known(site):
    assert leave(site, by_http_1_0, 0.0413) == (0, True)


# ---- what the door says of itself


def ask(site, method, path, body=None, **headers):
    """Status, headers (names in lower case) and body."""
    status, lines, found = site.send(method, path, body, headers)
    return status, {name.lower(): value for name, value in lines.items()}, found


def message(body):
    return json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/inference", b"0", 200),
        ("POST", "/inference", b"no json", 400),
        ("POST", "/inference", b'"raise"', 400),
        ("GET", "/", None, 200),
        ("GET", "/nowhere", None, 404),
        ("GET", "/metrics", None, 200),
        ("OPTIONS", "/", None, 204),
        ("POST", "/health", b"", 405),
        ("GET", "bad target", None, 400),
    ],
)
def test_every_answer_names_the_server(site, method, path, body, status):
    sent = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body or b'')}\r\n\r\n"
    )
    with site.connect() as connection:
        connection.sendall(sent.encode() + (body or b""))
        connection.shutdown(socket.SHUT_WR)
        head = until_closed(connection).partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert int(head[0].split()[1]) == status
    wanted = f"Server: meshline/{version('meshline')}".encode()
    assert [line for line in head if line.lower().startswith(b"server:")] == [wanted]


def test_a_worker_s_own_server_header_replaces_it(site):
    status, headers, body = ask(site, "POST", "/inference", b'{"say": "hello"}')
    assert (status, headers["server"], body) == (200, "theirs", b'"hello"')


def test_the_root_lists_routes_and_pages(site):
    status, _, body = ask(site, "GET", "/")
    assert status == 200
    for path in ("/inference", "/v2/models", "/docs", "/health", "/metrics", "/ping"):
        assert f"\n  {path} ".encode() in body
    status, _, body = ask(site, "GET", "/", Accept="application/json")
    assert json.loads(body)["routes"]["/inference"] == ["echo"]
    status, headers, body = ask(site, "POST", "/", b"1")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert f"http://127.0.0.1:{site.port}/inference" in message(body)


def test_a_mistyped_route_is_answered_with_the_right_ones(site):
    status, _, body = ask(site, "POST", "/infrence", b"1")
    assert status == 404
    assert "did you mean /inference?" in message(body)
    assert message(body).endswith("routes: /inference, /v2/models, /docs")
    status, _, body = ask(site, "GET", "/x" * 10_000)
    assert status == 404
    assert len(body) < 500


def test_get_on_a_route_says_how_to_call_it(site):
    status, headers, body = ask(site, "GET", "/inference")
    assert (status, headers["allow"]) == (405, "POST, OPTIONS")
    command = f"curl -d @request.json http://127.0.0.1:{site.port}/inference"
    assert message(body).endswith(command)
    if not shutil.which("curl"):
        pytest.skip("no curl: the answer names its command line")
    (site.folder / "request.json").write_text("0")
    done = subprocess.run(
        ["curl", "-s", *command.split()[1:]], cwd=site.folder, capture_output=True, check=True
    )
    assert done.stdout == b"0"


def test_ping_is_answered_as_health(site):
    assert ask(site, "GET", "/ping")[2] == ask(site, "GET", "/health")[2]
    status, _, body = ask(site, "HEAD", "/ping")
    assert (status, body) == (200, b"")


@pytest.mark.parametrize("path", ["/inference/", "/inference?x=1", "/inference/?x=1"])
def test_a_slash_or_a_query_after_a_route(site, path):
    assert ask(site, "POST", path, b"0")[::2] == (200, b"0")


def test_one_slash_after_a_page_and_not_two(site):
    assert ask(site, "GET", "/health/")[0] == 200
    assert ask(site, "POST", "/inference//", b"0")[0] == 404
    assert ask(site, "POST", "//inference", b"0")[0] == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/inference", "POST, OPTIONS"),
        ("/inference/", "POST, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
    ],
)
def test_options_are_told(site, path, allowed):
    status, headers, body = ask(site, "OPTIONS", path)
    assert (status, headers["allow"], body) == (204, allowed, b"")


@pytest.mark.parametrize("path", ["/favicon.ico", "/robots.txt"])
def test_what_browsers_and_robots_ask_for_makes_no_noise(site, path):
    before = site.log()
    assert ask(site, "GET", path)[0] == 404
    assert site.log() == before


def test_a_route_may_be_where_the_gateway_has_nothing(site):
    for path in ("/v2/models", "/docs"):
        assert ask(site, "POST", path, b"0")[::2] == (200, b"0")


def test_a_route_where_the_gateway_answers_is_refused_with_the_reason(tmp_path):
    with contextlib.closing(Site(tmp_path, SERVICE, FILE.replace("/docs", "/ping"))) as site:
        done = site.run(MESH, "check")
    assert done.returncode == 2
    assert "/ping: this path is the gateway's own (200 while the gateway runs)" in done.stderr
