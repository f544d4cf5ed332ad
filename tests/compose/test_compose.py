"""docker-compose.yml: the OCR service in containers, asked from outside them."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mesh import Client, DecodingError

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "meshline-test"
# Building pulls the models and onnxruntime; starting loads them.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def compose():
    """The command that this machine has for Compose, for a project of our own."""
    ours = ["--project-name", PROJECT, "--file", str(ROOT / "docker-compose.yml")]
    if not shutil.which("docker"):
        pytest.skip("no container engine: there is no `docker` command")
    if not _works("docker", "info"):
        pytest.skip("no container engine: `docker info` failed")
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and _works(*command, "version"):
            return [*command, *ours]
    return pytest.skip("no container engine: neither `docker compose` nor `docker-compose` works")


def _works(*command):
    """Whether it says so within ten seconds: an engine that hangs is none."""
    try:
        return not subprocess.run(command, capture_output=True, check=False, timeout=10).returncode
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="module")
def service(compose):
    """The running service: a client for it, and a function that runs a Compose command."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}

    def run(*arguments):
        return subprocess.run(
            [*compose, *arguments], env=environment, check=True, capture_output=True, text=True
        ).stdout

    try:
        run("up", "--detach", "--build")
        with Client(f"http://127.0.0.1:{port}", timeout=60) as client:
            client.wait_ready(120)
            yield client, run
    finally:
        sys.stderr.write(run("logs", "--no-color"))
        run("down", "--volumes", "--timeout", "30")


def page():
    import skimage

    return (Path(skimage.__file__).parent / "data" / "page.png").read_bytes()


def test_a_page_is_read(service):
    client, _ = service
    response = client.post("/inference", page())
    response.raise_for_status()
    assert response.json()["lines"][0]["text"] == "Region-based segmentation"
    assert {"decode", "detect", "recognize"} <= response.timings.keys()


def test_what_is_no_image_is_refused(service):
    client, _ = service
    with pytest.raises(DecodingError):
        client.post("/inference", b"no image").raise_for_status()


def test_outputs_went_straight_from_container_to_container(service):
    client, _ = service
    client.post("/inference", page()).raise_for_status()
    status = client.get("/mesh/status").json()
    assert status["hub_hops"] == 0
    feeds = {one["stage"]: one["feed"] for one in status["replicas"]}
    assert all(feeds[stage].startswith("tcp://") for stage in ("decode", "detect"))


def test_another_replica_joins_and_leaves_while_requests_run(service):
    client, run = service
    run("up", "--detach", "--no-recreate", "--scale", "recognize=2")
    for _ in range(3):
        client.post("/inference", page()).raise_for_status()
    run("up", "--detach", "--no-recreate", "--scale", "recognize=1")
    client.post("/inference", page()).raise_for_status()
