"""A whole service from its front door: what a client may ask for, and what it is told."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from email.message import Message
from time import monotonic
from typing import Any

import pytest
import zstandard
from site_runs import PATIENCE, SERVICES, Site, running, service_text, settings

FILE = settings(
    {"slow": "Slow", "echo": "Echo"},
    {"/slow": ["slow"], "/echo": ["echo"]},
    timeout="5s",
    compression=True,
)


class Door:
    """A running service, asked in plain HTTP."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def send(self, path: str, body: bytes, **headers: str) -> tuple[int, Message, bytes]:
        """One answer; ``x_priority`` is the header ``x-priority``."""
        lines = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.site.send("POST", path, body, lines)

    def post(self, path: str, value: object, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one answer."""
        status, _, body = self.send(path, json.dumps(value).encode(), **headers)
        return status, json.loads(body)

    def waiting(self) -> int:
        """How many requests are in flight."""
        return int(self.site.metric("mesh_remaining_task"))


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("service")
    with running(folder, service_text("slow_and_echo"), FILE, start_new_session=True) as site:
        yield Door(site)


def test_a_client_that_has_little_time_is_told_when_it_is_over(door: Door) -> None:
    began = monotonic()
    status, answer = door.post("/slow", 1.0, x_request_timeout="200ms")
    took = monotonic() - began
    assert (status, answer["error"]["code"]) == (504, "deadline_exceeded")
    assert 0.2 <= took < 0.9
    assert door.post("/slow", 0.0, x_request_timeout="4")[0] == 200


def test_nobody_gets_more_time_than_the_gateway_gives(door: Door) -> None:
    began = monotonic()
    status, answer = door.post("/slow", 5.4, x_request_timeout="1h")
    assert (status, answer["error"]["retryable"]) == (504, True)
    assert 5.0 <= monotonic() - began < 9.0


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("x_request_timeout", "soon", "500ms"),
        ("x_request_timeout", "-1s", "above zero"),
        ("x_priority", "urgent", "normal"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(door: Door, name: str, value: str, hint: str) -> None:
    status, answer = door.post("/echo", 1, **{name: value})
    assert (status, answer["error"]["code"]) == (400, "bad_request")
    assert hint in answer["error"]["message"]
    assert value in answer["error"]["message"]


def test_the_urgent_overtake_those_that_wait(door: Door) -> None:
    def ask(priority: str) -> Future[tuple[int, Any]]:
        asked = pool.submit(door.post, "/slow", 0.1, x_priority=priority)
        before = len(pending)
        pending.append(asked)
        while door.waiting() <= before:  # so that they come in this order
            assert monotonic() < end
        return asked

    end = monotonic() + PATIENCE
    pending: list[Future[tuple[int, Any]]] = []
    with ThreadPoolExecutor(12) as pool:
        pending.append(pool.submit(door.post, "/slow", 1.0))
        while not door.waiting():
            assert monotonic() < end
        normal = [ask("normal") for _ in range(6)]
        high = ask("high")
        places = [asked.result(PATIENCE) for asked in (*normal, high)]
    assert [status for status, _ in places] == [200] * 7
    *theirs, urgent = [place for _, place in places]
    assert sum(place < urgent for place in theirs) <= 2, places
    assert theirs == sorted(theirs)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("words", [10, 100_000])
def test_bodies_may_be_compressed_both_ways(door: Door, coding: str, words: int) -> None:
    value = json.dumps(["word"] * words).encode()
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[coding]
    unpack = {"gzip": gzip.decompress, "zstd": zstandard.ZstdDecompressor().decompress}[coding]
    both = {"content_encoding": coding, "accept_encoding": coding}
    status, headers, body = door.send("/echo", pack(value), **both)
    assert status == 200
    assert headers["content-encoding"] == (coding if words > 1000 else None)
    assert json.loads(unpack(body) if words > 1000 else body) == ["word"] * words


def test_pages_are_compressed_as_well(door: Door) -> None:
    gzipped = {"Accept-Encoding": "gzip"}
    _, headers, body = door.site.send("GET", "/metrics", headers=gzipped)
    assert headers["content-encoding"] == "gzip"
    assert b"mesh_remaining_task" in gzip.decompress(body)


def program(name: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A client in a process of its own, so that it competes for the processor as clients do."""
    command = [sys.executable, SERVICES / f"{name}.py", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def slowest(door: Door) -> float:
    """The 99th percentile of 300 small requests, in seconds."""
    return float(program("probes", door.site.port).communicate(timeout=PATIENCE)[0])


# One byte, repeated once, 65,000 times.
SHREDDED = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x0a\0\0x" * 65_000 + b"\x0b\0\0x"
BOMBS = {
    "gzip": ("gzip", gzip.compress(bytes(100_000_000)), b"413"),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress(bytes(100_000_000)), b"413"),
    "shredded": ("zstd", SHREDDED, b"400"),
}


@pytest.mark.parametrize(
    ("kind", "throwers"), [("gzip", 1), ("gzip", 4), ("zstd", 4), ("shredded", 1)]
)
def test_a_bomb_is_refused_and_delays_nobody(door: Door, kind: str, throwers: int) -> None:
    coding, bomb, expected = BOMBS[kind]
    delays: list[float] = []
    while len(delays) < 4:  # another program may have taken the processor meanwhile
        quiet = slowest(door)
        throwing = [program("throws", door.site.port, coding, 1.2) for _ in range(throwers)]
        for each in throwing:
            assert each.stdin is not None
            each.stdin.write(bomb)
            each.stdin.close()
        delays.append(slowest(door) - quiet)
        for each in throwing:
            assert each.stdout is not None
            assert each.stdout.read().split() == [expected]
            each.stdout.close()
            assert each.wait(PATIENCE) == 0
        if delays[-1] < 0.02:
            break
    sys.stdout.write(f"{kind}, {throwers} throwing: {[round(1000 * d, 1) for d in delays]} ms\n")
    assert min(delays) < 0.02, delays
