"""Bodies of 256 MB between containers, and what they cost each of them."""

import hashlib
import os
import re
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest
from engine import docker, project

from benchmarks.ports import free_port
from mesh import Client

HERE = Path(__file__).parent
PARTS = ("gateway", "pass", "digest")
LARGEST = 256 << 20
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def large():
    """The running service: a client for it, and a function that runs a Compose command."""
    port = free_port()
    run = project("meshline-large", HERE / "large" / "docker-compose.yml", PORT=port)
    docker("build", "--tag", "meshline-ocr", str(HERE.parents[1]))
    try:
        run("up", "--detach", "--build")
        with Client(f"http://127.0.0.1:{port}", timeout=120) as client:
            client.wait_ready(120)
            yield client, run
    finally:
        sys.stderr.write(run("logs", "--no-color"))
        run("down", "--volumes", "--timeout", "10")


def peaks(run):
    """MB that the processes of each container have had in memory at most, one by one."""
    found = {}
    for part in PARTS:
        (container,) = run("ps", "--quiet", part).split()
        said = docker("exec", container, "sh", "-c", "cat /proc/[0-9]*/status")
        found[part] = [int(peak) / 1024 for peak in re.findall(r"VmHWM:\s+(\d+) kB", said)]
    return {f"{part} {n}": peak for part, each in found.items() for n, peak in enumerate(each)}


def test_the_largest_body_passes_and_memory_stays_bounded(large, capsys):
    client, run = large
    body = os.urandom(1 << 20) * (LARGEST >> 20)
    digest = hashlib.sha256(body).hexdigest()
    small, slow, over = [], [], threading.Event()
    aside = threading.Thread(target=_small_ones, args=(client.url, small, slow, over))
    aside.start()
    took = []
    for _ in range(3):
        began = monotonic()
        assert client.post("/inference", body).json() == {"bytes": LARGEST, "sha256": digest}
        took.append(monotonic() - began)
    over.set()
    aside.join()
    used = peaks(run)
    with capsys.disabled():
        sys.stdout.write(
            f"\n256 MB through two stages: {min(took):.2f} to {max(took):.2f} s; meanwhile "
            f"{len(small)} small ones, the slowest {max(small):.2f} s; at most "
            + ", ".join(f"{part} {peak:.0f} MB" for part, peak in used.items() if peak > 40)
            + "\n"
        )
    assert not slow, slow
    assert all(peak < 5 * LARGEST / 1e6 for peak in used.values()), used


def _small_ones(url, small, failed, over):
    """Ask small things meanwhile; each takes some seconds, or is told of."""
    with Client(url, timeout=120) as client:
        while not over.is_set():
            began = monotonic()
            answer = client.post("/inference", b"small")
            small.append(monotonic() - began)
            if not answer.ok or answer.json()["bytes"] != 5:
                failed.append(answer)


def test_one_byte_more_is_refused(large):
    client, _ = large
    answer = client.post("/inference", bytes(LARGEST + 1))
    assert answer.status == 413
