"""Clients that press on a whole service: what they cost it, and what they cost the others."""

import contextlib

import pytest
from site_runs import rss, running

MIB = 1 << 20

SERVICE = """
from mesh import Worker


class Echo(Worker):
    def deserialize(self, body):
        return body

    def forward(self, value):
        return bytes(int(value[1:])) if value[:1] == b"!" else value

    def serialize(self, value):
        return value
"""
FILE = """
[gateway]
timeout = "20s"
capacity_bytes = "100MiB"
compression = true

[stages.echo]
worker = "service:Echo"

[routes]
"/inference" = ["echo"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("service"), SERVICE, FILE) as made:
        yield made


# --- bodies that never become whole ---------------------------------------------------------------

HEAD = b"POST /inference HTTP/1.1\r\nHost: x\r\n"


def stalled(number):
    """The first 9 of 10 MB; every other one in chunks."""
    if number % 2:
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (10 * MIB) + bytes(9 * MIB)
    return HEAD + b"Content-Length: %d\r\n\r\n" % (10 * MIB) + bytes(9 * MIB)


def fits(site, size):
    """Whether bodies of that size, ten at once, are let in."""
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(site.connect())
            client.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % size)
            if client.recv(12) != b"HTTP/1.1 100":
                return False
    return True


def test_bodies_that_never_become_whole_take_no_more_than_the_room_there_is(site):
    before = rss(site.pid)
    told = []
    with contextlib.ExitStack() as stack:
        for number in range(30):  # 300 MB, and there is room for 100
            client = stack.enter_context(site.connect())
            client.settimeout(0.3)
            client.sendall(stalled(number))
            try:
                told.append(client.recv(12))
            except TimeoutError:
                told.append(b"")
        assert rss(site.pid) - before < 160 * MIB
        with site.client() as client:
            assert client.get("/livez").status == 200
    assert set(told) == {b"", b"HTTP/1.1 429"}
    assert 8 <= told.count(b"") <= 12
    site.until(lambda: fits(site, 9 * MIB), "their room was not given back")
