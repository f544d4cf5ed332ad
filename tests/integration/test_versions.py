"""Two versions of a pipeline side by side, and one taking over from the other under load."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from time import monotonic

import pytest
from example_runs import MESH, free_port

from mesh import Client, ServerError

PATIENCE = 40.0
SERVICE = """
import os
from mesh import Worker

class First(Worker):
    def forward(self, item):
        return [*item, os.environ["MESH_VERSION"]]

class Second(First):
    pass
"""
FILE = """
[stages.first]
worker = "service:First"
feed = "tcp://127.0.0.1:0"

[stages.second]
worker = "service:Second"

[routes]
"/inference" = ["first", "second"]
"""


class Site:
    """Processes of several versions; every replica is told of every gateway."""

    def __init__(self, folder):
        self.folder, self.runs = folder, Path(tempfile.mkdtemp(prefix="r"))
        self.ports = {"1": free_port(), "2": free_port()}
        self.binds = {version: f"tcp://127.0.0.1:{free_port()}" for version in self.ports}
        self.running = {}
        (folder / "service.py").write_text(SERVICE)
        (folder / "mesh.toml").write_text(FILE)

    def start(self, version, name):
        command = ["gateway", "--http", f"127.0.0.1:{self.ports[version]}"]
        command += ["--bind", self.binds[version]]
        if name != "gateway":
            dialled = [part for bind in self.binds.values() for part in ("--gateway", bind)]
            command = ["stage", name, *dialled]
        variables = {"MESH_VERSION": version, "XDG_RUNTIME_DIR": str(self.runs)}
        with (self.folder / "log").open("ab") as log:
            self.running[version, name] = subprocess.Popen(
                [MESH, *command],
                cwd=self.folder,
                env=os.environ | variables,
                stdout=log,
                stderr=log,
            )

    def stop(self, version, name):
        process = self.running.pop((version, name))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, (self.folder / "log").read_text()

    def client(self, version):
        return Client(f"http://127.0.0.1:{self.ports[version]}", timeout=PATIENCE)

    def close(self):
        for process in self.running.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.runs)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.close()


class Asking:
    """Asks a gateway again and again, and keeps what it hears."""

    def __init__(self, client):
        self.heard, self._over = [], threading.Event()
        self._client = client
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def _run(self):
        with self._client as client:
            while not self._over.is_set():
                self.heard.append(client.infer([]))


def test_a_version_takes_over_when_all_of_it_stands(site):
    for name in ("gateway", "first", "second"):
        site.start("1", name)
    with site.client("1") as old, site.client("2") as new:
        old.wait_ready(PATIENCE)
        with Asking(site.client("1")) as asking:
            for name in ("gateway", "second"):
                site.start("2", name)
            until(site, lambda: missing(new) == ["first"])
            assert not new.get("/readyz").ok
            site.start("2", "first")
            new.wait_ready(PATIENCE)
            with Asking(site.client("2")) as asking_new:
                until(site, lambda: len(asking_new.heard) >= 50)
            assert {tuple(heard) for heard in asking_new.heard} == {("2", "2")}
            assert new.get("/mesh/status").json()["hub_hops"] == 0
        assert len(asking.heard) > 50
        assert {tuple(heard) for heard in asking.heard} == {("1", "1")}
        for name in ("gateway", "first", "second"):
            site.stop("1", name)
        assert new.infer([]) == ["2", "2"]
    for name in ("gateway", "first", "second"):
        site.stop("2", name)


def missing(client):
    """Stages that a gateway misses; none known while it does not answer."""
    try:
        return client.get("/mesh/status").json()["missing"]
    except ServerError:
        return []


def until(site, true):
    end = monotonic() + PATIENCE
    while not true():
        assert monotonic() < end, (site.folder / "log").read_text()
        threading.Event().wait(0.02)
