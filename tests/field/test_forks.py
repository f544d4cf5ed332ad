"""Workers that fork: their children live and die by themselves, and the replica notices nothing."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from site_runs import Site, is_running, running, service_text, settings, stage, until

from benchmarks.ports import free_port

SERVICE = service_text("forks")
FILE = settings({"forks": stage("Forks", timeout="30s")}, timeout="60s")
RESULTS = {
    "fork_pool": [2, 4],
    "spawn_pool": [2, 4],
    "terminate": -signal.SIGTERM,
    "interrupt": 7,
    "executor": [2, 4],
    "lasting_executor": [2, 4],
    "exits": 3,
    "exits_by_name": 5,
    "returns": 70,
    "raises": 70,
    "terminal": 4,
    "command": 0,
    "prepared_command": -signal.SIGTERM,
}


def shared(pid):
    """What a process has open that could keep something of its parent's alive."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closing what it does not need
            found |= {os.readlink(path)} if path.name > "2" else set()
    return {name for name in found if name.startswith(("socket:", "pipe:")) or "meshline" in name}


def child_of(service):
    """Have the parent script fork."""
    service.stdin.write(b"\n")
    service.stdin.flush()
    return int(service.stdout.readline())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """One service for all ways to fork; it must end promptly and in order."""
    with running(tmp_path_factory.mktemp("forks"), SERVICE, FILE) as site:
        yield site
        began = time.monotonic()
        site.stop()
        site.until(lambda: not is_running(site.pid), "the gateway has not ended")
    assert time.monotonic() - began < 20, site.log()


@pytest.mark.parametrize("way", RESULTS)
def test_a_replica_does_not_notice_the_death_of_what_it_forked(site, way):
    with site.client() as client:
        times = 2 if way == "spawn_pool" else 20
        answers = [client.infer(way) for _ in range(times)]
        result, pid = answers[0]
        assert result == RESULTS[way]
        assert answers == [[result, pid]] * times
        assert client.infer("exits")[1] == pid  # still the same process
    assert "restart" not in site.log()
    assert "draining" not in site.log()


def test_a_child_that_comes_back_from_forward_says_so(site):
    with site.client() as client:
        client.infer("returns")
    site.until(
        lambda: "a forked child returned from the worker's code" in site.log(), "nothing was said"
    )
    assert "os._exit" in site.log()


def test_a_child_that_outlives_the_replica_holds_nothing_of_it(tmp_path):
    stages = {"first": stage("First", feed=f"tcp://127.0.0.1:{free_port()}"), "second": "Second"}
    bind = {"bind": f"tcp://127.0.0.1:{free_port()}", "insecure": True}
    file = settings(stages, **bind, timeout="60s", restart_grace="60s")
    with running(tmp_path, service_text("forking_pipeline"), file) as site, site.client() as client:
        first, child = client.infer("leave")
        try:
            until(lambda: shared(child) == set())
            os.kill(first, signal.SIGKILL)
            site.until(lambda: site.log().count("of stage first is ready") == 2, "no restart")
            client.wait_ready()
            assert client.infer("?") != first  # it listens where the dead one did
            assert is_running(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_child_of_the_parent_script_holds_nothing_of_the_service(tmp_path):
    site = Site(tmp_path, service_text("forking_script"))
    with contextlib.closing(site):
        service = site.script(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        site.wait_ready()
        with service.stdin, service.stdout, site.client() as client:
            replica = client.infer("?")[1]
            child, other = (child_of(service) for _ in range(2))
            try:
                until(lambda: shared(child) == set())
                os.kill(other, signal.SIGTERM)  # which is not meant for its parent
                until(lambda: not is_running(other))
                assert client.infer("?")[1] == replica
                service.kill()
                service.wait()
                until(lambda: not is_running(replica))
                assert is_running(child)
            finally:
                os.kill(child, signal.SIGKILL)
