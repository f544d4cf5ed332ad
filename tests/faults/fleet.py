"""A service of real processes to be harmed: gateways, and supervisors of each stage as if on hosts.

Two stages, so that every fault has a neighbour. What a request is answered with is a function of
its number; what its workers do on the way can be asked for in the request itself (see `SERVICE`).
"""

import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path
from time import monotonic

from site_runs import MESH, PATIENCE, Site, children, service_text, settings, stage

from benchmarks.ports import free_port

RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER: closing sends RST
STAGES = ("first", "second")

SERVICE = service_text("harmed")


def described(timeout="20s", limit="10s", **more):
    """The file of a service with these timeouts of the gateway and of each stage."""
    limits = {"max_batch_size": 8, "timeout": limit, "kill_grace": "0.3s"}
    gateway = {"timeout": timeout, "capacity": 20000, "drain_grace": "10s", "insecure": True}
    stages = {name: stage(name.title(), **limits) for name in STAGES}
    return settings(stages, **gateway, **more)


def answer(number):
    """What the service makes of a number."""
    return (number * 2 + 1) * 2 + 7


def parent(pid):
    """The process that started this one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Fleet(Site):
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
        super().__init__(
            folder, SERVICE, described(timeout, limit), MESH_GATEWAY_HTTP=None, **variables or {}
        )
        self.gateways, self.binds, self.hosts = {}, {}, {}
        self.wanted = dict.fromkeys(STAGES, 0)
        self._counted = Counter()

    # --- processes -------------------------------------------------------------------------------

    def mesh(self, *arguments, before=(), **variables):
        """Run `mesh` with these arguments, perhaps by way of another command."""
        return self.start(*before, MESH, *arguments, variables=variables)

    def add_gateway(self, *flags, before=(), address="127.0.0.1", **variables):
        """Start a gateway that replicas reach at this address; returns its HTTP port."""
        port = free_port() if self.gateways else self.port
        bind = f"tcp://{address}:{free_port()}"
        flags = ("--http", f"127.0.0.1:{port}", "--bind", bind, *flags)
        self.gateways[port] = self.mesh("gateway", *flags, before=before, **variables)
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
        self.hosts[name] = self.mesh(*command, before=before, **variables)
        self.wanted[stage] += replicas
        return self.hosts[name]

    def remove_host(self, name, code=0):
        """Have a supervisor end in order, and with this code if one is given."""
        host = self.hosts.pop(name)
        host.terminate()
        ended = host.wait(20.0)
        assert code is None or ended == code, f"ended with {ended}\n{self.log()}"
        self.wanted[name.partition("@")[0]] -= 1

    def children(self, name):
        """Process ids of the replicas that a supervisor runs."""
        return children(self.hosts[name].pid)

    # --- what the gateways say -------------------------------------------------------------------

    def get(self, path, port=None):
        """A page of one gateway, the first by default, as text."""
        status, _, body = self.send("GET", path, port=port)
        if status != 200:
            raise ConnectionError(f"{path}: {status}")
        return body.decode()

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
            here = Counter(one["stage"] for one in replicas if one["connected"])
            if any(here[name] != count for name, count in self.wanted.items()):
                return False
        return True

    def until(self, true, what="it became true", patience=PATIENCE):
        """Wait; returns the seconds that it took."""
        began = monotonic()
        super().until(true, f"not within {patience} s: {what}", patience)
        return monotonic() - began

    def until_whole(self, patience=PATIENCE):
        return self.until(self.is_whole, "every replica is there", patience)

    def log(self):
        return super().log()[-20_000:]

    # --- the end ---------------------------------------------------------------------------------

    def end(self):
        """Everything ends in order, and nothing is left."""
        processes = [*self.gateways.values(), *self.hosts.values()]
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in running:
            code = process.wait(PATIENCE)
            assert code == 0, f"ended with {code}\n{self.log()}"
        self.until(lambda: not self.processes(), "nothing is left running")


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
        made.end()
    finally:
        made.close()


def send(pid, number):
    """Send a signal; a process that has ended by itself is none of our business."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
