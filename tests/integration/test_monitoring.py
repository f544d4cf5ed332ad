"""What watches the service: board and alerts name our metrics, and Prometheus takes them all."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from time import monotonic, sleep

import pytest
from example_runs import file, serving

from benchmarks.ports import free_port
from gateway.admin.merged_metrics import packed, united
from gateway.admin.metrics import Levels, Metrics
from mesh.protocol.messages import BatchStats

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "examples" / "monitoring"
NAME = re.compile(r"\bmesh_\w+")
PATIENCE = 30.0


def exposed():
    """Names of the series that gateways show when everything has happened to them."""
    metrics = Metrics("mesh")
    metrics.record_stats([BatchStats("a", 1, 0, 1, "full", expired=1, cancelled=1)])
    once = ("retries", "deaths", "cancelled", "connections_dropped")
    for name, labels in (*((name, 1) for name in once), ("throughput", 2)):
        metrics.count(name, ("x",) * labels)
    levels = Levels(1, {"/": 1}, {"/": 1}, {"a": 1}, {"a": 1})
    text = united("mesh", {1: packed(metrics.families(levels)), 2: None}).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {NAME.match(line).group() for line in lines} - {
        name for line in lines if (name := NAME.match(line).group()).endswith("_created")
    }


def board_queries():
    batch_record = json.loads((MONITORING / "grafana" / "meshline.json").read_text())
    return [target["expr"] for panel in batch_record["panels"] for target in panel["targets"]]


def named(text):
    return set(NAME.findall(text))


def family(name):
    return re.sub(r"_(bucket|sum|count)$", "", name)


def test_board_and_alerts_ask_for_nothing_that_we_do_not_show():
    asked = named("\n".join(board_queries())) | named((MONITORING / "alerts.yml").read_text())
    assert asked - exposed() == set()


def test_the_board_shows_all_that_we_count():
    shown = {family(name) for name in named("\n".join(board_queries()))}
    assert {family(name) for name in exposed()} - shown == set()


def promtool(*arguments, **more):
    if not shutil.which("promtool"):
        pytest.skip("no prometheus: there is no `promtool` command")
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def test_promtool_finds_no_fault_with_configuration_and_alerts():
    done = promtool("check", "config", MONITORING / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The echo example with a Prometheus that scrapes it: the client, and how to ask."""
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus: there is no `prometheus` command")
    place = tmp_path_factory.mktemp("prometheus")
    with serving(file, "echo", place) as client:
        for _ in range(20):
            client.infer({"text": "some words"})
        client.post("/inference", b"{")  # a refusal is counted, too
        (place / "prometheus.yml").write_text(configuration(client.url))
        port = free_port()
        command = [
            "prometheus",
            f"--config.file={place / 'prometheus.yml'}",
            f"--storage.tsdb.path={place / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (place / "prometheus.log").open("w") as log:
            prometheus = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield client, lambda path, **query: ask(port, path, query)
        finally:
            prometheus.terminate()
            prometheus.wait(PATIENCE)


def configuration(url):
    target = url.removeprefix("http://")
    return (
        f"global: {{scrape_interval: 1s}}\n"
        f"rule_files: ['{MONITORING / 'alerts.yml'}']\n"
        f"scrape_configs: [{{job_name: meshline, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )


def ask(port, path, query):
    """What Prometheus says, waiting for as long as it starts."""
    address = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    until = monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                return json.load(answer)["data"]
        except OSError:
            assert monotonic() < until, "Prometheus does not answer"
            sleep(0.1)


def test_prometheus_scrapes_a_gateway_and_answers_the_board(watched):
    client, asked = watched
    until = monotonic() + PATIENCE
    while not (value := asked("query", query="sum(mesh_throughput_total)")["result"]):
        assert monotonic() < until, asked("targets", state="active")
        sleep(0.1)
    assert float(value[0]["value"][1]) == 21
    (target,) = asked("targets", state="active")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    up = asked("query", query="mesh_replica_up")["result"]
    stages = {one["metric"]["stage"]: one["value"][1] for one in up}
    assert stages == {"parse": "1", "shout": "1", "wrap": "1"}
    for query in board_queries():
        asked("query", query=query.replace("$__rate_interval", "30s"))  # an error is no answer
    (group,) = asked("rules")["groups"]
    assert len(group["rules"]) == len(named_alerts())
    done = promtool("check", "metrics", input=client.get("/metrics").body.decode())
    assert done.returncode == 0, done.stdout + done.stderr


def named_alerts():
    return re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text())


def said(command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def composed(*files):
    """These files as Compose reads them, which needs no engine."""
    for command in (["docker-compose"], ["docker", "compose"]):
        # A `docker` without the plugin says so in other words from version to version.
        if shutil.which(command[0]) and said([*command, "version"]).returncode == 0:
            words = [word for name in files for word in ("-f", str(ROOT / name))]
            done = said(
                [*command, *words, "config"],
                env=os.environ | {"PORT": "8000", "COMPOSE_PROFILES": "two"},
            )
            assert done.returncode == 0, done.stderr
            return done.stdout
    return pytest.skip("no container engine: neither `docker compose` nor `docker-compose` works")


CONTAINERS = {
    "the service": ["docker-compose.yml"],
    "its stages on GPUs": ["docker-compose.yml", "docker-compose.gpu.yml"],
    "with what watches": ["docker-compose.yml", "docker-compose.monitoring.yml"],
    "large bodies": ["tests/compose/large/docker-compose.yml"],
}
# What each container must have, however its file says so.
CONFINED = {
    "a root that nobody writes to": r"read_only: true",
    "no capabilities": r"cap_drop:\n\s*- ALL\b",
    "and none to gain": r"no-new-privileges:true",
    "memory for what it writes to /tmp": r"tmpfs:\n\s*- /tmp\b",
    "a limit of memory": r"mem_limit: ['\"]?\w",
}


def services(text):
    """The text of each service in what Compose says."""
    block = re.search(r"^services:\n((?:[ ].*\n|\n)*)", text, re.MULTILINE).group(1)
    parts = re.split(r"^  ([\w-]+):\n", block, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def services_of_file(path):
    """The lines of a Compose file that begin a service."""
    block = path.read_text().partition("\nservices:\n")[2]
    block = re.split(r"^\w", block, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^  [\w-]+:", block, re.MULTILINE)


def test_every_compose_file_is_held_to_the_rules():
    named = {name for names in CONTAINERS.values() for name in names}
    there = {path.relative_to(ROOT) for path in ROOT.glob("docker-compose*.yml")}
    there |= {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("docker-compose*.yml")}
    assert set(map(str, there)) == named


@pytest.mark.parametrize("files", CONTAINERS.values(), ids=CONTAINERS)
def test_every_container_is_confined(files):
    found = services(composed(*files))
    named = {line[2:-1] for name in files for line in services_of_file(ROOT / name)}
    assert set(found) == named
    for name, text in found.items():
        for what, pattern in CONFINED.items():
            assert re.search(pattern, text), f"{name} has not {what}\n{text}"
        published = re.search(r"^    ports:\n((?:    .*\n)*?)(?=^    \w|\Z)", text, re.MULTILINE)
        for entry in re.findall(r"- .*", published.group(1)) if published else ():
            assert "127.0.0.1" in entry, f"{name} publishes {entry}"


def test_compose_pins_replicas_to_gpus():
    text = composed("docker-compose.yml", "docker-compose.gpu.yml")
    devices = re.findall(r"device_ids:\s*- '?\"?(\d)", text)
    assert sorted(devices) == ["0", "0", "1"]
    # What one file gives each of its services the other repeats for its own.
    ours = text.count("image: meshline-ocr")
    for common in ("init: true", "stop_grace_period:"):
        assert text.count(common) >= ours, common
    assert len(re.findall(r"/keys\b(?!-)", text)) >= ours - 1  # all but the maker of the keys


def test_compose_adds_what_watches():
    text = composed("docker-compose.yml", "docker-compose.monitoring.yml")
    for mounted in ("prometheus.yml", "alerts.yml", "sources.yml", "boards.yml", "meshline.json"):
        assert re.search(rf"{re.escape(str(MONITORING))}/(grafana/)?{re.escape(mounted)}", text)
    kept = {"prometheus": "/prometheus", "grafana": "/var/lib/grafana"}
    for name, place in kept.items():
        assert re.search(rf"\b{name}-kept:{place}(:rw)?$", services(text)[name], re.MULTILINE)
