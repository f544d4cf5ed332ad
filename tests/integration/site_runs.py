"""A service of a few lines, run by `mesh up`, and the process of its gateway."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from time import monotonic

from example_runs import MESH, ROOT, environment, free_port, metric, wait_ready

from mesh import Client, MeshError

PATIENCE = 40.0


def rss(pid):
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def processes_of(runs):
    """Every process of the service that keeps its run folder there: its arguments by its id."""
    mark, found = f"XDG_RUNTIME_DIR={runs}".encode(), {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
    return found


def gateway_of(runs):
    """The process id of the gateway that keeps its run folder there."""
    for pid, command in processes_of(runs).items():
        if b"gateway" in command:
            return pid
    raise AssertionError("there is no gateway")


class Site:
    """A running service.

    Attributes:
        port: of HTTP.
        pid: of the gateway.
        folder: that it runs in.
        runs: where it keeps its run folder.
        service: the process that was started.
        told: whether it was asked to end.
    """

    def __init__(self, port, pid, folder, service, runs):
        self.port, self.pid, self.folder, self.runs = port, pid, folder, runs
        self.service, self.told = service, False

    def stop(self):
        """Ask it to end in order, once."""
        if not self.told:
            self.told = True
            self.service.send_signal(signal.SIGTERM)

    def replicas(self):
        """The process ids of its replicas."""
        found = processes_of(self.runs).items()
        return [pid for pid, command in found if command[2:4] == [b"-m", b"stage"]]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self):
        return Client(self.url, timeout=PATIENCE)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def metric(self, name, **labels):
        with self.client() as client:
            return metric(client, name, **labels)

    def taken_in(self):
        """How many inference requests have come in since the start, answered or not."""
        with self.client() as client:
            lines = client.get("/metrics").body.decode().splitlines()
        ours = ("mesh_remaining_task", "mesh_throughput_total{")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(ours))

    def log(self):
        return (self.folder / "log").read_text()

    def until(self, true, what):
        end = monotonic() + PATIENCE
        try:
            while not true():
                assert monotonic() < end, f"{what}\n{self.log()}"
                threading.Event().wait(0.01)
        except MeshError as error:
            raise AssertionError(f"{what}: {error}\n{self.log()}") from error


def shows_our_code(log):
    """Whether a traceback, in text or JSON, goes through a file of ours."""
    return re.search(rf'File \\*"{ROOT}/(mesh|gateway|stage)/', log) is not None


@contextlib.contextmanager
def running(folder, service, file, command=(MESH, "up"), ends=0):
    """Run what these two texts describe; it must end so, in order, and show no code of ours."""
    runs, port, log = tempfile.mkdtemp(prefix="r"), free_port(), folder / "log"
    (folder / "service.py").write_text(service)
    (folder / "mesh.toml").write_text(file)
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(port) | {"XDG_RUNTIME_DIR": runs},
            stdout=out,
            stderr=out,
        )
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_ready(client, process, log)
        site = Site(port, gateway_of(runs), folder, process, runs)
        yield site
        site.stop()
        assert process.wait(PATIENCE) == ends, log.read_text()
        assert not shows_our_code(log.read_text()), log.read_text()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(runs)
