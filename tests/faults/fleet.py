"""A service of real processes to be harmed: gateways, and supervisors of each stage as if on hosts.

Two stages, so that every fault has a neighbour. What a request is answered with is a function of
its number; what its workers do on the way can be asked for in the request itself (see `SERVICE`).
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections import Counter
from pathlib import Path
from time import monotonic

from example_runs import MESH, free_port

PATIENCE = 40.0
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER: closing sends RST
STAGES = ("first", "second")

SERVICE = '''
import ctypes
import os
import select
import threading
import time

import numpy

from mesh import Worker

PAUSE = float(os.environ.get("FAULT_PAUSE", "0.005"))
VERSION = os.environ.get("MESH_VERSION", "")


def held(seconds):
    """Holds the interpreter's lock."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def does(deed, seconds):
    if deed == "sleep":
        open(f"computing.{os.getpid()}", "w").close()
        time.sleep(seconds)
        os.unlink(f"computing.{os.getpid()}")
    elif deed == "hang":
        while True:
            time.sleep(0.01)
    elif deed == "deaf":
        ctypes.CDLL(None).sleep(3600)
    elif deed == "hold":
        held(seconds)
    elif deed == "poison":
        os.abort()
    elif deed == "eat":
        bytearray(600 << 20)[::4096] = bytes(600 << 8)


class Step(Worker):
    """Adds what its stage adds; an item may ask for a deed at one stage."""

    adds = 0

    def __init__(self):
        fate = os.environ.get("FAULT_FATE", "")
        if fate == "unborn":
            raise RuntimeError("the device is not there")
        if fate == "fork" and os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        if fate == "crash":
            threading.Timer(0.5, os.abort).start()

    def forward(self, items):
        select.select([], [], [], PAUSE)  # not `sleep`, which a faked clock breaks
        for item in items:
            assert item.setdefault("version", VERSION) == VERSION
            if item.get("at") == type(self).__name__.lower():
                does(item["deed"], item.get("seconds", 0.0))
        return [{**item, "n": item["n"] * 2 + self.adds} for item in items]


class First(Step):
    adds = 1

    def forward(self, items):
        items = super().forward(items)
        for item in items:
            if "floats" in item:
                item["array"] = numpy.full(item["floats"], item["n"] % 1000, numpy.float32)
        return items


class Second(Step):
    adds = 7

    def forward(self, items):
        for item in items:
            if "floats" in item:
                assert item.pop("array").mean() == item["n"] % 1000
        return super().forward(items)
