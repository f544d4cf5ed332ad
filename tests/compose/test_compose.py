"""docker-compose.yml: the OCR service in containers, asked from outside them."""

import contextlib
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

import pytest
from engine import docker, project

from benchmarks.ports import free_port
from mesh import Client, DecodingError

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "meshline-test"
# Building pulls the models and onnxruntime; starting loads them.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def service():
    """The running service: a client for it, and a function that runs a Compose command."""
    port, second = free_port(), free_port()
    run = project(PROJECT, ROOT / "docker-compose.yml", PORT=port, PORT2=second)
    try:
        run("up", "--detach", "--build")
        with Client(f"http://127.0.0.1:{port}", timeout=60) as client:
            client.wait_ready(120)
            client.second = f"http://127.0.0.1:{second}"
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
    direct = {one["stage"]: one["direct"] for one in status["replicas"]}
    assert direct["detect"] == direct["recognize"] == "1 of 1"


def test_another_replica_joins_and_leaves_while_requests_run(service):
    client, run = service
    run("up", "--detach", "--no-recreate", "--scale", "recognize=2")
    for _ in range(3):
        client.post("/inference", page()).raise_for_status()
    run("up", "--detach", "--no-recreate", "--scale", "recognize=1")
    client.post("/inference", page()).raise_for_status()


# --- under load ----------------------------------------------------------------------------------


class Load:
    """Posts a small page again and again; each answer must be the first one's.

    Args:
        url: of a gateway.
    """

    def __init__(self, url):
        self.sent, self.failed, self.slowest = 0, [], 0.0
        self._url, self._over = url, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def run(self, seconds):
        self._over.wait(seconds)

    def _run(self):
        wanted = None
        with Client(self._url, timeout=60) as client:
            while not self._over.is_set():
                began = monotonic()
                self.sent += 1
                try:
                    answer = client.post("/inference", small_page())
                    answer.raise_for_status()
                    lines = [line["text"] for line in answer.json()["lines"]]
                    wanted = wanted or lines
                    assert lines == wanted
                except Exception as error:  # noqa: BLE001 - whichever it is, it is counted
                    self.failed.append(repr(error))
                self.slowest = max(self.slowest, monotonic() - began)


