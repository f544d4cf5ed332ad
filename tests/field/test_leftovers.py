"""What a worker leaves that would keep its process, and whoever takes in the ends of ours."""

import contextlib
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from example_runs import MESH
from site_runs import PATIENCE, processes_of, running

from mesh import MeshError

KEEPER = """
import atexit
import multiprocessing
import os
import subprocess
import threading
import time

from mesh import Worker

HOW = os.environ["LEAVES"]


def for_ever():
    while True:
        time.sleep(1)


class Keeper(Worker):
    def __init__(self):
        if HOW == "thread":
            threading.Thread(target=for_ever, name="feeder").start()
        elif HOW == "atexit":
            atexit.register(for_ever)
        elif HOW == "process":
            multiprocessing.get_context("spawn").Process(target=for_ever, name="helper").start()
        elif HOW == "atexit-that-ends":
            atexit.register(lambda: (time.sleep(0.2), open("ended", "w").close()))
        elif HOW == "fails":
            threading.Thread(target=for_ever, name="feeder").start()
            raise RuntimeError("no device")
        self.child = subprocess.Popen(["sleep", "3600"])

    def forward(self, value):
        if value == "exit":
            raise SystemExit(5)
        return os.getpid()

    def unload(self):
        if HOW == "unload":
            for_ever()
"""
FILE = """
[gateway]
timeout = "1s"
drain_grace = "5s"

[stages.keeper]
worker = "service:Keeper"
env = [{{ LEAVES = "{how}" }}]

[routes]
"/inference" = ["keeper"]
"""
NAMED = {
    "thread": "threads that are no daemons: feeder",
    "atexit": "a function registered with atexit",
    "process": "multiprocessing children: helper (pid ",
    "unload": "its unload() (",
}


@pytest.mark.parametrize("how", NAMED)
def test_what_keeps_the_process_is_named_and_left(tmp_path, how):
    with running(tmp_path, KEEPER, FILE.format(how=how)) as site:
        began = monotonic()
        site.stop()
        assert site.service.wait(PATIENCE) == 0, site.log()
        assert monotonic() - began < 5.0
        (warning,) = [line for line in site.log().splitlines() if '"warning"' in line]
        assert NAMED[how] in warning
        assert not processes_of(site.runs)
    if how in ("atexit", "unload"):
        assert "service.py:" in warning


LEAVER = """
import ctypes
import os

from mesh import Worker


class Leaver(Worker):
    def forward(self, value):
        os.setpgid(0, os.getpgid(os.getppid()))
        open("inside", "w").close()
        ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock
"""


def test_a_worker_that_leaves_its_process_group_is_killed_like_any_other(tmp_path):
    file = FILE.format(how="").replace("Keeper", "Leaver").replace('"1s"', '"60s"')
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
        site.until(lambda: not processes_of(site.runs), "somebody stayed")
        assert monotonic() - began < 5.0


def test_what_ends_by_itself_is_waited_for(tmp_path):
    with running(tmp_path, KEEPER, FILE.format(how="atexit-that-ends")) as site:
        site.stop()
        assert site.service.wait(PATIENCE) == 0
        assert '"warning"' not in site.log()
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("how", NAMED)
def test_a_killed_supervisor_leaves_no_replica_that_is_kept(tmp_path, how):
    with running(tmp_path, KEEPER, FILE.format(how=how), ends=-signal.SIGKILL) as site:
        os.kill(site.service.pid, signal.SIGKILL)
        site.until(lambda: not processes_of(site.runs), "somebody stayed")


def test_a_supervisor_that_is_killed_while_a_replica_is_kept_leaves_nobody(tmp_path):
    with running(tmp_path, KEEPER, FILE.format(how="thread"), ends=-signal.SIGKILL) as site:
        site.stop()
        site.until(lambda: "replica 1 of stage keeper has stopped" in site.log(), "not stopped")
        os.kill(site.service.pid, signal.SIGKILL)
        began = monotonic()
        site.until(lambda: not processes_of(site.runs), "somebody stayed")
        assert monotonic() - began < 5.0


def test_a_worker_that_exits_is_replaced_although_its_thread_goes_on(tmp_path):
    with running(tmp_path, KEEPER, FILE.format(how="thread")) as site, site.client() as client:
        before = client.infer("who")
        client.post("/inference", "exit")
        site.until(lambda: "exited with code 5 while computing" in site.log(), "it stayed")
        site.until(lambda: client.post("/inference", "who").ok, "none came for it")
        assert client.infer("who") != before


def test_a_worker_that_fails_is_reported_although_its_thread_goes_on(tmp_path):
    with pytest.raises(AssertionError, match="ended with code 3"):
        running(tmp_path, KEEPER, FILE.format(how="fails")).__enter__()


ECHO = """
import os

from mesh import Worker


class Echo(Worker):
    def forward(self, value):
        return os.getpid()
"""
SCRIPT = '''
import os
import signal
import threading
import time

from mesh import Server, Worker
from service import Echo


def steal(*_):
    """Take in every child's end, whoever waits for it."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] or time.sleep(0.001)
    except ChildProcessError:
        return time.sleep(0.001)


def steal_for_ever():
    while True:
        steal()


if __name__ == "__main__":
    if {how!r} == "thread":
        threading.Thread(target=steal_for_ever, daemon=True).start()
    elif {how!r} == "handler":
        signal.signal(signal.SIGCHLD, steal)
    elif {how!r} == "ignored":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = Server()
    server.append_worker(Echo, num=2)
    if {how!r} == "other thread":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        running = threading.Thread(target=server.run)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        running.start()
        running.join()
    server.run()
    assert {how!r} != "ignored" or signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
'''
PLAIN = """
[stages.echo]
worker = "service:Echo"

[routes]
"/inference" = ["echo"]
"""
IGNORING = ["env", "--ignore-signal=CHLD"]


def survives(site, how):
    """A replica is killed, and its successor serves."""
    with site.client() as client:
        before = set(site.replicas())
        os.kill(min(before), signal.SIGKILL)
        site.until(lambda: "restart in" in site.log(), "its end was not noticed")
        site.until(lambda: len(site.replicas()) == len(before), "none came for it")
        assert min(before) not in site.replicas()
        site.until(lambda: client.post("/inference", 1).ok, "it does not serve")
    assert how in site.log()


def test_a_service_that_was_started_with_sigchld_ignored_restarts_a_replica(tmp_path):
    with running(tmp_path, ECHO, PLAIN, [*IGNORING, MESH, "up"]) as site:
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
    (tmp_path / "script.py").write_text(SCRIPT.format(how=how))
    with running(tmp_path, ECHO, PLAIN, [sys.executable, "script.py"]) as site:
        survives(site, said)
    site.until(lambda: not processes_of(site.runs), "somebody stayed")
