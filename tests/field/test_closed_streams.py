"""Started without standard input, output or error: the service runs all the same."""

import contextlib
import subprocess
import sys

import pytest
from site_runs import MESH, PATIENCE, Site, service_text, settings

from benchmarks.ports import free_port

SERVICE = service_text("prints")
CLOSING = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]


@pytest.fixture
def site(tmp_path):
    """A service of which no process says anything in the form of ours."""
    address = f"tcp://127.0.0.1:{free_port()}"
    top = {"gateways": [address]}
    made = Site(tmp_path, SERVICE, settings({"echo": "Echo"}, top=top, bind=address, insecure=True))
    with contextlib.closing(made):
        yield made
        made.end()
        assert "Traceback" not in made.log()
        assert list(made.runs.iterdir()) == []


def answers(site):
    """It serves, and no socket of ours stands where a stream would."""
    site.wait_ready()
    with site.client() as client:
        assert client.infer("?") == ["?", [False, False, False]]


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_a_service_runs_without_its_streams(site, closed):
    site.start("sh", "-c", f'exec "$@" {closed}', "sh", MESH, "up")
    answers(site)


def test_a_gateway_and_a_stage_do_so_apart(site):
    for command in (["gateway"], ["stage", "echo"]):
        site.start(*CLOSING, MESH, *command)
    answers(site)


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
def test_a_script_runs_without_its_streams(site, before, closed):
    script = (sys.executable, "service.py", "--port", site.port)
    site.start("sh", "-c", f'exec "$@" {closed}', "sh", *script, variables={"FIRST": before})
    answers(site)


def test_a_mistake_without_streams_ends_with_its_own_code(tmp_path):
    command = [*CLOSING, MESH, "up", "-c", "nowhere.toml"]
    assert subprocess.run(command, cwd=tmp_path, timeout=PATIENCE).returncode == 2
