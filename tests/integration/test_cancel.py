"""Clients that hang up: no queue keeps what nobody wants any more, and nobody computes it."""

import contextlib
import gzip
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from site_runs import PATIENCE, metric, settings, shared_site, stage

MANY = 24  # more than the last stage takes, so that every queue on the way holds some
TOLD = 0.25  # seconds after which every queue has heard who left, also on a busy machine

STAGES = {name.lower(): stage(name, max_batch_size=4) for name in ("First", "Second")}
FILE = settings(STAGES, timeout="30s", compression=True)


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


site = shared_site("notes_items", FILE)


def infer(site, item):
    with site.client() as client:
        return client.infer(item)


def computed(site, stage):
    path = site.folder / stage
    return path.read_text().split() if path.exists() else []


def in_flight(site):
    return site.metric("mesh_remaining_task")


def ask(site, item, way="plain"):
    """A connection on which this item was asked for; nobody reads the answer."""
    body = json.dumps(item).encode()
    connection = site.connect()
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
def held_up(site):
    """The last stage computes one item; yields what lets it go on, and returns its answer."""
    name = f"hold{sum(item.startswith('hold') for item in computed(site, 'second'))}"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(infer, site, name)
        site.until(lambda: name in computed(site, "second"), "never begun")

        def let_go():
            (site.folder / name).touch()
            return asked.result(PATIENCE)

        try:
            yield let_go
        finally:
            (site.folder / name).touch()


def leave_and_count(site, name, settle, grace, way="plain"):
    """Many wait behind one and hang up; `grace` seconds later that one is over.

    The first stage is free, and computes for whoever is still there until it hears of their end.

    Returns:
        How many of them the last stage computed all the same, and the first after it was told.
    """
    with held_up(site) as let_go:
        visitors = [ask(site, f"{name}-{number}", way) for number in range(MANY)]
        site.until(lambda: in_flight(site) == MANY + 1, "not all have come")
        threading.Event().wait(settle)
        for visitor in visitors:
            visitor.close()
        threading.Event().wait(min(grace, TOLD))
        before = len(computed(site, "first"))
        threading.Event().wait(grace - min(grace, TOLD))
        let_go()
    for visitor in visitors if way == "http2" else ():
        visitor.leave()
    assert infer(site, f"{name}-last") == f"{name}-last"
    site.until(lambda: in_flight(site) == 0, "something is still in flight")
    late = [item for item in computed(site, "first")[before:] if not item.endswith("last")]
    mine = [item for item in computed(site, "second") if item.startswith(name)]
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
    with held_up(site) as let_go, ThreadPoolExecutor(6) as pool:
        staying = [pool.submit(infer, site, f"stay-{number}") for number in range(6)]
        leaving = [ask(site, f"go-{number}") for number in range(6)]
        site.until(lambda: in_flight(site) == 13, "not all have come")
        for each in leaving:
            each.close()
        threading.Event().wait(0.25)
        let_go()
        answers = [each.result(PATIENCE) for each in staying]
    assert answers == [f"stay-{number}" for number in range(6)]
    assert not [item for item in computed(site, "second") if item.startswith("go-")]
