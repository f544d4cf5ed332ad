"""`mesh` as process 1, as in a container: it takes SIGTERM, and takes in orphans."""

import contextlib
import os
import signal
import subprocess

import pytest
from site_runs import MESH, PATIENCE, Site, children, service_text, settings

from benchmarks.ports import free_port

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


@pytest.fixture(params=[["up"], ["gateway"], ["stage", "same"]], ids=lambda words: words[0])
def first(request, tmp_path):
    """Two process ids out here: of `unshare`, and of its child, which is process 1 in there."""
    if subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no own mount namespace: `unshare --pid --mount-proc` failed")
    bind = f"tcp://127.0.0.1:{free_port()}"
    file = settings({"same": "Echo"}, bind=bind, insecure=True)
    with contextlib.closing(Site(tmp_path, service_text("echo"), file)) as site:
        outer = site.start(*UNSHARE, "--kill-child", MESH, *request.param)
        if request.param == ["stage", "same"]:
            site.until(lambda: "is ready" in site.log())
        else:
            site.until(lambda: answers(site))
        yield site, outer, children(outer.pid)[0]


def answers(site):
    """Whether HTTP is served."""
    try:
        return site.send("GET", "/livez")[0] == 200
    except OSError:
        return False


def test_it_takes_in_orphans_and_sigterm(first):
    site, outer, inner = first
    before = children(inner)
    orphan = "sleep 0.5 & sleep 0.5 & sleep 0.5 &"
    subprocess.run(["nsenter", "-t", str(inner), "-p", "sh", "-c", orphan], check=True)
    assert len(children(inner)) == len(before) + 3
    site.until(lambda: children(inner) == before)  # the dead are listed, too
    os.kill(inner, signal.SIGTERM)
    assert outer.wait(PATIENCE) == 0
