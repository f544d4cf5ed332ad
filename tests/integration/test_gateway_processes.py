"""Several gateway processes that share one HTTP port: who takes what, and what the pages say."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
from prometheus_client.parser import text_string_to_metric_families
from site_runs import MESH, PATIENCE, Site, is_running, running, service_text, settings, stage

from benchmarks.ports import free_ports
from mesh import ServerError

SERVICE = service_text("waits_and_naps")


def described(processes=2, **more):
    stages = {"echo": stage("Echo", max_batch_size=64)}
    return settings(stages, processes=processes, timeout="20s", **more)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("two"), SERVICE, described()) as site:
        until_all_serve(site)
        yield site


def rows(site):
    """What is said of each process."""
    return site.status()["processes"]


def serve_all(site, count=2):
    """Whether so many processes are ready."""
    return [row["ready"] for row in rows(site)] == [True] * count


def until_all_serve(site, count=2):
    site.until(lambda: serve_all(site, count), "not all processes are ready")


def pids(site):
    return [row["pid"] for row in rows(site)]


def is_back(site, number, before):
    """Whether a process has a successor and all serve; who asks may meet the end of the old one."""
    try:
        found = rows(site)
    except ServerError:
        return False
    return all(row["ready"] for row in found) and found[number - 1]["pid"] != before


def samples(site):
    """The metrics: values by process and name, labels left out."""
    with site.client() as client:
        text = client.get("/metrics").body.decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            key = one.labels["process"], one.name
            found[key] = found.get(key, 0.0) + one.value
    return found


def answered(site):
    """How many requests each process has answered."""
    seen = samples(site)
    return [int(seen.get((number, "mesh_throughput_total"), 0)) for number in ("1", "2")]


def established(port, pid):
    """How many clients' connections to the port a process has."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}")}
    listening = {f"socket:[{line[9]}]" for line in lines if line[3] == "0A"}
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(path) in ours - listening
    return count


@contextlib.contextmanager
def connected(site, count):
    """So many connections that come at once."""
    clients = [socket.socket() for _ in range(count)]
    for one in clients:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.1", site.port))
    try:
        yield clients
    finally:
        for one in clients:
            one.close()


def test_both_processes_serve_the_requests_of_32_connections(site):
    before = answered(site)

    def ask(_):
        with site.client() as client:
            return [client.infer(number) for number in range(50)]

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(ask, range(32))) == [list(range(50))] * 32
    grown = [now - then for now, then in zip(answered(site), before, strict=True)]
    assert sum(grown) == 32 * 50
    assert min(grown) > 32 * 50 / 5, grown


@pytest.mark.parametrize("count", [8, 64, 500])
def test_connections_that_come_at_once_are_spread(site, count):
    """Of three times the middle one counts: a busy machine may hold up a process."""
    spreads = sorted(burst(site, count) for _ in range(3))
    assert spreads[1] >= count * 0.36, spreads


def burst(site, count):
    """How many of so many connections the process has that gets fewer of them."""
    both = pids(site)

    def spread():
        return [established(site.port, pid) for pid in both]

    site.until(lambda: sum(spread()) == 0, "others are there")
    with connected(site, count):
        site.until(lambda: sum(spread()) == count, "not all were taken")
        return min(spread())


def test_connections_that_come_one_after_the_other_are_spread(site):
    both, clients = pids(site), []
    site.until(lambda: sum(established(site.port, pid) for pid in both) == 0, "others are there")
    try:
        for count in range(1, 31):
            clients.append(site.connect())
            site.until(
                lambda count=count: sum(established(site.port, pid) for pid in both) == count,
                "it was not taken",
            )
        assert min(established(site.port, pid) for pid in both) >= 12
    finally:
        for one in clients:
            one.close()


def test_the_status_shows_every_process_whoever_is_asked(site):
    asked = set()
    while len(asked) < 2:
        picture = site.status()
        asked.add(picture["gateway"])
        assert [row["process"] for row in picture["processes"]] == [1, 2]
        assert picture["gateway"] in [row["gateway"] for row in picture["processes"]]
        assert {row["answers"] for row in picture["processes"]} == {True}
        assert {row["draining"] for row in picture["processes"]} == {False}
    shown = site.run(MESH, "status", "--url", site.url).stdout
    assert "\nprocesses\n" in shown
    for row in rows(site):
        assert re.search(rf"{row['process']} +{row['gateway']} +{row['pid']} ", shown), shown


