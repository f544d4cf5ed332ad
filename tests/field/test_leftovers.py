"""What a worker leaves that would keep its process, and whoever takes in the ends of ours."""

import contextlib
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from site_runs import MESH, PATIENCE, running, service_text, settings, stage

from mesh import MeshError

KEEPER = service_text("keeper")


def keeper(how, worker="Keeper", timeout="1s"):
    stages = {"keeper": stage(worker, env=[{"LEAVES": how}])}
    return settings(stages, timeout=timeout, drain_grace="5s")


NAMED = {
    "thread": "threads that are no daemons: feeder",
    "atexit": "a function registered with atexit",
    "process": "multiprocessing children: helper (pid ",
    "unload": "its unload() (",
}


@pytest.mark.parametrize("how", NAMED)
def test_what_keeps_the_process_is_named_and_left(tmp_path, how):
    with running(tmp_path, KEEPER, keeper(how)) as site:
        began = monotonic()
        site.stop()
        assert site.service.wait(PATIENCE) == 0, site.log()
        assert monotonic() - began < 5.0
        (warning,) = [line for line in site.log().splitlines() if '"warning"' in line]
        assert NAMED[how] in warning
        assert not site.processes()
    if how in ("atexit", "unload"):
        assert "service.py:" in warning


LEAVER = service_text("leaver")


def test_a_worker_that_leaves_its_process_group_is_killed_like_any_other(tmp_path):
    file = keeper("", "Leaver", "60s")
    with running(tmp_path, LEAVER, file, ends=1) as site, ThreadPoolExecutor(1) as pool:

        def ask():
            with contextlib.suppress(MeshError), site.client() as client:
                client.post("/inference", 1)

        pool.submit(ask)
        site.until((tmp_path / "inside").exists, "it does not compute")
        site.stop()
        threading.Event().wait(1.2)
        site.service.send_signal(signal.SIGTERM)
        began = monotonic()
        site.until(lambda: not site.processes(), "somebody stayed")
        assert monotonic() - began < 5.0


def test_what_ends_by_itself_is_waited_for(tmp_path):
    with running(tmp_path, KEEPER, keeper("atexit-that-ends")) as site:
        site.stop()
        assert site.service.wait(PATIENCE) == 0
        assert '"warning"' not in site.log()
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("how", NAMED)
def test_a_killed_supervisor_leaves_no_replica_that_is_kept(tmp_path, how):
    with running(tmp_path, KEEPER, keeper(how), ends=-signal.SIGKILL) as site:
        os.kill(site.service.pid, signal.SIGKILL)
        site.until(lambda: not site.processes(), "somebody stayed")


def test_a_supervisor_that_is_killed_while_a_replica_is_kept_leaves_nobody(tmp_path):
    with running(tmp_path, KEEPER, keeper("thread"), ends=-signal.SIGKILL) as site:
        site.stop()
        site.until(lambda: "replica 1 of stage keeper has stopped" in site.log(), "not stopped")
        os.kill(site.service.pid, signal.SIGKILL)
        began = monotonic()
        site.until(lambda: not site.processes(), "somebody stayed")
        assert monotonic() - began < 5.0


def test_a_worker_that_exits_is_replaced_although_its_thread_goes_on(tmp_path):
    with running(tmp_path, KEEPER, keeper("thread")) as site, site.client() as client:
        before = client.infer("who")
        client.post("/inference", "exit")
        site.until(lambda: "exited with code 5 while computing" in site.log(), "it stayed")
        site.until(lambda: client.post("/inference", "who").ok, "none came for it")
        assert client.infer("who") != before


def test_a_worker_that_fails_is_reported_although_its_thread_goes_on(tmp_path):
    with pytest.raises(AssertionError, match="ended with code 3"):
        running(tmp_path, KEEPER, keeper("fails")).__enter__()


WHO = settings({"echo": "Who"})
IGNORING = ["env", "--ignore-signal=CHLD"]


def survives(site, how):
    """A replica is killed, and its successor serves."""
    with site.client() as client:
        before = set(site.replicas())
        started = len(before)  # HTTP opens with the first of them
        site.until(lambda: site.log().count("is ready after") == started, "one is still starting")
        os.kill(min(before), signal.SIGKILL)
        site.until(lambda: "restart in" in site.log(), "its end was not noticed")
        site.until(lambda: len(site.replicas()) == len(before), "none came for it")
        assert min(before) not in site.replicas()
        ready = len(before) + 1
        site.until(lambda: site.log().count("is ready after") == ready, "it is still starting")
        site.until(lambda: client.post("/inference", 1).ok, "it does not serve")
    assert how in site.log()


def test_a_service_that_was_started_with_sigchld_ignored_restarts_a_replica(tmp_path):
    with running(tmp_path, service_text("echo"), WHO, [*IGNORING, MESH, "up"]) as site:
        survives(site, "was killed by signal 9; restart in")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("ignored", "was killed by signal 9"),
        ("thread", ""),
        ("handler", ""),
        ("other thread", "is gone, its exit code is unknown"),
    ],
)
def test_a_script_that_takes_in_every_childs_end_restarts_a_replica(tmp_path, how, said):
    (tmp_path / "script.py").write_text(service_text("takes_in_children"))
    command = ["env", f"TAKES_IN={how}", sys.executable, "script.py"]
    with running(tmp_path, service_text("echo"), WHO, command) as site:
        survives(site, said)
    site.until(lambda: not site.processes(), "somebody stayed")
