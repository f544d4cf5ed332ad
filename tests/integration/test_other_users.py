"""Another user of the same machine wants to join a service that nobody gave keys.

The service's parts are started apart, as the README says, so that they have to meet somewhere.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from site_runs import PATIENCE, ROOT, SERVICES, Site, children

from benchmarks.ports import free_port
from mesh.config.loader import load_settings

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def readme(folder):
    """The README's service: the stage of each replica, and what to ask it."""
    for name, language, mark in (
        ("service.py", "python", "class Lengths"),
        ("mesh.toml", "toml", "[stages.lengths]"),
    ):
        blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
        (text,) = [one for one in blocks if mark in one]
        (folder / name).write_text(text)
    return ["lengths", "lengths"], "hello"


def echo(folder):
    """The example of three stages, of which two feed the next; and what to ask it."""
    for name in ("service.py", "mesh.toml"):
        shutil.copy(ROOT / "examples" / "echo" / name, folder)
    return ["parse", "shout", "wrap"], {"text": "some words"}


@pytest.fixture
def apart(tmp_path):
    """A service whose parts are started one by one, and have to find a place to meet."""
    with contextlib.closing(Site(tmp_path, XDG_RUNTIME_DIR=None)) as made:
        yield made


def replicas(made, wanted):
    """The process ids of all replicas, when so many are there."""
    found = made.until(lambda: len(known := made.status()["replicas"]) >= wanted and known)
    return [one["pid"] for one in found]


def family(pid):
    """A process and all that came of it."""
    return [pid, *(one for child in children(pid) for one in family(child))]


def mesh_addresses(made):
    """Where processes of the service listen, but for HTTP."""
    sockets = set()
    for pid in [one for process in made.started for one in family(process.pid)]:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.update(re.findall(r"socket:\[(\d+)\]", os.readlink(fd)))
    found = []
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = row.split()[:10]
        port = int(local.rpartition(":")[2], 16)
        if inode in sockets and state == "0A" and port != made.port:
            found.append(f"tcp://127.0.0.1:{port}")
    for row in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[6] in sockets and len(fields) > 7 and fields[3] == "00010000":
            found.append(f"ipc://{fields[7]}")
    return found


def welcomed(made, stages, addresses):
    """Where another user is taken for a replica of the service."""
    revision = load_settings(str(made.folder / "mesh.toml")).revision
    done = subprocess.run(
        [sys.executable, SERVICES / "intruder.py", revision, " ".join(set(stages)), *addresses],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("described", [readme, echo])
def test_no_other_user_gets_in(apart, described):
    stages, asked = described(apart.folder)
    for stage in set(stages):
        apart.mesh("stage", stage)
    apart.mesh("gateway")
    with apart.client() as client:
        apart.wait_ready()
        before, addresses = replicas(apart, len(stages)), mesh_addresses(apart)
        feeds = len(set(stages)) - 1
        assert len(addresses) == 1 + feeds, addresses
        assert welcomed(apart, stages, addresses) == []
        assert replicas(apart, len(stages)) == before
        client.infer(asked)
    apart.end()


def test_who_says_insecure_lets_everybody_in(apart):
    """That the one above looks for can be found."""
    stages, _ = readme(apart.folder)
    bind = f"tcp://127.0.0.1:{free_port()}"
    text = (apart.folder / "mesh.toml").read_text()
    own = text.replace("[gateway]", f'[gateway]\nbind = "{bind}"\ninsecure = true')
    apart.describe(file=own)
    apart.mesh("gateway")
    apart.mesh("stage", "lengths")
    apart.wait_ready()
    assert mesh_addresses(apart) == [bind]
    assert welcomed(apart, stages[:1], [bind]) == [f"lengths@{bind}"]
    apart.end()


def test_a_folder_that_another_user_made_first_is_not_used(apart):
    """The two meet elsewhere, and both say why."""
    readme(apart.folder)
    taken = Path(f"/tmp/meshline-{os.getuid()}-mesh-{apart.port}")
    taken.mkdir(0o700)
    os.chown(taken, NOBODY, NOBODY)
    try:
        apart.mesh("gateway")
        apart.mesh("stage", "lengths")
        with apart.client() as client:
            apart.wait_ready()
            assert client.infer("hello") == 5
        apart.end()
        assert apart.log().count(f"{taken} is not used for sockets: it belongs to the user") == 2
        assert list(taken.iterdir()) == []
    finally:
        taken.rmdir()
        shutil.rmtree(f"/var/tmp/{taken.name}", ignore_errors=True)


def test_a_second_gateway_of_the_same_service_is_refused(apart):
    readme(apart.folder)
    apart.mesh("gateway")
    apart.mesh("stage", "lengths")
    with apart.client() as client:
        apart.wait_ready()
        for flags in ((), ("--processes", "2")):
            second = apart.mesh("gateway", *flags)
            assert second.wait(PATIENCE) == 3, apart.log()
            apart.started.remove(second)
        wanted = f"a gateway of the mesh 'mesh' with the HTTP port {apart.port} is running here"
        assert apart.log().count(wanted) == 2
        assert client.infer("hello") == 5
    apart.end()
