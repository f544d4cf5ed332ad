"""What a service says to those who send too much or too early, and to who describes it wrongly.

The rest of docs/bad_input.md is tested elsewhere; that page says where.
"""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from example_runs import MESH, environment, free_port, metric

from mesh import Client

PATIENCE = 40.0
LARGE = 8 << 20  # bytes: far more than sockets buffer
TIMES = 20
WAYS = {
    "declared": b"Content-Length: %d\r\n\r\n" % LARGE,
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % LARGE,
    "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    b"Content-Length: %d\r\n\r\n" % LARGE,
    "http2": b"",
}

SERVICE = """
from pathlib import Path
from threading import Event

from mesh import Worker


class Held(Worker):
    def forward(self, value):
        while value == "hold" and not Path("go").exists():
            Event().wait(0.001)
        return value
"""
FILE = """
[gateway]
timeout = "30s"
capacity = 1
restart_grace = "100ms"
{gateway}

[stages.held]
worker = "service:Held"

[routes]
"/inference" = ["held"]
"""


class Site:
    """A folder with a service, and what is started in it."""

    def __init__(self, folder):
        self.folder, self.runs, self.port = folder, tempfile.mkdtemp(prefix="r"), free_port()
        (folder / "service.py").write_text(SERVICE)
        self.describe()

    def describe(self, gateway="", old="", new=""):
        text = FILE.format(gateway=gateway)
        (self.folder / "mesh.toml").write_text(text.replace(old, new) if old else text)

    @contextlib.contextmanager
    def running(self, command):
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [MESH, command],
                cwd=self.folder,
                env=environment(self.port) | {"XDG_RUNTIME_DIR": self.runs},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()

    def log(self):
        return (self.folder / "log").read_text()

    def client(self):
        return Client(f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    def insist(self, way):
        """Send a large request whole before reading a word; status, headers and error."""
        if way == "http2":
            return self._insist_by_http2()
        head = b"POST /inference HTTP/1.1\r\nHost: localhost\r\n" + WAYS[way]
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
            client.sendall(head + bytes(LARGE))
            answer = client.makefile("rb").read()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(first.split()[1]), headers, json.loads(body)["error"]

    def _insist_by_http2(self):
        with httpx.Client(http1=False, http2=True, timeout=PATIENCE) as client:
            url = f"http://127.0.0.1:{self.port}/inference"
            answer = client.post(url, content=bytes(LARGE))
        return answer.status_code, answer.headers, answer.json()["error"]


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    shutil.rmtree(made.runs)


def until(true, process, site):
    for _ in range(int(PATIENCE / 0.02)):
        if true():
            return
        assert process.poll() is None, site.log()
        threading.Event().wait(0.02)
    raise AssertionError(site.log())


def is_open(site):
    try:
        socket.create_connection(("127.0.0.1", site.port)).close()
    except OSError:
        return False
    return True


# --- refused while they still send ----------------------------------------------------------------


def test_a_full_route_tells_every_client_that_still_sends(site):
    def hold():
        with site.client() as client:
            return client.infer("hold")

    with site.running("up") as service, ThreadPoolExecutor(1) as pool, site.client() as client:
        until(lambda: is_open(site), service, site)
        client.wait_ready(PATIENCE)
        held = pool.submit(hold)
        try:
            until(lambda: metric(client, "mesh_remaining_task") == 1, service, site)
            for way in list(WAYS) * TIMES:
                status, headers, error = site.insist(way)
                assert (status, error["code"]) == (429, "overloaded")
                assert int(headers["retry-after"]) >= 1
                assert error["retryable"]
        finally:
            (site.folder / "go").touch()
        assert held.result(PATIENCE) == "hold"
        assert client.infer("more") == "more"


def test_a_stage_that_is_gone_is_named_to_every_client_that_still_sends(site):
    site.describe(f'bind = "tcp://127.0.0.1:{free_port()}"\ninsecure = true')
    with site.running("gateway") as gateway:
        until(lambda: is_open(site), gateway, site)
        threading.Event().wait(0.2)
        for way in list(WAYS) * TIMES:
            status, headers, error = site.insist(way)
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
    site.describe(old=old, new=new)
    with site.running("up") as service:
        assert service.wait(PATIENCE) == code, site.log()
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
            site.describe(f'bind = "tcp://127.0.0.1:{taken}"\ninsecure = true')
        with site.running("up") as service:
            assert service.wait(PATIENCE) == 3, site.log()
    assert f"127.0.0.1:{taken}" in site.log()
    assert "Traceback" not in site.log()
