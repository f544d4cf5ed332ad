"""Clients that press on a whole service: what they cost it, and what they cost the others."""

import contextlib
import socket
from time import monotonic

import pytest
from site_runs import rss, settings, shared_site

MIB = 1 << 20

FILE = settings({"echo": "Large"}, timeout="20s", capacity_bytes="100MiB", compression=True)
site = shared_site("raw", FILE)


# --- bodies that never become whole ---------------------------------------------------------------

HEAD = b"POST /inference HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
PING = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(body):
    """A whole request."""
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def stalled(number):
    """The first 9 of 10 MB; every other one in chunks."""
    if number % 2:
        return HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (10 * MIB) + bytes(9 * MIB)
    return HEAD + b"Content-Length: %d\r\n\r\n" % (10 * MIB) + bytes(9 * MIB)


def fits(site, size):
    """Whether bodies of that size, five at once, are let in."""
    with contextlib.ExitStack() as stack:
        for _ in range(5):
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
    assert 4 <= told.count(b"") <= 6  # half of it: the rest is for requests that are whole
    site.until(lambda: fits(site, 9 * MIB), "their room was not given back")


# --- more requests than anybody could answer at once ----------------------------------------------


def slowest(site, path="/livez", times=60):
    """The longest that one of so many requests takes, in seconds, one after another."""
    took = []
    with site.client() as client:
        client.get(path)
        for _ in range(times):
            began = monotonic()
            assert client.get(path).status == 200
            took.append(monotonic() - began)
    return max(took)


def test_a_quarter_of_a_megabyte_of_pipelined_requests_holds_nobody_up(site):
    """Parsed and answered at once, they held everybody up for six seconds."""
    many = 250_000 // len(GET)
    with site.connect() as client:
        client.sendall(GET * many)
        assert slowest(site) < 0.5
        answers = client.makefile("rb")
        for _ in range(200):
            assert read_answer(answers)[0] == 200
    with site.connect() as client:  # and all of them are answered
        client.sendall(PING * 500)
        answers = client.makefile("rb")
        assert {read_answer(answers)[0] for _ in range(500)} == {200}


def read_answer(stream):
    """Status and body of the next answer."""
    status = int(stream.readline().split()[1])
    lines = [line.decode().lower() for line in iter(lambda: stream.readline().strip(), b"")]
    [length] = [int(line.split(":")[1]) for line in lines if line.startswith("content-length")]
    return status, stream.read(length)


def test_a_client_that_does_not_read_costs_little_and_nobody_else_anything(site):
    """900 requests for answers of a megabyte, of which it takes none."""
    asked = post(b"!%d" % MIB)
    before = rss(site.pid)
    with site.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(asked * 900)
        end = monotonic() + 2.0
        sizes = []
        while monotonic() < end:
            assert slowest(site, times=20) < 0.5
            sizes.append(rss(site.pid) - before)
        assert max(sizes) < 60 * MIB, [size >> 20 for size in sizes]
        answers = client.makefile("rb")
        for _ in range(40):  # more than were ready: as it reads, it goes on
            status, body = read_answer(answers)
            assert (status, len(body)) == (200, MIB)


# --- floods by HTTP/2 -----------------------------------------------------------------------------


def frame(kind, payload=b"", flags=0, stream=0):
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def requests(number, path, flags=5):
    """HEADERS of that many requests, without bodies or (flags=4) with ones that never come."""
    fields = b"\x83\x86\x41\x01x\x04" + bytes([len(path)]) + path
    return b"".join([frame(1, fields, flags, 2 * at + 1) for at in range(number)])


FLOODS = {
    "requests beyond 100": requests(7900, b"/inference", 4),
    "requests that we must reset": b"".join(
        [
            frame(1, b"\x83\x86\x41\x01x\x04\x01/", 5, at) + frame(0, b"x", 0, at)
            for at in range(1, 9999, 2)
        ]
    ),
    "window updates": frame(8, b"\0\0\0\1") * 19_000,
    "tiny pieces": frame(1, b"\x83\x86\x41\x01x\x04\x01/", 4, 1) + frame(0, b"x", 0, 1) * 25_000,
    "expensive pages": requests(100, b"/metrics").replace(b"\x83\x86", b"\x82\x86"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames_holds_nobody_up(site, name):
    """A quarter of a megabyte of them at once; most end with the connection."""
    with site.connect() as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4) + FLOODS[name])
        assert slowest(site, times=30) < 0.5
        client.settimeout(1.0)
        came = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while piece := client.recv(1 << 20):
                came += piece
    kinds = []
    while came:
        end = 9 + int.from_bytes(came[:3], "big")
        kinds.append((came[3], came[13:17]))
        came = came[end:]
    calm = (7, b"\0\0\0\x0b") in kinds  # GOAWAY: ENHANCE_YOUR_CALM
    assert calm == (name != "expensive pages"), kinds[-5:]
