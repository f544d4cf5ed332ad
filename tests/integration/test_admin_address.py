"""`[gateway] admin`: an address of its own for metrics and status, and who is shown what where."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import sys

import pytest
from site_runs import MESH, SERVICES, Site, running
from test_gateway_processes import SERVICE, described

from benchmarks.ports import free_port
from mesh import Client

HIDDEN = re.compile(r'"(pid|host|feed|replica|gateway)"')


def pages(url):
    with Client(url, timeout=20.0) as client:
        paths = (
            "/health",
            "/livez",
            "/ping",
            "/readyz",
            "/metrics",
            "/mesh/status",
            "/",
            "/nothing",
        )
        return {path: client.get(path).status for path in paths}


MAIN = {"/health": 200, "/livez": 200, "/ping": 200, "/readyz": 200, "/nothing": 404}


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_metrics_and_status_move_to_the_admin_address(tmp_path, kind):
    path = tmp_path / "admin.sock"
    admin = f"127.0.0.1:{free_port()}" if kind == "tcp" else f"unix:{path}"
    url = f"http://{admin}" if kind == "tcp" else admin
    file = described(1, admin=admin)
    with running(tmp_path, SERVICE, file) as site:
        moved = {"/metrics": 404, "/mesh/status": 404, "/": 200}
        assert pages(site.url) == MAIN | moved
        there = {"/metrics": 200, "/mesh/status": 200, "/": 404}
        assert pages(url) == MAIN | there
        with site.client() as main, Client(url) as own:
            listed = main.get("/").body.decode()
            assert "/metrics" not in listed
            assert "/mesh/status" not in listed
            assert own.post("/inference", "x").status == 404
            assert own.get("/mesh/status").json()["replicas"][0]["pid"] in site.replicas()
            assert b"mesh_inflight" in own.get("/metrics").body
        if kind == "unix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "replicas" in site.run(MESH, "status").stdout
    assert not path.exists()


def test_several_processes_share_the_admin_address(tmp_path):
    admin = f"127.0.0.1:{free_port()}"
    with running(tmp_path, SERVICE, described(2, admin=admin)) as site:
        with Client(f"http://{admin}", timeout=20.0) as client:

            def rows():
                return client.get("/mesh/status").json()["processes"]

            site.until(lambda: [row["ready"] for row in rows()] == [True, True], "not both ready")
            assert {row["process"] for row in rows()} == {1, 2}
            text = client.get("/metrics").body.decode()
            assert 'process="1"' in text
            assert 'process="2"' in text
            before = rows()[0]["pid"]
            os.kill(before, signal.SIGKILL)
        with Client(f"http://{admin}", timeout=20.0) as client:  # the sibling answers meanwhile

            def is_back():
                found = client.get("/mesh/status").json()["processes"]
                return all(row["ready"] for row in found) and found[0]["pid"] != before

            site.until(is_back, "the first process is not back")


def test_a_socket_that_a_dead_service_left_is_replaced(tmp_path):
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with running(tmp_path, SERVICE, described(1, admin=f"unix:{path}")):
        assert pages(f"unix:{path}")["/metrics"] == 200


@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("ip"), reason="makes a network namespace")
def test_strangers_are_not_shown_hosts_and_processes(tmp_path):
    line = f"ip link set lo up && exec {sys.executable} {SERVICES}/serves_inside.py {MESH}"
    with contextlib.closing(Site(tmp_path, SERVICE, described(2))) as site:
        done = site.run("unshare", "--net", "sh", "-c", line, MESH_GATEWAY_HTTP="127.0.0.1:8000")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert not HIDDEN.search(done.stdout), done.stdout
    assert shown["stages"]["echo"]["replicas"] == 1
    assert shown["replicas"][0]["connected"] is True
    assert [row["process"] for row in shown["processes"]] == [1, 2]


def test_on_loopback_they_are_as_nobody_else_reaches_it(tmp_path):
    with running(tmp_path, SERVICE, described(1)) as site:
        row = site.status()["replicas"][0]
        assert row["pid"] in site.replicas()
        assert row["feed"] in ("-", "ipc")
