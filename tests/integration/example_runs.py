"""Running an example as its README says: as a script or from its file, on a free port."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from mesh import Client

ROOT = Path(__file__).resolve().parents[2]
MESH = Path(sys.executable).with_name("mesh")
PATIENCE = 100.0


def folder(name):
    return ROOT / "examples" / name


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def free_ports(count):
    """The first of so many free ports in a row."""
    while True:
        first = free_port()
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as held:
            for port in range(first, first + count):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def script(name, port):
    """The command of `python service.py`."""
    return [sys.executable, folder(name) / "service.py", "--port", str(port)]


def file(name, port):
    """The command of `mesh up`; the port comes from the environment (see `serving`)."""
    return [MESH, "up", "-c", folder(name) / "mesh.toml"]


@contextlib.contextmanager
def serving(command, name, tmp_path):
    """Run an example's service from an empty folder; yield a client; stop it in order."""
    port = free_port()
    log = tmp_path / "service.log"
    with log.open("wb") as out:
        service = subprocess.Popen(
            command(name, port),
            env=environment(port),
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_ready(client, service, log)
            yield client
        service.terminate()
        code = service.wait(PATIENCE)
    finally:
        service.kill()
        service.wait()
    assert code == 0, log.read_text()


def environment(port):
    """This process's environment, and where HTTP shall listen."""
    return {**os.environ, "MESH_GATEWAY_HTTP": f"127.0.0.1:{port}"}


def wait_ready(client, service, log):
    for _ in range(int(PATIENCE)):
        with contextlib.suppress(Exception):
            return client.wait_ready(1.0)
        assert service.poll() is None, f"ended with code {service.returncode}:\n{log.read_text()}"
    raise AssertionError(f"not ready:\n{log.read_text()}")


def run_client(name, client, *arguments):
    """Run an example's client.py as a user would; return the finished process."""
    command = [sys.executable, folder(name) / "client.py", "--url", client.url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def hub_hops(client):
    """How many outputs the gateway had to carry to the next stage."""
    return client.get("/mesh/status").json()["hub_hops"]


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
