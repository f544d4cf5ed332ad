"""Started without standard input, output or error: the service runs all the same."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile

import pytest
from example_runs import MESH, environment, free_port, wait_ready
from site_runs import PATIENCE

from mesh import Client

SERVICE = """
import os
import sys

{before}
from mesh import Server, Worker


class Echo(Worker):
    def forward(self, value):
        print("to be heard, or not")
        print("the same", file=sys.stderr)
        return [value, [os.readlink(f"/proc/self/fd/{{n}}").startswith("socket") for n in range(3)]]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    server.run()
"""
FILE = """
gateways = ["tcp://127.0.0.1:{port}"]

[gateway]
bind = "tcp://127.0.0.1:{port}"
insecure = true

[stages.echo]
worker = "service:Echo"

[routes]
"/inference" = ["echo"]
"""


@contextlib.contextmanager
def started(command, folder, port, closed):
    """Run a command through a shell that closes descriptors; it must end in order."""
    runs = tempfile.mkdtemp(prefix="r")
    said = folder / f"{command[-1]}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
            cwd=folder,
            env=environment(port) | {"XDG_RUNTIME_DIR": runs},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process, said
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, said.read_text()
        assert "Traceback" not in said.read_text()
    finally:
        process.kill()
        process.wait()
        os.rmdir(runs)


def answers(port, process, said):
    """It serves, and no socket of ours stands where a stream would."""
    with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        wait_ready(client, process, said)
        assert client.infer("?") == ["?", [False, False, False]]


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_a_service_runs_without_its_streams(tmp_path, closed):
    port = free_port()
    (tmp_path / "service.py").write_text(SERVICE.format(before=""))
    (tmp_path / "mesh.toml").write_text(FILE.format(port=free_port()))
    with started([MESH, "up"], tmp_path, port, closed) as (process, said):
        answers(port, process, said)


def test_a_gateway_and_a_stage_do_so_apart(tmp_path):
    port, closed = free_port(), "<&- >&- 2>&-"
    (tmp_path / "service.py").write_text(SERVICE.format(before=""))
    (tmp_path / "mesh.toml").write_text(FILE.format(port=free_port()))
    with (
        started([MESH, "gateway"], tmp_path, port, closed) as (process, said),
        started([MESH, "stage", "echo"], tmp_path, port, closed),
    ):
        answers(port, process, said)


TAKEN = "import socket; mine = [socket.socket() for _ in range(3)]"


@pytest.mark.parametrize(
    ("before", "closed"),
    [
        ("", "<&- >&- 2>&-"),
        (TAKEN, "<&- >&- 2>&-"),
        ("sys.stderr = sys.stdout = sys.stdin = None", ""),
        ("sys.stdout.close(); os.close(2)", ""),
    ],
    ids=["closed", "taken by the script", "none", "closed by the script"],
)
def test_a_script_runs_without_its_streams(tmp_path, before, closed):
    port = free_port()
    (tmp_path / "service.py").write_text(SERVICE.format(before=before))
    command = [sys.executable, "service.py", "--port", str(port)]
    with started(command, tmp_path, port, closed) as (process, said):
        answers(port, process, said)


def test_a_mistake_without_streams_ends_with_its_own_code(tmp_path):
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", MESH, "up", "-c", "nowhere.toml"]
    assert subprocess.run(command, cwd=tmp_path, timeout=PATIENCE).returncode == 2
