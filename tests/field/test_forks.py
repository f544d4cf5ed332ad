"""Workers that fork: their children live and die by themselves, and the replica notices nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from example_runs import environment, free_port, wait_ready
from site_runs import PATIENCE, running

from mesh import Client

SERVICE = """
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import time

from mesh import ClientError, Worker

fork = multiprocessing.get_context("fork")


def double(number):
    return 2 * number


def sleep():
    time.sleep(60)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Forks(Worker):
    def __init__(self):
        if os.fork() == 0:
            return  # by mistake: it must not become a second replica
        self.lasting = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)

    def forward(self, how):
        return [getattr(self, how)(), os.getpid()]

    def fork_pool(self):
        with fork.Pool(2) as pool:  # leaving it terminates the two
            return pool.map(double, [1, 2])

    def spawn_pool(self):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(double, [1, 2])

    def terminate(self):
        child = fork.Process(target=sleep)
        child.start()
        child.terminate()
        child.join()
        return child.exitcode

    def interrupt(self):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, b".")
                sleep()
            except KeyboardInterrupt:
                os._exit(7)
        os.read(read, 1)  # Python loses one that comes while its hooks run
        os.close(read)
        os.close(write)
        os.kill(pid, signal.SIGINT)
        return ended(pid)

    def executor(self):
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
            return list(pool.map(double, [1, 2]))

    def lasting_executor(self):
        return list(self.lasting.map(double, [1, 2]))

    def exits(self):
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        return ended(pid)

    def exits_by_name(self):
        pid = os.fork()
        if pid == 0:
            sys.exit(5)
        return ended(pid)

    def returns(self):
        pid = os.fork()
        return None if pid == 0 else ended(pid)

    def raises(self):
        pid = os.fork()
        if pid == 0:
            raise ClientError("not for the client")
        return ended(pid)

    def terminal(self):
        pid, terminal = os.forkpty()
        if pid == 0:
            os._exit(4)
        code = ended(pid)  # before the terminal is closed, which would end it as well
        os.close(terminal)
        return code

    def command(self):
        return subprocess.run(["sleep", "0"]).returncode

    def prepared_command(self):
        child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)
        child.terminate()
        return child.wait()
"""
FILE = """
[stages.forks]
worker = "service:Forks"
timeout = "30s"

[gateway]
timeout = "60s"

[routes]
"/inference" = ["forks"]
"""
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


PIPELINE = """
import os
import time

from mesh import Worker


class First(Worker):
    def forward(self, how):
        if how != "leave":
            return os.getpid()
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        return [os.getpid(), child]


class Second(Worker):
    def forward(self, value):
        return value
"""
PIPELINE_FILE = """
[stages.first]
worker = "service:First"
feed = "tcp://127.0.0.1:{feed}"

[stages.second]
worker = "service:Second"

[gateway]
bind = "tcp://127.0.0.1:{bind}"
insecure = true
timeout = "60s"
restart_grace = "60s"

[routes]
"/inference" = ["first", "second"]
"""
SCRIPT = """
import os
import sys
import threading
import time

from mesh import Server, Worker


class Echo(Worker):
    def forward(self, value):
        return [value, os.getpid()]


def fork_on_demand():
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()
        print(child, flush=True)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    threading.Thread(target=fork_on_demand, daemon=True).start()
    server.run()
"""


def shared(pid):
    """What a process has open that could keep something of its parent's alive."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it is closing what it does not need
            found |= {os.readlink(path)} if path.name > "2" else set()
    return {name for name in found if name.startswith(("socket:", "pipe:")) or "meshline" in name}


def is_gone(pid):
    return not Path(f"/proc/{pid}").exists()


def wait_until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def child_of(service):
    """Have the parent script fork."""
    service.stdin.write(b"\n")
    service.stdin.flush()
    return int(service.stdout.readline())


def end(pid):
    """Kill a child that outlived its parent."""
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """One service for all ways to fork; it must end promptly and in order."""
    with running(tmp_path_factory.mktemp("forks"), SERVICE, FILE) as site:
        yield site
        began = time.monotonic()
        site.stop()
        site.until(lambda: not Path(f"/proc/{site.pid}").exists(), "the gateway has not ended")
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
    site.until(lambda: "a forked child came back" in site.log(), "nothing was said")
    assert "os._exit" in site.log()


def test_a_child_that_outlives_the_replica_holds_nothing_of_it(tmp_path):
    file = PIPELINE_FILE.format(feed=free_port(), bind=free_port())
    with running(tmp_path, PIPELINE, file) as site, site.client() as client:
        first, child = client.infer("leave")
        try:
            wait_until(lambda: shared(child) == set())
            os.kill(first, signal.SIGKILL)
            site.until(lambda: site.log().count("of stage first is ready") == 2, "no restart")
            client.wait_ready()
            assert client.infer("?") != first  # it listens where the dead one did
            assert Path(f"/proc/{child}").exists()
        finally:
            end(child)


def test_a_child_of_the_parent_script_holds_nothing_of_the_service(tmp_path):
    port, file = free_port(), tmp_path / "service.py"
    file.write_text(SCRIPT)
    command = [sys.executable, file, "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        service = subprocess.Popen(command, cwd=tmp_path, env=environment(port), **pipes)
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_ready(client, service, tmp_path / "log")
            replica = client.infer("?")[1]
            child, other = (child_of(service) for _ in range(2))
            wait_until(lambda: shared(child) == set())
            os.kill(other, signal.SIGTERM)  # which is not meant for its parent
            wait_until(lambda: is_gone(other))
            assert client.infer("?")[1] == replica
            service.kill()
            service.wait()
            wait_until(lambda: is_gone(replica))
            assert not is_gone(child)
    finally:
        end(child)
        service.kill()
        service.communicate()
