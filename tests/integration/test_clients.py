"""Other people's clients, and raw sockets, against a whole service: nothing stands in for anything.

What they meet besides the wire is admission, compression, the mesh and a worker.
"""

import asyncio
import contextlib
import gzip
import json
import re
import shutil
import socket
import subprocess

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from site_runs import settings, shared_site, stage

FILE = settings(
    {"echo": stage("Raw", max_batch_size=16)}, timeout="10s", compression=True, max_body="1MiB"
)
LARGE = 700_000
site = shared_site("raw", FILE)


def need(tool):
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool}: it is the client of this test")


# --- curl -----------------------------------------------------------------------------------------

WAYS = {
    "HTTP/1.1": (),
    "HTTP/1.0": ("--http1.0",),
    "in chunks": ("-H", "Transfer-Encoding: chunked"),
    "waiting for a word": ("-H", "Expect: 100-continue"),
    "asking for h2c": ("--http2",),
    "HTTP/2": ("--http2-prior-knowledge",),
}


def curl(site, path, *options, body=None):
    """Status and body of what curl gets in the end."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", "-w", "%{http_code}"]
        + ([] if body is None else ["--data-binary", "@-"])
        + [*options, f"{site.url}{path}"],
        input=body,
        capture_output=True,
        check=True,
    )
    return int(done.stdout[-3:]), done.stdout[:-3]


@pytest.mark.parametrize("way", WAYS)
def test_curl_is_answered_in_every_way_that_it_speaks(site, way):
    need("curl")
    for size in (0, 10, LARGE):
        assert curl(site, "/inference", *WAYS[way], body=b"x" * size) == (200, b"x" * size)
    if way != "in chunks":  # which none would follow
        assert curl(site, "/livez", *WAYS[way])[0] == 200


@pytest.mark.parametrize("way", WAYS)
def test_curl_reads_every_refusal(site, way):
    need("curl")
    for _ in range(5):
        status, told = curl(site, "/inference", *WAYS[way], body=bytes(8 << 20))
        assert (status, json.loads(told)["error"]["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("way", ["HTTP/1.1", "HTTP/2"])
def test_curl_packs_and_unpacks(site, way):
    need("curl")
    body = b"hello " * 50_000
    lines = ("--compressed", "-H", "Content-Encoding: gzip")
    assert curl(site, "/inference", *WAYS[way], *lines, body=gzip.compress(body)) == (200, body)
    bomb = gzip.compress(bytes(50_000_000))
    assert curl(site, "/inference", *WAYS[way], *lines, body=bomb)[0] == 413


# --- httpx, h2load, wrk ---------------------------------------------------------------------------


def test_httpx_has_many_under_way_by_http_2(site):
    async def ask():
        limits = httpx.Limits(max_connections=4)
        async with httpx.AsyncClient(http1=False, http2=True, timeout=30, limits=limits) as client:
            bodies = [b"%d" % number * 500 for number in range(200)]
            url = f"{site.url}/inference"
            return bodies, await asyncio.gather(*[client.post(url, content=b) for b in bodies])

    bodies, answers = asyncio.run(ask())
    assert [answer.content for answer in answers] == bodies
    assert {(answer.http_version, answer.status_code) for answer in answers} == {("HTTP/2", 200)}


def test_h2load_loses_nothing(site, tmp_path):
    need("h2load")
    body = tmp_path / "body"
    body.write_bytes(b"x" * 1000)
    command = ["h2load", "-n", "2000", "-c", "4", "-m", "50", "-d", body, f"{site.url}/inference"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "2000 done, 2000 succeeded, 0 failed" in done.stdout, done.stdout
    assert "status codes: 2000 2xx" in done.stdout


def test_wrk_loses_nothing(site, tmp_path):
    need("wrk")
    script = tmp_path / "post.lua"
    script.write_text('wrk.method = "POST"\nwrk.body = string.rep("x", 1000)\n')
    command = ["wrk", "-t1", "-c64", "-d2s", "-s", script, f"{site.url}/inference"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    assert int(re.search(r"(\d+) requests in", done.stdout)[1]) > 500


# --- raw sockets ----------------------------------------------------------------------------------

HEAD = b"POST /inference HTTP/1.1\r\nHost: localhost\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\nhi"
FRAGMENTS = [
    WHOLE,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /metrics HTTP/1.0\r\n\r\n",
    HEAD,
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Request-Timeout: soon\r\n",
    b"Host: localhost\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"\0",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0\0\0\x04\0\0\0\0\0",
]
ANSWERS = {100, 200, 400, 404, 405, 408, 413, 415, 417, 431, 501, 505}


@given(
    st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=40), min_size=1, max_size=8),
    st.lists(st.integers(1, 60), max_size=4),
)
def test_whatever_is_said_is_answered_in_http_and_others_notice_nothing(site, said, cuts):
    whole = b"".join(said)
    with site.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(0.02)
        came = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            for cut in [*cuts, len(whole)]:
                client.sendall(whole[:cut])
                whole = whole[cut:]
            while piece := client.recv(1 << 16):
                came += piece
    if came and not b"".join(said).startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        assert came.startswith(b"HTTP/1.1 ")
        assert {int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", came)} <= ANSWERS
    with site.connect() as other:
        other.sendall(WHOLE)
        answer = b""
        while not answer.endswith(b"\r\n\r\nhi"):
            piece = other.recv(1 << 16)
            assert piece, answer
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
