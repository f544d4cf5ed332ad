"""Another user of the same machine wants to join a service that nobody gave keys.

The service's parts are started apart, as the README says, so that they have to meet somewhere.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest
from example_runs import MESH, ROOT, free_port

from mesh import Client
from mesh.config.loader import load_settings

PATIENCE = 40.0
NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Says at every address that it is a replica of every stage; prints where it was welcome.
INTRUDER = """
import os, secrets, sys, zmq
from mesh.protocol.messages import Header, Hello, Role, StageFacts, Type, Welcome
from mesh.protocol.wire import VERSION, decode, encode, seal

revision, stages, *addresses = sys.argv[1:]
zmq.Context.instance()
os.setgroups([])  # once all is imported: another user may not read the interpreter's files
os.setgid(65534)
os.setuid(65534)

def greet(address, stage):
    facts = StageFacts(stage, revision, 8, 3.0, 256 << 20)
    hello = Hello(Role.REPLICA, secrets.randbits(50), "mesh", (VERSION,), stage=facts)
    dealer = zmq.Context.instance().socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(address)
    dealer.send_multipart(seal(Header(Type.HELLO, secrets.randbits(60), 0), encode(hello)))
    return dealer

def welcomed(dealer):
    return dealer.poll(1500) and isinstance(decode(dealer.recv_multipart(), 0.0)[1], Welcome)

greeted = {f"{stage}@{one}": greet(one, stage) for one in addresses for stage in stages.split()}
print(*[name for name, dealer in greeted.items() if welcomed(dealer)])
"""


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


class Apart:
    """A service whose parts are started one by one."""

    def __init__(self, folder):
        self.folder, self.port, self.started = folder, free_port(), []

    def start(self, *command):
        variables = {"MESH_GATEWAY_HTTP": f"127.0.0.1:{self.port}"}
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [MESH, *command],
                cwd=self.folder,
                env=os.environ | variables,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def client(self):
        return Client(f"http://127.0.0.1:{self.port}", timeout=PATIENCE)

    def log(self):
        return (self.folder / "log").read_text()

    def replicas(self, wanted):
        """The process ids of all replicas, when so many are there."""
        end = monotonic() + PATIENCE
        with self.client() as client:
            while True:
                found = [one["pid"] for one in client.get("/mesh/status").json()["replicas"]]
                if len(found) >= wanted:
                    return found
                assert monotonic() < end, found
                threading.Event().wait(0.05)

    def stop(self):
        for process in self.started:
            process.terminate()
            assert process.wait(PATIENCE) == 0, self.log()


@pytest.fixture
def apart(tmp_path):
    made = Apart(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def family(pid):
    """A process and all that came of it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += family(int(child))
    return found


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
        [sys.executable, "-c", INTRUDER, revision, " ".join(set(stages)), *addresses],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("described", [readme, echo])
def test_no_other_user_gets_in(apart, described):
    stages, asked = described(apart.folder)
    for stage in set(stages):
        apart.start("stage", stage)
    apart.start("gateway")
    with apart.client() as client:
        client.wait_ready(PATIENCE)
        before, addresses = apart.replicas(len(stages)), mesh_addresses(apart)
        feeds = len(set(stages)) - 1
        assert len(addresses) == 1 + feeds, addresses
        assert welcomed(apart, stages, addresses) == []
        assert apart.replicas(len(stages)) == before
        client.infer(asked)
    apart.stop()


def test_who_says_insecure_lets_everybody_in(apart):
    """That the one above looks for can be found."""
    stages, _ = readme(apart.folder)
    bind = f"tcp://127.0.0.1:{free_port()}"
    text = (apart.folder / "mesh.toml").read_text()
    own = text.replace("[gateway]", f'[gateway]\nbind = "{bind}"\ninsecure = true')
    (apart.folder / "mesh.toml").write_text(own)
    apart.start("gateway")
    apart.start("stage", "lengths")
    with apart.client() as client:
        client.wait_ready(PATIENCE)
        assert mesh_addresses(apart) == [bind]
        assert welcomed(apart, stages[:1], [bind]) == [f"lengths@{bind}"]
    apart.stop()


def test_a_folder_that_another_user_made_first_is_not_used(apart):
    """The two meet elsewhere, and both say why."""
    readme(apart.folder)
    taken = Path(f"/tmp/meshline-{os.getuid()}-mesh-{apart.port}")
    taken.mkdir(0o700)
    os.chown(taken, NOBODY, NOBODY)
    try:
        apart.start("gateway")
        apart.start("stage", "lengths")
        with apart.client() as client:
            client.wait_ready(PATIENCE)
            assert client.infer("hello") == 5
        apart.stop()
        assert apart.log().count(f"{taken} is not used for sockets: it belongs to the user") == 2
        assert list(taken.iterdir()) == []
    finally:
        taken.rmdir()
        shutil.rmtree(f"/var/tmp/{taken.name}", ignore_errors=True)


def test_a_second_gateway_of_the_same_service_is_refused(apart):
    readme(apart.folder)
    apart.start("gateway")
    apart.start("stage", "lengths")
    with apart.client() as client:
        client.wait_ready(PATIENCE)
        for flags in ((), ("--processes", "2")):
            second = apart.start("gateway", *flags)
            assert second.wait(PATIENCE) == 3, apart.log()
            apart.started.remove(second)
        wanted = f"a gateway of the mesh 'mesh' with the HTTP port {apart.port} is running here"
        assert apart.log().count(wanted) == 2
        assert client.infer("hello") == 5
    apart.stop()