def small_page():
    """The first lines of the page."""
    import cv2
    import numpy

    whole = cv2.imdecode(numpy.frombuffer(page(), numpy.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".png", whole[:60])[1].tobytes()


@pytest.fixture
def pair(service):
    """The service with two containers of each stage, as ids by stage."""
    client, run = service
    scale(run, 2)
    whole(client, 2)
    return {stage: run("ps", "--quiet", stage).split() for stage in STAGES}


STAGES = ("decode", "detect", "recognize")


def scale(run, count):
    wanted = [part for stage in STAGES for part in ("--scale", f"{stage}={count}")]
    run("up", "--detach", "--no-recreate", *wanted)


def whole(client, count, patience=90.0):
    """Wait until a gateway sees so many replicas of each stage; returns the seconds."""
    wanted = count if isinstance(count, dict) else dict.fromkeys(STAGES, count)
    began = monotonic()
    while True:
        with contextlib.suppress(Exception):
            there = client.get("/mesh/status").json()["replicas"]
            each = {s: sum(r["stage"] == s and r["connected"] for r in there) for s in STAGES}
            if each == wanted:
                return monotonic() - began
        assert monotonic() < began + patience, there
        threading.Event().wait(0.2)


def unharmed(what, load, took, capsys):
    with capsys.disabled():
        sys.stdout.write(
            f"\n{what}: {load.sent} sent, {len(load.failed)} failed, slowest {load.slowest:.2f} s, "
            f"all there again after {took:.1f} s\n"
        )
    assert not load.failed, load.failed
    assert load.sent > 1


def test_all_stages_grow_and_shrink_under_load(service, capsys):
    client, run = service
    with Load(client.url) as load:
        load.run(1.0)
        scale(run, 4)
        whole(client, 4)
        scale(run, 1)
        took = whole(client, 1)
        load.run(1.0)
    unharmed("every stage from 1 to 4 containers and back", load, took, capsys)


@pytest.mark.parametrize("stage", STAGES)
def test_a_container_is_killed(service, pair, stage, capsys):
    client, _ = service
    with Load(client.url) as load:
        load.run(1.0)
        docker("kill", "--signal", "KILL", pair[stage][0])
        load.run(1.0)
        docker("start", pair[stage][0])
        took = whole(client, 2)
    unharmed(f"a container of {stage} killed", load, took, capsys)


@pytest.mark.parametrize("seconds", [3.0, 15.0])
def test_a_container_is_paused(service, pair, seconds, capsys):
    client, _ = service
    with Load(client.url) as load:
        load.run(1.0)
        docker("pause", pair["detect"][0])
        load.run(seconds)
        docker("unpause", pair["detect"][0])
        took = whole(client, 2)
    unharmed(f"a container of detect paused for {seconds:g} s", load, took, capsys)


@pytest.mark.parametrize("stage", STAGES)
def test_a_container_is_cut_off(service, pair, stage, capsys):
    client, _ = service
    network, victim = f"{PROJECT}_default", pair[stage][0]
    with Load(client.url) as load:
        load.run(1.0)
        docker("network", "disconnect", network, victim)
        load.run(5.0)
        docker("network", "connect", network, victim)
        took = whole(client, 2)
    unharmed(f"a container of {stage} without network for 5 s", load, took, capsys)


def test_the_only_gateway_is_killed(service, pair, capsys):
    """Nobody is left to answer what it held; when it is back, so is everything else."""
    client, run = service
    (gateway,) = run("ps", "--quiet", "gateway").split()
    with Load(client.url) as load:
        load.run(1.0)
        docker("kill", "--signal", "KILL", gateway)
    assert load.sent > len(load.failed)
    docker("start", gateway)
    took = whole(client, 2)
    with Load(client.url) as load:
        load.run(2.0)
    unharmed("the only gateway killed and started again", load, took, capsys)


def test_one_of_two_gateways_is_killed(service, pair, capsys):
    client, run = service
    run("--profile", "two", "up", "--detach", "--no-recreate", "gateway2")
    with Client(client.second, timeout=60) as other:
        other.wait_ready(60)
        whole(other, 2)
        with Load(client.url) as load:
            load.run(1.0)
            docker("kill", "--signal", "KILL", *run("ps", "--quiet", "gateway2").split())
            load.run(3.0)
            took = whole(client, 2)
        run("--profile", "two", "rm", "--force", "gateway2")
    unharmed("the second gateway killed", load, took, capsys)


@pytest.fixture
def next_image():
    """The tag of an image that is another one, and the same in all but name."""
    context = "FROM meshline-ocr\nLABEL made=next\n"
    build = ["docker", "build", "--tag", "meshline-ocr:next", "-"]
    subprocess.run(build, input=context, text=True, check=True, capture_output=True)
    return "next"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_replaced_by_a_new_image(service, pair, next_image, stage, capsys):
    client, run = service
    with Load(client.url) as load:
        load.run(1.0)
        run("up", "--detach", "--no-recreate", "--scale", f"{stage}=4", stage, TAG=next_image)
        whole(client, {**dict.fromkeys(STAGES, 2), stage: 4})
        for old in pair[stage]:
            docker("stop", old)
            docker("rm", old)
        took = whole(client, 2)
        load.run(1.0)
    unharmed(f"{stage} replaced by a new image", load, took, capsys)
    images = {docker("inspect", "--format", "{{.Config.Image}}", one) for one in ids(run, stage)}
    assert images == {"meshline-ocr:next"}


def ids(run, stage):
    return run("ps", "--quiet", stage).split()


def test_one_of_two_gateways_is_replaced_by_a_new_image(service, pair, next_image, capsys):
    client, run = service
    run("--profile", "two", "up", "--detach", "--no-recreate", "gateway2")
    with Client(client.second, timeout=60) as other:
        other.wait_ready(60)
        with Load(client.url) as load:
            load.run(1.0)
            again = ("up", "--detach", "--no-deps", "gateway2")
            run("--profile", "two", *again, TAG=next_image)
            other.wait_ready(60)
            took = whole(other, 2)
            load.run(1.0)
    run("--profile", "two", "rm", "--stop", "--force", "gateway2")
    unharmed("the second gateway replaced by a new image", load, took, capsys)


def test_how_large_the_image_is_and_how_long_a_stage_starts(service, pair, capsys):
    client, _ = service
    megabytes = int(docker("image", "inspect", "--format", "{{.Size}}", "meshline-ocr")) / 1e6
    base = int(docker("image", "inspect", "--format", "{{.Size}}", "python:3.11-slim")) / 1e6
    began = monotonic()
    docker("restart", pair["decode"][0])
    client.get("/livez").raise_for_status()
    whole(client, 2)
    with capsys.disabled():
        sys.stdout.write(
            f"\nthe image: {megabytes:.0f} MB, of which python {base:.0f}; "
            f"a stage stopped and started: {monotonic() - began:.1f} s\n"
        )
    assert megabytes - base < 500  # the models and onnxruntime are nine tenths of it


def test_who_has_no_key_is_not_let_in(service, pair):
    client, _ = service
    image = docker("inspect", "--format", "{{.Config.Image}}", pair["decode"][0])
    run = ["docker", "run", "--rm", "--network", f"{PROJECT}_default", image]
    alone = "mesh keygen /keys >/dev/null && exec timeout 8 mesh stage detect -c compose.toml"
    stranger = subprocess.Popen([*run, "sh", "-c", alone], stdout=subprocess.PIPE, stderr=-2)
    while stranger.poll() is None:
        replicas = client.get("/mesh/status").json()["replicas"]
        assert [one["stage"] for one in replicas] == sorted(2 * STAGES)
        threading.Event().wait(0.2)
    assert "is ready" in stranger.communicate()[0].decode()  # it did try


# --- what each container has, and may do ---------------------------------------------------------

MADE = {
    "gateway": {"gateway.key"},
    "decode": {"stage-decode.key", "supervisor.key", "feed.key"},
    "detect": {"stage-detect.key", "supervisor.key", "feed.key"},
    "recognize": {"stage-recognize.key", "supervisor.key"},
}


def inside(run, part, *command):
    """What a command says in the first container of a part, and whether it succeeded."""
    done = subprocess.run(
        ["docker", "exec", ids(run, part)[0], *command], capture_output=True, text=True, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("part", MADE)
def test_a_container_has_the_keys_of_its_part_and_no_other(service, part):
    _, run = service
    mounted = inside(run, part, "ls", "/keys")[1].split()
    assert set(mounted) == MADE[part] | {"allowed.toml"}
    # All that this user may read, by what keys are called and by what stands in them.
    search = "grep --recursive --files-with-matches --no-messages '^secret = ' / --include='*.key'"
    _, found = inside(run, part, "sh", "-c", f"{search} --exclude-dir=proc --exclude-dir=sys")
    assert {path.rpartition("/")[2] for path in found.split()} == MADE[part]


def test_no_two_parts_have_the_same_secret_but_that_of_feeds(service):
    _, run = service
    secrets = [
        inside(run, part, "cat", f"/keys/{name}")[1]
        for part, names in MADE.items()
        for name in names - {"feed.key"}
    ]
    assert len(set(secrets)) == len(secrets)
    assert all("secret = " in one for one in secrets)


@pytest.mark.parametrize("part", MADE)
def test_a_container_writes_nowhere_but_to_its_own_tmp(service, part):
    _, run = service
    for path in ("/", "/service", "/home/mesh", "/keys", "/usr/local/lib", "/var/tmp"):
        done, said = inside(run, part, "touch", f"{path}/written")
        assert not done, path
        assert "Read-only file system" in said or "Permission denied" in said, said
    assert inside(run, part, "touch", "/tmp/written")[0]


@pytest.mark.parametrize("part", MADE)
def test_no_process_of_a_container_has_or_gains_a_capability(service, part):
    _, run = service
    statuses = inside(run, part, "sh", "-c", "cat /proc/[0-9]*/status")[1]
    held = re.findall(r"^Cap(Inh|Prm|Eff|Bnd|Amb):\s*(\w+)", statuses, re.MULTILINE)
    assert held
    assert {int(mask, 16) for _, mask in held} == {0}
    assert set(re.findall(r"^NoNewPrivs:\s*(\d)", statuses, re.MULTILINE)) == {"1"}
    assert "0" not in re.findall(r"^Uid:\s*(\d+)", statuses, re.MULTILINE)


def test_ports_are_published_on_loopback_alone(service):
    _, run = service
    published = {}
    for part in MADE:
        told = docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", *ids(run, part))
        bound = [one for row in told.splitlines() for one in json.loads(row).values() if one]
        published[part] = {place["HostIp"] for places in bound for place in places}
    assert published == {"gateway": {"127.0.0.1"}, **{stage: set() for stage in STAGES}}


def test_a_port_is_published_elsewhere_where_that_is_said(service):
    _, run = service
    told = run("--profile", "two", "config", ADDRESS="0.0.0.0")
    assert told.count("0.0.0.0") >= 2
    assert "127.0.0.1" not in told.replace("http://127.0.0.1", "")