def test_the_metrics_are_those_of_both(site):
    seen = samples(site)
    for number in ("1", "2"):
        assert seen[number, "mesh_process_up"] == 1
        assert seen[number, "mesh_replica_up"] == 1
        assert (number, "mesh_hedges_total") in seen


def test_promtool_finds_no_fault_with_the_metrics_of_both(site):
    if not shutil.which("promtool"):
        pytest.skip("no prometheus: there is no `promtool` command")
    with site.client() as client:
        client.infer("something to count")
        text = client.get("/metrics").body
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_process_that_stands_still_is_shown_and_holds_nobody_up(site):
    still = pids(site)[1]
    os.kill(still, signal.SIGSTOP)
    try:
        began = monotonic()
        seen = samples(site)
        assert monotonic() - began < 3.0
        assert (seen["1", "mesh_process_up"], seen["2", "mesh_process_up"]) == (1, 0)
        assert ("2", "mesh_replica_up") not in seen
        first, second = rows(site)
        assert (first["answers"], first["ready"]) == (True, True)
        assert second == {"process": 2, "ready": False, "answers": False}
        with site.client() as client:
            assert client.get("/readyz").ok
            assert client.infer("go on") == "go on"
    finally:
        os.kill(still, signal.SIGCONT)
    until_all_serve(site)
    assert samples(site)["2", "mesh_process_up"] == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_the_port_refuses_until_every_stage_is_there(tmp_path, processes):
    (tmp_path / "wait").touch()
    with contextlib.closing(Site(tmp_path, SERVICE, described(processes))) as site:
        site.mesh("up", "--log-level", "debug")
        site.until(lambda: "echo/1 started" in site.log())
        with pytest.raises(ConnectionRefusedError):
            site.connect()
        (tmp_path / "wait").unlink()
        site.wait_ready()
        site.end()
        with pytest.raises(ConnectionRefusedError):
            site.connect()


def over_tcp(folder):
    """A service whose parts meet at the ports of two gateways."""
    port = free_ports(2)
    file = described(1, bind=f"tcp://127.0.0.1:{port}", insecure=True)
    site = Site(folder, SERVICE, file, MESH_GATEWAY_PROCESSES="2")
    site.mesh_port = port
    return site


@contextlib.contextmanager
def parts(site, *commands):
    """A service whose parts are started one by one."""
    with contextlib.closing(site):
        for command in commands:
            site.mesh(*command)
        site.wait_ready()
        until_all_serve(site)
        yield site


def test_gateways_alone_with_a_stage_alone(tmp_path):
    """A gateway that dies is back at its own mesh port, where the stage dials it again."""
    commands = (("gateway", "--processes", "2"), ("stage", "echo"))
    with parts(over_tcp(tmp_path), *commands) as site, site.client() as client:
        first_life = rows(site)
        doomed = first_life[1]["pid"]
        os.kill(doomed, signal.SIGKILL)
        site.until(lambda: is_back(site, 2, doomed), "no successor came")
        assert rows(site)[0] == first_life[0]
        with connected(site, 8):  # so that whoever comes next is for either of them
            assert client.infer("still there") == "still there"
        assert site.log().count(f"replicas at tcp://127.0.0.1:{site.mesh_port + 1}") == 2
        for process in site.started:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, site.log()
        assert "it was stopping" not in site.log()
        site.assert_nothing_is_left()


def test_gateways_whose_parent_is_killed_leave(tmp_path):
    with parts(over_tcp(tmp_path), ("gateway",), ("stage", "echo")) as site:
        both = pids(site)
        gateway, stage = site.started
        gateway.kill()
        site.until(lambda: not any(map(is_running, both)), "they are still there")
        with pytest.raises(ConnectionRefusedError):
            site.connect()
        stage.terminate()
        assert stage.wait(PATIENCE) == 0


def test_processes_that_only_the_gateway_was_told_of(tmp_path):
    """A flag of the gateway's: the stage, whose file knows of one, finds the other all the same."""
    commands = (("stage", "echo"), ("gateway", "--processes", "2"))
    with parts(Site(tmp_path, SERVICE, described(1)), *commands) as site:
        with connected(site, 8):
            for _ in range(8):
                with site.client() as another:
                    assert another.infer("hello") == "hello"
        for process in reversed(site.started):
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, site.log()
