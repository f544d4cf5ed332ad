"""`mesh up` as process 1, as in a container: it takes SIGTERM, and takes in orphans."""

import os
import signal
import subprocess
from pathlib import Path
from time import monotonic, sleep

import pytest
from example_runs import MESH, environment, free_port, wait_ready

from mesh import Client

PATIENCE = 30.0
SERVICE = """
import os
from pathlib import Path
from mesh import Worker


class Leaving(Worker):
    def forward(self, item):
        if item["do"] == "orphan":
            if not (child := os.fork()):
                for _ in range(item["count"]):
                    os.posix_spawn("/bin/sleep", ["sleep", "0.1"], {})
                os._exit(0)
            os.waitpid(child, 0)
        states = [state(path) for path in Path("/proc").glob("[0-9]*/stat")]
        return {"dead": states.count("Z"), "all": len(states), "first": os.getpid() < 100}


def state(path):
    try:
        return path.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
"""
FILE = """
[stages.leaving]
worker = "service:Leaving"
[routes]
"/inference" = ["leaving"]
"""
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


@pytest.fixture
def first(tmp_path):
    """A service whose process 1 is `mesh up`: a client, and the process's id out here."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no own mount namespace: `unshare --pid --mount-proc` failed")
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "mesh.toml").write_text(FILE)
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as out:
        outer = subprocess.Popen(
            [*UNSHARE, "--kill-child", MESH, "up"],
            env=environment(port),
            cwd=tmp_path,
            stdout=out,
            stderr=out,
        )
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_ready(client, outer, log)
            yield client, outer
    finally:
        outer.kill()
        outer.wait()


def test_it_takes_in_orphans_and_sigterm(first):
    client, outer = first
    before = client.infer({"do": "look"})
    assert before["first"]
    assert before["dead"] == 0
    client.infer({"do": "orphan", "count": 5})
    until = monotonic() + PATIENCE
    while (now := client.infer({"do": "look"})) != before:
        assert monotonic() < until, now
        sleep(0.05)
    (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    os.kill(int(inner), signal.SIGTERM)
    assert outer.wait(PATIENCE) == 0
