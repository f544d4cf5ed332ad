"""`mesh` as process 1, as in a container: it takes SIGTERM, and takes in orphans."""

import os
import signal
import subprocess
from pathlib import Path
from time import monotonic, sleep

import pytest
from example_runs import MESH, environment, free_port

from mesh import Client, ServerError

PATIENCE = 30.0
SERVICE = """
from mesh import Worker


class Same(Worker):
    def forward(self, item):
        return item
"""
FILE = """
[gateway]
bind = "tcp://127.0.0.1:{bind}"
insecure = true
[stages.same]
worker = "service:Same"
[routes]
"/inference" = ["same"]
"""
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


@pytest.fixture(params=[["up"], ["gateway"], ["stage", "same"]], ids=lambda words: words[0])
def first(request, tmp_path):
    """Two process ids out here: of `unshare`, and of its child, which is process 1 in there."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no own mount namespace: `unshare --pid --mount-proc` failed")
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "mesh.toml").write_text(FILE.format(bind=free_port()))
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as out:
        outer = subprocess.Popen(
            [*UNSHARE, "--kill-child", MESH, *request.param],
            env=environment(port),
            cwd=tmp_path,
            stdout=out,
            stderr=out,
        )
    try:
        if request.param == ["stage", "same"]:
            until(lambda: "is ready" in log.read_text(), log)
        else:
            until(lambda: answers(port), log)
        yield outer, children(outer.pid)[0]
    finally:
        outer.kill()
        outer.wait()


def answers(port):
    """Whether HTTP is served."""
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            return client.get("/livez").ok
    except ServerError:
        return False


def until(true, log):
    end = monotonic() + PATIENCE
    while not true():
        assert monotonic() < end, log.read_text()
        sleep(0.05)


def children(pid):
    """Process ids of a process's children."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


def test_it_takes_in_orphans_and_sigterm(first, tmp_path):
    outer, inner = first
    before = children(inner)
    orphan = "sleep 0.5 & sleep 0.5 & sleep 0.5 &"
    subprocess.run(["nsenter", "-t", str(inner), "-p", "sh", "-c", orphan], check=True)
    assert len(children(inner)) == len(before) + 3
    until(lambda: children(inner) == before, tmp_path / "log")  # the dead are listed, too
    os.kill(inner, signal.SIGTERM)
    assert outer.wait(PATIENCE) == 0
