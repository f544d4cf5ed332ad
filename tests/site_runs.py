"""A folder with a service, and the real processes that a test starts in it."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import monotonic

import pytest

from benchmarks.ports import free_port
from mesh import Client, MeshError

ROOT = Path(__file__).resolve().parents[1]
SERVICES = ROOT / "tests" / "services"
MESH = Path(sys.executable).with_name("mesh")
PATIENCE = 60.0
START_PATIENCE = 100.0  # a model may be loaded


# --- what is described ----------------------------------------------------------------------------


def service_text(name):
    """The text of a service of `tests/services`."""
    return (SERVICES / f"{name}.py").read_text()


def stage(worker, **more):
    """A stage of `settings`: its class in `service.py`, and what else its table has."""
    return {"worker": f"service:{worker}", **more}


def settings(stages, routes=None, top=None, **gateway):
    """The text of a `mesh.toml`.

    Args:
        stages: tables by name; a text names the class in `service.py`.
        routes: the stages of each path; all of them at `/inference` by default.
        top: settings above all tables.
        gateway: the table of that name.

    Example:
        >>> print(settings({"echo": stage("Echo", replicas=2)}, timeout="5s"))
        [gateway]
        timeout = "5s"
        [stages.echo]
        worker = "service:Echo"
        replicas = 2
        [routes]
        "/inference" = ["echo"]
    """
    tables = {"gateway": gateway} if gateway else {}
    for name, one in stages.items():
        tables[f"stages.{name}"] = stage(one) if isinstance(one, str) else one
    lines = [f"{key} = {_toml(value)}" for key, value in (top or {}).items()]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    routes = routes or {"/inference": list(stages)}
    lines += ["[routes]", *(f'"{path}" = {_toml(visited)}' for path, visited in routes.items())]
    return "\n".join(lines) + "\n"


def _toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


# --- what the kernel says -------------------------------------------------------------------------


def rss(pid):
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def children(pid):
    """Process ids of a process's children."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread, or all of it, has just ended
            found += map(int, path.read_text().split())
    return found


def is_running(pid):
    return Path(f"/proc/{pid}").exists()


def processes_of(runs):
    """Every process of the service that keeps its run folder there: its arguments by its id."""
    mark, found = f"XDG_RUNTIME_DIR={runs}".encode(), {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "cmdline").read_bytes().split(b"\0")
    return found


def until(true, what="it did not come true", patience=PATIENCE):
    """Wait for something that is not false, and return it.

    Args:
        true: makes it.
        what: is wrong where it does not come; a function makes the text.
        patience: how long to wait, in seconds.
    """
    end = monotonic() + patience
    while not (found := true()):
        assert monotonic() < end, what() if callable(what) else what
        threading.Event().wait(0.01)
    return found


# --- what the service says ------------------------------------------------------------------------


def environment(port):
    """This process's environment, and where HTTP shall listen."""
    return {**os.environ, "MESH_GATEWAY_HTTP": f"127.0.0.1:{port}"}


