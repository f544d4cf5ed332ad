"""Clients that hang up: no queue keeps what nobody wants any more, and nobody computes it."""

import contextlib
import gzip
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from example_runs import MESH, environment, free_port, metric, wait_ready
from h2.config import H2Configuration
from h2.connection import H2Connection

from mesh import Client

PATIENCE = 40.0
MANY = 24  # more than the last stage takes, so that every queue on the way holds some
TOLD = 0.25  # seconds after which every queue has heard who left, also on a busy machine

SERVICE = '''
from pathlib import Path
from threading import Event

from mesh import Worker


class First(Worker):
    """Passes on what it gets, and writes down what it computed."""

    def forward(self, items):
        note("first", items)
        return items


class Second(Worker):
    """The same; an item that is to hold it up is over when its file is there."""

    def forward(self, items):
        note("second", items)
        for item in items:
            while item.startswith("hold") and not Path(item).exists():
                Event().wait(0.001)
        return items


def note(name, items):
    with open(name, "a") as computed:
        computed.write("".join(item + "\\n" for item in items))
'''
FILE = """
[gateway]
timeout = "30s"
compression = true

[stages.first]
worker = "service:First"
max_batch_size = 4

[stages.second]
worker = "service:Second"
max_batch_size = 4

[routes]
"/inference" = ["first", "second"]
"""


class Stream:
    """A request by HTTP/2; closing it resets the stream, and leaves the connection open."""

    def __init__(self, connection, body):
        self.connection, self.wire = connection, H2Connection(H2Configuration(client_side=True))
        head = {
            ":method": "POST",
            ":path": "/inference",
            ":scheme": "http",
            ":authority": "localhost",
        }
        self.wire.initiate_connection()
        self.wire.send_headers(1, list(head.items()))
        self.wire.send_data(1, body, end_stream=True)
        connection.sendall(self.wire.data_to_send())

    def close(self):
        self.wire.reset_stream(1, 8)  # CANCEL
        self.connection.sendall(self.wire.data_to_send())

    def leave(self):
        self.connection.close()


class Site:
    """A running service, and what its stages have computed."""

    def __init__(self, folder, port):
        self.folder, self.port = folder, port
        self.held = 0

    def client(self):
        return Client(f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    def infer(self, item):
        with self.client() as client:
            return client.infer(item)

    def computed(self, stage):
        path = self.folder / stage
        return path.read_text().split() if path.exists() else []

    def until(self, true, what):
        end = monotonic() + PATIENCE
        while not true():
            assert monotonic() < end, what
            threading.Event().wait(0.005)

    def in_flight(self):
        with self.client() as client:
            return metric(client, "mesh_remaining_task")

    def ask(self, item, way="plain"):
        """A connection on which this item was asked for; nobody reads the answer."""
        body = json.dumps(item).encode()
        connection = socket.create_connection(("127.0.0.1", self.port))
        if way == "http2":
            return Stream(connection, body)
        coding = b""
        if way == "gzip":
            body, coding = gzip.compress(body), b"Content-Encoding: gzip\r\n"
        connection.sendall(
            b"POST /inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n%b"
            % (len(body), coding, body)
        )
        return connection

    @contextlib.contextmanager
    def held_up(self):
        """The last stage computes one item; yields what lets it go on, and returns its answer."""
        self.held += 1
        name = f"hold{self.held}"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self.infer, name)
            self.until(lambda: name in self.computed("second"), "never begun")

            def let_go():
                (self.folder / name).touch()
                return asked.result(PATIENCE)

            try:
                yield let_go
            finally:
                (self.folder / name).touch()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder, runs = tmp_path_factory.mktemp("service"), tempfile.mkdtemp(prefix="r")
    port = free_port()
    (folder / "service.py").write_text(SERVICE)
    (folder / "mesh.toml").write_text(FILE)
    log = folder / "log"
    with log.open("wb") as out:
        service = subprocess.Popen(
            [MESH, "up"],
            cwd=folder,
            env=environment(port) | {"XDG_RUNTIME_DIR": runs},
            stdout=out,
            stderr=out,
        )
    try:
        made = Site(folder, port)
        with made.client() as client:
            wait_ready(client, service, log)
        yield made
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE) == 0, log.read_text()
    finally:
        service.kill()
        service.wait()
        shutil.rmtree(runs)


def leave_and_count(site, name, settle, grace, way="plain"):
    """Many wait behind one and hang up; `grace` seconds later that one is over.

    The first stage is free, and computes for whoever is still there until it hears of their end.

    Returns:
        How many of them the last stage computed all the same, and the first after it was told.
    """
    with site.held_up() as let_go:
        visitors = [site.ask(f"{name}-{number}", way) for number in range(MANY)]
        site.until(lambda: site.in_flight() == MANY + 1, "not all have come")
        threading.Event().wait(settle)
        for visitor in visitors:
            visitor.close()
        threading.Event().wait(min(grace, TOLD))
        before = len(site.computed("first"))
        threading.Event().wait(grace - min(grace, TOLD))
        let_go()
    for visitor in visitors if way == "http2" else ():
        visitor.leave()
    assert site.infer(f"{name}-last") == f"{name}-last"
    site.until(lambda: site.in_flight() == 0, "something is still in flight")
    late = [item for item in site.computed("first")[before:] if not item.endswith("last")]
    mine = [item for item in site.computed("second") if item.startswith(name)]
    return len(mine) - 1, len(late)


@pytest.mark.parametrize("settle", [0.0, 0.3])
def test_nothing_is_computed_for_clients_that_left(site, settle):
    with site.client() as client:
        assert leave_and_count(site, f"left{settle:.0e}", settle, grace=0.5) == (0, 0)
        left = metric(client, "mesh_throughput_total", code="499")
        assert left % MANY == 0  # all of them, and nobody else
        assert metric(client, "mesh_cancelled_total", where="gateway") == left


@pytest.mark.parametrize("way", ["http2", "gzip"])
def test_however_they_asked(site, way):
    assert leave_and_count(site, f"way-{way}", 0.3, 0.5, way) == (0, 0)


def test_the_last_queue_forgets_them_soon(site):
    """The longest time after which the last stage still held some, and the next one tried."""
    graces = (0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.007, 0.010, 0.025, 0.100, 0.250)
    held = {}
    for grace in graces:
        held[grace], _ = leave_and_count(site, f"soon{grace}", 0.1, grace)
        sys.stdout.write(f"{held[grace]} of {MANY} computed {1000 * grace:g} ms after they left\n")
    last = max((grace for grace in graces if held[grace]), default=0.0)
    assert last < 0.250, "after a quarter of a second the last stage still held some"
    forgotten = next(grace for grace in graces if grace > last)
    sys.stdout.write(f"every queue had forgotten them within {1000 * forgotten:g} ms\n")


def test_those_that_stay_are_served(site):
    with site.held_up() as let_go, ThreadPoolExecutor(6) as pool:
        staying = [pool.submit(site.infer, f"stay-{number}") for number in range(6)]
        leaving = [site.ask(f"go-{number}") for number in range(6)]
        site.until(lambda: site.in_flight() == 13, "not all have come")
        for each in leaving:
            each.close()
        threading.Event().wait(0.25)
        let_go()
        answers = [each.result(PATIENCE) for each in staying]
    assert answers == [f"stay-{number}" for number in range(6)]
    assert not [item for item in site.computed("second") if item.startswith("go-")]