'''
FILE = """
[gateway]
timeout = "{timeout}"
capacity = 20000
drain_grace = "10s"
insecure = true

[stages.first]
worker = "service:First"
max_batch_size = 8
timeout = "{limit}"
kill_grace = "0.3s"

[stages.second]
worker = "service:Second"
max_batch_size = 8
timeout = "{limit}"
kill_grace = "0.3s"

[routes]
"/inference" = ["first", "second"]
"""


def answer(number):
    """What the service makes of a number."""
    return (number * 2 + 1) * 2 + 7


def parent(pid):
    """The process that started this one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Fleet:
    """Processes started from one folder.

    Args:
        folder: a place of its own.
        timeout: of the gateway, as its file has it.
        limit: of each stage.
        variables: of every process's environment.

    Attributes:
        gateways: processes by HTTP port.
        binds: where replicas dial, by HTTP port.
        hosts: supervisors, by a name of ours: `first@1`.
    """

    def __init__(self, folder, timeout="20s", limit="10s", variables=None):
        self.folder, self.variables = folder, variables or {}
        self.runs = Path(tempfile.mkdtemp(prefix="r"))
        self.gateways, self.binds, self.hosts = {}, {}, {}
        self.wanted = dict.fromkeys(STAGES, 0)
        self._counted = Counter()
        (folder / "service.py").write_text(SERVICE)
        (folder / "mesh.toml").write_text(FILE.format(timeout=timeout, limit=limit))

    # --- processes -------------------------------------------------------------------------------

    def start(self, *command, before=(), **variables):
        """Run `mesh` with these arguments, perhaps by way of another command."""
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.runs), **self.variables}
        environment |= variables
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*before, str(MESH), *map(str, command)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def add_gateway(self, *flags, before=(), address="127.0.0.1", **variables):
        """Start a gateway that replicas reach at this address; returns its HTTP port."""
        port, bind = free_port(), f"tcp://{address}:{free_port()}"
        flags = ("--http", f"127.0.0.1:{port}", "--bind", bind, *flags)
        self.gateways[port] = self.start("gateway", *flags, before=before, **variables)
        self.binds[port] = bind
        return port

    def add_host(self, name, replicas=1, gateways=None, flags=(), before=(), **variables):
        """Start replicas of the stage `name` up to its `@`, under a supervisor of their own."""
        stage = name.partition("@")[0]
        dialled = [("--gateway", address) for address in gateways or self.binds.values()]
        options = [part for pair in dialled for part in pair]
        if not any("--feed" in str(flag) for flag in flags):
            options += ["--feed", "tcp://127.0.0.1:0"]
        command = ("stage", stage, "--replicas", replicas, *options, *flags)
        self.hosts[name] = self.start(*command, before=before, **variables)
        self.wanted[stage] += replicas
        return self.hosts[name]

    def alive(self):
        """Every process that was started from here, directly or not."""
        mark = f"XDG_RUNTIME_DIR={self.runs}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def children(self, name):
        """Process ids of the replicas that a supervisor runs."""
        found = []
        for path in Path(f"/proc/{self.hosts[name].pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # that thread, or all of it, has just ended
                found += map(int, path.read_text().split())
        return found

    # --- what the gateways say -------------------------------------------------------------------

    @property
    def port(self):
        """Of the first gateway."""
        return next(iter(self.gateways))

    def get(self, path, port=None):
        url = f"http://127.0.0.1:{port or self.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def status(self, port=None):
        return json.loads(self.get("/mesh/status", port))

    def pids(self, stage):
        """Process ids of the replicas of a stage that are connected."""
        replicas = self.status()["replicas"]
        return [one["pid"] for one in replicas if one["stage"] == stage and one["connected"]]

    def metric(self, name, **labels):
        """The sum over all gateways of a metric's samples with these labels; 0 without any."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        total = 0.0
        for port, process in self.gateways.items():
            if process.poll() is not None:
                continue
            for line in self.get("/metrics", port).splitlines():
                sample, _, value = line.rpartition(" ")
                if sample.partition("{")[0] == name and all(one in sample for one in wanted):
                    total += float(value)
        return total

    def since(self, name):
        """How much a metric has grown since this was last asked."""
        before, self._counted[name] = self._counted[name], self.metric(name)
        return int(self._counted[name] - before)

    def is_whole(self):
        """Every gateway that runs sees every replica that shall be there, and is ready."""
        for port, process in self.gateways.items():
            if process.poll() is not None:
                continue
            try:
                self.get("/readyz", port)
                replicas = self.status(port)["replicas"]
            except OSError:
                return False
            for stage, count in self.wanted.items():
                here = [r for r in replicas if r["stage"] == stage and r["connected"]]
                if len(here) != count:
                    return False
        return True

    def until(self, true, what="it became true", patience=PATIENCE):
        """Wait; returns the seconds that it took."""
        began = monotonic()
        while not true():
            assert monotonic() < began + patience, f"not within {patience} s: {what}\n{self.log()}"
            threading.Event().wait(0.02)
        return monotonic() - began

    def until_whole(self, patience=PATIENCE):
        return self.until(self.is_whole, "every replica is there", patience)

    def log(self):
        return (self.folder / "log").read_text()[-20_000:]

    # --- the end ---------------------------------------------------------------------------------

    def stop(self):
        """Everything ends in order, and nothing is left."""
        processes = [*self.gateways.values(), *self.hosts.values()]
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in running:
            code = process.wait(PATIENCE)
            assert code == 0, f"ended with {code}\n{self.log()}"
        self.until(lambda: not self.alive(), "nothing is left running")

    def close(self):
        for process in (*self.gateways.values(), *self.hosts.values()):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.runs)


@contextlib.contextmanager
def fleet(folder, replicas=2, gateways=1, **settings):
    """A whole service: so many replicas of each stage, each under a supervisor of its own."""
    made = Fleet(folder, **settings)
    try:
        for _ in range(gateways):
            made.add_gateway()
        for number in range(replicas):
            for stage in STAGES:
                made.add_host(f"{stage}@{number + 1}")
        made.until_whole()
        yield made
        made.stop()
    finally:
        made.close()


def send(pid, number):
    """Send a signal; a process that has ended by itself is none of our business."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
