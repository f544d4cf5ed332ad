"""docs/deploy.md: its commands are run, its files are used, as they stand there."""

import contextlib
import re
import shlex
import signal
import subprocess
from pathlib import Path
from time import monotonic

import pytest
from example_runs import MESH, free_port, free_ports, wait_ready

from mesh import Client

PAGE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
PATIENCE = 40.0
# What needs a container engine: tests/compose runs the first four, test_monitoring.py has Compose
# read the files of the other two.
ELSEWHERE = {
    "docker-compose up --detach --build",
    "docker-compose up --detach --no-recreate --scale recognize=3",
    "docker-compose --profile two up --detach",
    "TAG=next docker-compose up --detach --no-recreate --scale detect=4 detect",
    "BASE=cuda-python docker-compose -f docker-compose.yml -f docker-compose.gpu.yml up --build",
    "docker-compose -f docker-compose.yml -f docker-compose.monitoring.yml up --build",
}


def section(title):
    """The text under a heading."""
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def commands(text):
    lines = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    return [line.partition("#")[0].strip() for line in lines]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def file_of(title):
    """The mesh.toml of a section: its own, or else the first of the page."""
    return (blocks(section(title), "toml") or blocks(PAGE, "toml"))[0]


ONE = "1. One machine"


PARTS = "2. One machine, parts of their own"
SEVERAL = "3. Several gateway processes"
VERSION = "6. A new version"


class Site:
    """A folder with the page's file, ports of our own in it, and what was started there."""

    def __init__(self, folder, file):
        self.folder, self.port = folder, free_port()
        for written, ours in {
            "gateway.example": "127.0.0.1",
            ":7000": f":{free_ports(2)}",
            "0.0.0.0:8000": f"127.0.0.1:{self.port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
        }.items():
            file = file.replace(written, ours)
        (folder / "service.py").write_text(blocks(PAGE, "python")[0])
        (folder / "mesh.toml").write_text(file)
        self.log = folder / "log"
        self.started = []

    def command(self, line):
        name, *arguments = shlex.split(line)
        assert name == "mesh"
        return [MESH, *arguments]

    def run(self, line, *more):
        """One that ends by itself; returns what it says."""
        done = subprocess.run(
            [*self.command(line), *more],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, line):
        with self.log.open("ab") as log:
            self.started.append(
                subprocess.Popen(self.command(line), cwd=self.folder, stdout=log, stderr=log)
            )
        return self.started[-1]

    @contextlib.contextmanager
    def serving(self):
        """A client of what was started, when it serves."""
        with Client(f"http://127.0.0.1:{self.port}", timeout=PATIENCE) as client:
            wait_ready(client, self.started[0], self.log)
            assert client.infer("text") == {"found": "TEXT"}
            yield client

    def stop(self):
        """Ctrl-C ends everything in order."""
        for process in self.started:
            process.send_signal(signal.SIGINT)
        for process in self.started:
            assert process.wait(PATIENCE) == 0, self.log.read_text()

    def close(self):
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def site(tmp_path):
    made = []

    def make(file):
        made.append(Site(tmp_path, file))
        return made[0]

    yield make
    for one in made:
        one.close()


def test_every_command_of_the_page_is_tried():
    titles = (ONE, PARTS, SEVERAL, VERSION)
    tried = {line for title in titles for line in commands(section(title))}
    assert set(commands(PAGE)) == tried | {"mesh keygen"} | ELSEWHERE


def test_one_machine(site):
    here = site(file_of(ONE))
    check, up, curl = commands(section(ONE))
    assert "is right" in here.run(check)
    here.start(up)
    with here.serving():
        asked = shlex.split(curl.replace(":8000", f":{here.port}"))
        answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert answer == section(ONE).partition(f"$ {curl}\n")[2].splitlines()[0]
        here.stop()


def serve_parts(here, starting, status, replicas=1):
    """Commands that start parts, whatever the file says, and the one that shows them."""
    for line in starting:
        here.start(line)
    with here.serving() as client:
        until = monotonic() + PATIENCE
        while client.get("/mesh/status").json()["stages"]["detect"]["replicas"] < replicas:
            assert monotonic() < until
        shown = here.run(status, "--url", client.url)
    assert all(re.search(rf"\b{stage}\b", shown) for stage in ("decode", "detect"))
    here.stop()
    return shown


def test_parts_of_their_own(site):
    *starting, status = commands(section(PARTS))
    serve_parts(site(file_of(PARTS)), starting, status, replicas=2)


def test_several_gateway_processes(site):
    *starting, status, _ = commands(section(SEVERAL))
    shown = serve_parts(site(file_of(SEVERAL)), starting, status)
    assert len(shown.partition("\nprocesses\n")[2].splitlines()) == 3, shown


def test_several_gateway_processes_of_one_machine(site):
    here = site(file_of(ONE))
    here.start(commands(section(SEVERAL))[-1])
    with here.serving() as client:
        assert len(client.get("/mesh/status").json()["processes"]) == 2
    here.stop()


def test_a_new_version(site):
    here = site(file_of(PARTS))
    old = [here.start(line) for line in commands(section(PARTS))[:-1]]
    decode, detect, status = commands(section(VERSION))
    with here.serving() as client:
        here.start(decode)
        until = monotonic() + PATIENCE
        while "2" not in {one["version"] for one in client.get("/mesh/status").json()["replicas"]}:
            assert monotonic() < until
        assert client.get("/mesh/status").json()["serves"] == "-"
        here.start(detect)
        while client.get("/mesh/status").json()["serves"] != "2":
            assert monotonic() < until
        for process in old[1:]:
            here.started.remove(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0, here.log.read_text()
        assert client.infer("text") == {"found": "TEXT"}
        shown = here.run(status, "--url", client.url)
        assert re.search(r"^serves +2$", shown, re.MULTILINE)
    here.stop()


def test_several_machines(site):
    title = "4. Several machines"
    here = site(file_of(title))
    (keygen,) = commands(section(title))
    assert "keys" in here.run(keygen)
    *starting, status = commands(section(PARTS))
    serve_parts(here, starting, status, replicas=2)
