"""What clients have the gateway hold and do: bounded, charged, and nobody else's loss."""

import contextlib
import json
import resource
import socket
import sys
import threading
from time import monotonic

import pytest
from hpack import Encoder
from site_runs import rss, running, service_text, settings

FILE = settings({"sized": "Sized"}, timeout="20s")
MIB = 1 << 20
LARGE = 1_200_000  # bytes of an answer
HEAD = b"POST /inference HTTP/1.1\r\nHost: localhost\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with running(tmp_path_factory.mktemp("service"), service_text("raw"), FILE) as made:
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def report(line):
    """A measured figure, for `pytest -s`."""
    sys.stdout.write(f"{line}\n")


def post(body):
    return HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def deaf(site):
    """A client that reads nothing, and has little room."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", site.port))
    return client


def frame(kind, payload=b"", flags=0, stream=0):
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def streams(bodies, settings=b""):
    """A connection of HTTP/2 that asks for all of these at once."""
    names = (
        (":method", "POST"),
        (":path", "/inference"),
        (":scheme", "http"),
        (":authority", "localhost"),
    )
    encoder, sent = Encoder(), PREFACE + frame(4, settings)
    for at, body in enumerate(bodies):
        sent += frame(1, encoder.encode(names), 4, 2 * at + 1) + frame(0, body, 1, 2 * at + 1)
    return sent


def honest(site, times=20):
    """The statuses of whole requests, each on a connection of its own."""
    found = set()
    for _ in range(times):
        with site.connect() as client:
            client.sendall(post(b"5"))
            found.add(int(client.recv(100).split()[1]))
    return found


@contextlib.contextmanager
def watched(site):
    """Ask for a page again and again meanwhile; yields how long each time took, in seconds."""
    took, over = [], threading.Event()

    def watch():
        with site.connect() as client:
            while not over.is_set():
                began = monotonic()
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                client.recv(4096)
                took.append(monotonic() - began)
                over.wait(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield took
    finally:
        over.set()
        watching.join()


def test_chunks_of_one_byte_hold_nobody_up_and_are_refused(site):
    """They held up everybody for 0.3 to 1.4 s at a time."""
    with watched(site) as took, site.connect() as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        end = monotonic() + 1.0
        with contextlib.suppress(OSError):
            while monotonic() < end:
                client.sendall(b"1\r\nx\r\n" * 20_000)
        answer = client.recv(1000)
    assert b"HTTP/1.1 400 " in answer
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert "send larger chunks" in error["message"]
    report(f"the longest of {len(took)} others took {max(took) * 1000:.1f} ms")
    assert max(took) < 0.2  # on a busy machine; 12 ms alone
    assert dropped_for(site, "tiny_pieces") == 1


def dropped_for(site, cause):
    """How many connections were closed for that so far."""
    return site.metric_or_0("mesh_connections_dropped_total", cause=cause)


def peak(site, seconds):
    """The most memory that the gateway has meanwhile."""
    most, end = 0, monotonic() + seconds
    while monotonic() < end:
        most = max(most, rss(site.pid))
        threading.Event().wait(0.02)
    return most


@pytest.mark.parametrize("version", [1, 2])
def test_clients_that_read_nothing_have_so_much_together_and_are_dropped(site, version):
    """25 connections of HTTP/2 held 1.3 GiB, 40 of HTTP/1.1 600 MiB."""
    before = rss(site.pid)
    sent = post(b"%d" % LARGE) * 16 if version == 1 else streams([b"%d" % LARGE] * 100)
    dropped = dropped_for(site, "unread")
    with contextlib.ExitStack() as stack:
        for _ in range(40 if version == 1 else 25):
            stack.enter_context(deaf(site)).sendall(sent)
        most = peak(site, 8.0) - before
        report(f"HTTP/{version}: {most / MIB:.0f} MiB more at most")
        assert most < 400 * MIB
        assert honest(site) == {200}
        assert site.metric("mesh_unread_bytes") <= 256 * MIB
    assert dropped_for(site, "unread") > dropped
    site.until(lambda: site.metric("mesh_unread_bytes") == 0, "what was unread is still charged")


def test_bodies_that_do_not_come_keep_no_whole_request_out(site):
    """1,030 connections with one byte of a body each made every honest request 429."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.connect()) for _ in range(1_030)]
        for client in clients:
            client.sendall(HEAD + b"Content-Length: 10\r\n\r\nx")
        assert honest(site, 50) == {200}
        threading.Event().wait(2.0)  # the sweep has seen that they do not come
        assert honest(site, 50) == {200}
        told = []
        for client in clients:
            client.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                told.append(client.recv(12))
    assert set(told) == {b"HTTP/1.1 429"}
    assert len(told) == 1_030 - 256


def test_a_large_table_of_headers_is_not_taken_up(site):
    """With one of 4 GiB the 20,000th answer cost five times as much as the first."""
    settings = (1).to_bytes(2, "big") + (2**32 - 1).to_bytes(4, "big")
    with site.connect() as client:
        client.sendall(streams([b"5"] * 50, settings))
        client.settimeout(2.0)
        came = b""
        with contextlib.suppress(TimeoutError):
            while came.count(b"yyyyy") < 50:
                came += client.recv(1 << 16)
    assert came.count(b"yyyyy") == 50


def test_heads_of_a_great_many_lines_are_refused(site):
    before = rss(site.pid)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.connect()) for _ in range(200)]
        for client in clients:
            client.sendall(HEAD + b"a:\r\n" * 300)
        assert {client.recv(12) for client in clients} == {b"HTTP/1.1 431"}
        assert rss(site.pid) - before < 40 * MIB
