"""The access log of a running service: what it says of which requests."""

import re
import socket
import threading
from time import monotonic

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from site_runs import PATIENCE, running, service_text, settings, shared_site

SERVICE = service_text("slow_or_wrong")
STAGES, ROUTES = {"echo": "Echo"}, {"/echo": ["echo"]}
FILE = settings(STAGES, ROUTES, access_log=True)
site = shared_site("slow_or_wrong", FILE)


def logged(site, name):
    """The record of a request, as soon as it is there."""
    found = []

    def look():
        found[:] = [line for line in site.records() if line.get("id") == name and "method" in line]
        return found

    site.until(look, f"{name} is not in the access log")
    assert len(found) == 1
    return found[0]


def ask(site, method, path, body=None, name="", **headers):
    status, _, body = site.send(method, path, body, {"X-Request-ID": name, **headers})
    return status, len(body)


def test_a_request_is_one_record_with_fields(site):
    assert ask(site, "POST", "/echo?token=secret", '"x"', "plain")[0] == 200
    line = logged(site, "plain")
    assert "secret" not in site.log()
    assert line.pop("time").endswith("Z")
    assert 0 < line.pop("ms") < PATIENCE * 1000
    assert line.pop("bytes") > 100
    assert line.pop("stages")["echo"].keys() == {"queue_ms", "compute_ms"}
    assert line == {
        "level": "info",
        "source": "gateway",
        "message": "POST /echo 200",
        "method": "POST",
        "route": "/echo",
        "status": 200,
        "id": "plain",
        "client": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "wanted"),
    [
        ("POST", "/echo", '"wrong"', {}, {"status": 400, "route": "/echo"}),
        ("POST", "/nowhere", "1", {}, {"status": 404, "route": "-", "path": "/nowhere"}),
        ("GET", "/echo", None, {}, {"status": 405, "route": "/echo"}),
        ("GET", "/mesh/status", None, {}, {"status": 200, "route": "/mesh/status"}),
        ("POST", "/%65cho", "1", {}, {"status": 200, "route": "/echo", "path": "/%65cho"}),
    ],
)
def test_what_becomes_of_requests(site, method, path, body, headers, wanted):
    name = f"{method}-{path}-{wanted['status']}"
    assert ask(site, method, path, body, name, **headers)[0] == wanted["status"]
    line = logged(site, name)
    assert {key: line.get(key) for key in wanted} == wanted


def test_a_request_that_is_refused_unread_is_logged_with_the_id_of_its_answer(site):
    with site.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answer = connection.recv(9999).decode()
    (name,) = re.findall("X-Request-ID: (.+)\r", answer)
    line = logged(site, name)
    assert (line["status"], line["method"], line["route"]) == (400, "-", "-")


def test_http2_is_logged_in_the_same_form(site):
    wire = H2Connection(H2Configuration(header_encoding="utf-8"))
    wire.initiate_connection()
    heads = {":method": "POST", ":path": "/echo", ":scheme": "http", ":authority": "localhost"}
    number = wire.get_next_available_stream_id()
    wire.send_headers(number, [*heads.items(), ("x-request-id", "two")])
    wire.send_data(number, b'"x"', end_stream=True)
    with site.connect() as connection:
        connection.sendall(wire.data_to_send())
        end = monotonic() + PATIENCE
        while not any(isinstance(e, StreamEnded) for e in wire.receive_data(connection.recv(9999))):
            assert monotonic() < end
    line = logged(site, "two")
    assert (line["message"], line["client"]) == ("POST /echo 200", "127.0.0.1")
    assert line["stages"]["echo"]["compute_ms"] >= 0


def test_a_client_that_goes_away_is_499(site):
    head = (
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: gone\r\nContent-Length: 6\r\n\r\n"
    )
    with site.connect() as connection:
        connection.sendall(head.encode() + b'"slow"')
        threading.Event().wait(0.1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert (logged(site, "gone")["status"], logged(site, "gone")["bytes"]) == (499, 0)


def test_health_is_left_out(site):
    for path in ("/", "/health", "/livez", "/readyz", "/metrics"):
        assert ask(site, "GET", path, None, f"health-{path}")[0] == 200
    assert ask(site, "POST", "/echo", "1", "after-health")[0] == 200
    logged(site, "after-health")
    assert "health-/" not in site.log()


def test_health_and_queries_if_they_are_wanted(tmp_path):
    more = dict.fromkeys(("access_log", "access_log_health", "access_log_query"), True)
    with running(tmp_path, SERVICE, settings(STAGES, ROUTES, **more)) as site:
        ask(site, "GET", "/readyz", None, "ready")
        ask(site, "POST", "/echo?a=5", "1", "query")
        assert logged(site, "ready")["route"] == "/readyz"
        assert logged(site, "query")["query"] == "a=5"
        assert logged(site, "query")["message"] == "POST /echo 200"
