"""What a service says to those who send too much or too early, and to who describes it wrongly.

The rest of docs/bad_input.md is tested elsewhere; that page says where.
"""

import contextlib
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from site_runs import PATIENCE, Site, service_text, settings

from benchmarks.ports import free_port

LARGE = 8 << 20  # bytes: far more than sockets buffer
TIMES = 20
WAYS = {
    "declared": b"Content-Length: %d\r\n\r\n" % LARGE,
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % LARGE,
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    b"Content-Length: %d\r\n\r\n" % LARGE,
    "http2": b"",
}

GATEWAY = {"timeout": "30s", "capacity": 1, "restart_grace": "100ms"}
FILE = settings({"held": "Held"}, **GATEWAY)


@pytest.fixture
def site(tmp_path):
    with contextlib.closing(Site(tmp_path, service_text("held"), FILE)) as made:
        yield made
        made.stop()
        for process in made.started:
            process.wait(PATIENCE)


def insist(site, way):
    """Send a large request whole before reading a word; status, headers and error."""
    if way == "http2":
        with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as client:
            answer = client.post(f"{site.url}/inference", content=bytes(LARGE))
        return answer.status_code, answer.headers, answer.json()["error"]
    head = b"POST /inference HTTP/1.1\r\nHost: localhost\r\n" + WAYS[way]
    with site.connect() as client:
        client.sendall(head + bytes(LARGE))
        answer = client.makefile("rb").read()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body)["error"]


def is_open(site):
    try:
        site.connect().close()
    except OSError:
        return False
    return True


# --- refused while they still send ----------------------------------------------------------------


def test_a_full_route_tells_every_client_that_still_sends(site):
    def hold():
        with site.client() as client:
            return client.infer("hold")

    site.mesh("up")
    site.wait_ready()
    with ThreadPoolExecutor(1) as pool, site.client() as client:
        held = pool.submit(hold)
        try:
            site.until(lambda: site.metric("mesh_remaining_task") == 1)
            for way in list(WAYS) * TIMES:
                status, headers, error = insist(site, way)
                assert (status, error["code"]) == (429, "overloaded")
                assert int(headers["retry-after"]) >= 1
                assert error["retryable"]
        finally:
            (site.folder / "go").touch()
        assert held.result(PATIENCE) == "hold"
        assert client.infer("more") == "more"


def test_a_stage_that_is_gone_is_named_to_every_client_that_still_sends(site):
    bind = f"tcp://127.0.0.1:{free_port()}"
    site.describe(file=settings({"held": "Held"}, bind=bind, insecure=True, **GATEWAY))
    site.mesh("gateway")
    site.until(lambda: is_open(site))
    threading.Event().wait(0.2)
    for way in list(WAYS) * TIMES:
        status, headers, error = insist(site, way)
        assert (status, error["code"]) == (503, "no_replica")
        assert error["message"] == "stage held has no replica"
        assert headers["retry-after"] == "1"


# --- described wrongly ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("capacity = 1", "capasity = 1", 2, "did you mean 'capacity'?"),
        ('timeout = "30s"', 'timeout = "soon"', 2, "[gateway] timeout: "),
        ('timeout = "30s"', "timeout = 30", 2, "[gateway] timeout: needs a unit"),
        ("service:Held", "service:Hled", 3, "there is no class Hled; did you mean Held?"),
        ("service:Held", "servic:Held", 3, "No module named 'servic'"),
        ("capacity = 1", 'max_body = "1GiB"', 2, "raise it to that"),
    ],
)
def test_a_wrong_description_starts_nothing_and_says_so_in_words(site, old, new, code, said):
    assert old in FILE
    site.describe(file=FILE.replace(old, new))
    assert site.mesh("up").wait(PATIENCE) == code, site.log()
    assert said in site.log()
    assert "Traceback" not in site.log()
    assert not is_open(site)


@pytest.mark.parametrize("which", ["http", "bind"])
def test_a_port_that_somebody_has_is_named(site, which):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        if which == "http":
            site.port = taken
        else:
            bind = f"tcp://127.0.0.1:{taken}"
            site.describe(file=settings({"held": "Held"}, bind=bind, insecure=True, **GATEWAY))
        assert site.mesh("up").wait(PATIENCE) == 3, site.log()
    assert f"127.0.0.1:{taken}" in site.log()
    assert "Traceback" not in site.log()