def metric(client, name, **labels):
    """The sum of a metric's values over all samples that have these labels; there must be one."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    values = []
    for line in client.get("/metrics").body.decode().splitlines():
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] == name and all(label in sample for label in wanted):
            values.append(float(value))
    assert values, f"/metrics has no {name} with {labels}"
    return sum(values)


def shows_our_code(log):
    """Whether a traceback, in text or JSON, goes through a file of ours."""
    return re.search(rf'File \\*"{ROOT}/(mesh|gateway|stage)/', log) is not None


class Site:
    """A folder with a service, and the processes that were started in it.

    Args:
        folder: to run in.
        service: the text of its `service.py`, if it has one.
        file: the text of its `mesh.toml`, if it has one.
        variables: of every process's environment; None takes one away.

    Attributes:
        port: of HTTP.
        pid: of the gateway, as `wait_ready` found it.
        runs: where all processes have their run folders, which is how they are found.
        started: the processes, in order.
        told: whether it was asked to end.
    """

    def __init__(self, folder, service="", file="", **variables):
        self.folder, self.port, self.pid, self.told = folder, free_port(), None, False
        self.runs = Path(tempfile.mkdtemp(prefix="r"))
        self.variables = variables
        self.started = []
        self.describe(service, file)

    def describe(self, service="", file=""):
        """Write what is not empty."""
        for name, text in (("service.py", service), ("mesh.toml", file)):
            if text:
                (self.folder / name).write_text(text)

    def environment(self, **variables):
        """What a process here has in its environment."""
        ours = {"XDG_RUNTIME_DIR": str(self.runs), **self.variables, **variables}
        merged = environment(self.port) | ours
        return {name: value for name, value in merged.items() if value is not None}

    def start(self, *command, variables=(), **options):
        """Run a command; it writes to the log, unless `options` of Popen say otherwise."""
        with (self.folder / "log").open("ab") as log:
            usual = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            process = subprocess.Popen(
                [*map(str, command)],
                cwd=self.folder,
                env=self.environment(**dict(variables)),
                **usual | options,
            )
        self.started.append(process)
        return process

    def mesh(self, *arguments, **options):
        return self.start(MESH, *arguments, **options)

    def script(self, *flags, **options):
        command = (sys.executable, "service.py", "--port", self.port, *flags)
        return self.start(*command, **options)

    def run(self, *command, **variables):
        """Run a command to its end; it is returned, with what it wrote as text."""
        return subprocess.run(
            [*map(str, command)],
            cwd=self.folder,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    @property
    def service(self):
        """The process that was started first."""
        return self.started[0]

    def processes(self):
        """Every process that was started from here, directly or not: its arguments by its id."""
        return processes_of(self.runs)

    def replicas(self):
        """The process ids of its replicas."""
        found = self.processes().items()
        return [pid for pid, command in found if command[2:4] == [b"-m", b"stage"]]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def client(self):
        return Client(self.url, timeout=PATIENCE)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def send(self, method, path, body=None, headers=None, port=None):
        """Ask on a connection of its own; status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def ask(self, value, request_id=None, path="/inference"):
        """Ask for JSON; status, answer or error, and headers."""
        headers = {} if request_id is None else {"X-Request-ID": request_id}
        status, headers, body = self.send("POST", path, json.dumps(value), headers)
        answer = json.loads(body)
        return status, answer if status < 400 else answer["error"], headers

    def status(self):
        """What `/mesh/status` says."""
        with self.client() as client:
            return client.get("/mesh/status").json()

    def metric(self, name, **labels):
        with self.client() as client:
            return metric(client, name, **labels)

    def metric_or_0(self, name, **labels):
        """A metric that has no sample before it counts something."""
        try:
            return self.metric(name, **labels)
        except AssertionError:
            return 0

    def taken_in(self):
        """How many inference requests have come in since the start, answered or not."""
        with self.client() as client:
            lines = client.get("/metrics").body.decode().splitlines()
        ours = ("mesh_remaining_task", "mesh_throughput_total{")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(ours))

    def log(self):
        return (self.folder / "log").read_text()

    def records(self):
        """The log's lines, each as its fields; one that is not whole is none yet."""
        found = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [one for one in found if isinstance(one, dict)]

    def messages(self, containing=""):
        return [one["message"] for one in self.records() if containing in one["message"]]

    def until(self, true, what="it did not come true", patience=PATIENCE):
        """Wait for something that is not false, and return it; see `until`."""
        try:
            return until(true, lambda: f"{what}\n{self.log()}", patience)
        except MeshError as error:
            raise AssertionError(f"{what}: {error}\n{self.log()}") from error

    def wait_ready(self):
        """Wait until it serves, or fail with its log."""
        with self.client() as client:
            self.until(lambda: self._is_ready(client), "it is not ready", START_PATIENCE)
        found = self.processes().items()
        self.pid = next((pid for pid, command in found if b"gateway" in command), None)

    def _is_ready(self, client):
        code = self.service.poll()
        assert code is None, f"it ended with code {code}:\n{self.log()}"
        with contextlib.suppress(MeshError, OSError):
            client.wait_ready(1.0)
            return True
        return False

    def stop(self, number=signal.SIGTERM):
        """Ask whatever runs to end in order, once."""
        if not self.told:
            self.told = True
            for process in self.started:
                process.send_signal(number)

    def end(self, number=signal.SIGTERM, ends=0):
        """Stop whatever runs; it ends so, and leaves nothing running."""
        self.stop(number)
        for process in self.started:
            assert process.wait(PATIENCE) == ends, self.log()
        self.until(lambda: not self.processes(), "something is left running")

    def assert_nothing_is_left(self):
        self.until(lambda: not self.processes(), "it is left running")
        assert list(self.runs.iterdir()) == []

    def close(self):
        """End whatever runs, in whatever order."""
        for process in self.started:
            process.kill()
            process.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.runs)


@contextlib.contextmanager
def running(folder, service="", file="", command=(MESH, "up"), ends=0, ours=False, **options):
    """Run what these two texts describe; it must end so, in order, and leave nothing running.

    Args:
        command: that serves.
        ends: the exit code.
        ours: whether tracebacks may show our code.
        options: of Popen.
    """
    site = Site(folder, service, file)
    with contextlib.closing(site):
        site.start(*command, **options)
        site.wait_ready()
        yield site
        site.end(ends=ends)
        assert ours or not shows_our_code(site.log()), site.log()


def shared_site(service, file, **options):
    """A fixture: one service of `tests/services` for all tests of a module; see `running`."""

    @pytest.fixture(scope="module")
    def site(tmp_path_factory):
        with running(
            tmp_path_factory.mktemp("site"), service_text(service), file, **options
        ) as made:
            yield made

    return site


def refused(folder, service="", file="", command=(MESH, "up")):
    """Exit code of a service that cannot be started, and where that was tried."""
    site = Site(folder, service, file)
    with contextlib.closing(site):
        return site.start(*command).wait(PATIENCE), site
