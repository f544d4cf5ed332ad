"""docs/deploy.md: its commands are run, its files are used, as they stand there."""

import contextlib
import re
import shlex
import signal

import pytest
from site_runs import MESH, PATIENCE, ROOT, Site

from benchmarks.ports import free_ports

PAGE = (ROOT / "docs" / "deploy.md").read_text()
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


class Place(Site):
    """A folder with the page's file, ports of our own in it, and what was started there."""

    def __init__(self, folder, file):
        # Nothing but the file says where HTTP listens.
        super().__init__(folder, blocks(PAGE, "python")[0], MESH_GATEWAY_HTTP=None)
        for written, ours in {
            "gateway.example": "127.0.0.1",
            ":7000": f":{free_ports(2)}",
            "0.0.0.0:8000": f"127.0.0.1:{self.port}",
            "127.0.0.1:8000": f"127.0.0.1:{self.port}",
        }.items():
            file = file.replace(written, ours)
        self.describe(file=file)

    def command(self, line):
        name, *arguments = shlex.split(line)
        assert name == "mesh"
        return [MESH, *arguments]

    def says(self, line, *more):
        """Run one that ends by itself; returns what it says."""
        done = self.run(*self.command(line), *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin(self, line):
        return self.start(*self.command(line))

    @contextlib.contextmanager
    def serving(self):
        """A client of what was started, when it serves."""
        self.wait_ready()
        with self.client() as client:
            assert client.infer("text") == {"found": "TEXT"}
            yield client

    def interrupt(self):
        """Ctrl-C ends everything in order."""
        self.end(signal.SIGINT)


@pytest.fixture
def site(tmp_path):
    with contextlib.ExitStack() as held:
        yield lambda file: held.enter_context(contextlib.closing(Place(tmp_path, file)))


def test_every_command_of_the_page_is_tried():
    titles = (ONE, PARTS, SEVERAL, VERSION)
    tried = {line for title in titles for line in commands(section(title))}
    assert set(commands(PAGE)) == tried | {"mesh keygen"} | ELSEWHERE


def test_one_machine(site):
    here = site(file_of(ONE))
    check, up, curl = commands(section(ONE))
    assert "is right" in here.says(check)
    here.begin(up)
    with here.serving():
        asked = shlex.split(curl.replace(":8000", f":{here.port}"))
        answer = section(ONE).partition(f"$ {curl}\n")[2].splitlines()[0]
        assert here.run(*asked).stdout == answer
        here.interrupt()


def serve_parts(here, starting, status, replicas=1):
    """Commands that start parts, whatever the file says, and the one that shows them."""
    for line in starting:
        here.begin(line)
    with here.serving() as client:
        here.until(lambda: here.status()["stages"]["detect"]["replicas"] >= replicas)
        shown = here.says(status, "--url", client.url)
    assert all(re.search(rf"\b{stage}\b", shown) for stage in ("decode", "detect"))
    here.interrupt()
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
    here.begin(commands(section(SEVERAL))[-1])
    with here.serving():
        assert len(here.status()["processes"]) == 2
    here.interrupt()


def test_a_new_version(site):
    here = site(file_of(PARTS))
    old = [here.begin(line) for line in commands(section(PARTS))[:-1]]
    decode, detect, status = commands(section(VERSION))
    with here.serving() as client:
        here.begin(decode)
        here.until(lambda: "2" in {one["version"] for one in here.status()["replicas"]})
        assert here.status()["serves"] == "-"
        here.begin(detect)
        here.until(lambda: here.status()["serves"] == "2")
        for process in old[1:]:
            here.started.remove(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0, here.log()
        assert client.infer("text") == {"found": "TEXT"}
        shown = here.says(status, "--url", client.url)
        assert re.search(r"^serves +2$", shown, re.MULTILINE)
    here.interrupt()


def test_several_machines(site):
    title = "4. Several machines"
    here = site(file_of(title))
    (keygen,) = commands(section(title))
    assert "keys" in here.says(keygen)
    *starting, status = commands(section(PARTS))
    serve_parts(here, starting, status, replicas=2)
