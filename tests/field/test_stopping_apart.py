"""Gateways and stages that were started apart, each with a signal to all of its processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from example_runs import MESH, environment, free_port, free_ports
from site_runs import PATIENCE, Site, processes_of

from mesh import Client

SERVICE = """
import time

from mesh import Worker


class Slow(Worker):
    def forward(self, items):
        time.sleep(0.3)
        return items
"""
FILE = """
[gateway]
timeout = "30s"
processes = 2
bind = "tcp://127.0.0.1:{port}"

[stages.slow]
worker = "service:Slow"
max_batch_size = 4

[routes]
"/inference" = ["slow"]
"""
MANY = 30


@pytest.fixture
def parts(tmp_path):
    """One gateway of two processes, and two supervisors of its stage: each with its mark."""
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "mesh.toml").write_text(FILE.format(port=free_ports(2)))
    port, made = free_port(), []
    with contextlib.ExitStack() as held, (tmp_path / "log").open("wb") as log:
        for command in (["gateway"], ["stage", "slow"], ["stage", "slow"]):
            runs = tempfile.mkdtemp(prefix="r")
            held.callback(shutil.rmtree, runs)
            process = subprocess.Popen(
                [MESH, *command],
                cwd=tmp_path,
                env=environment(port) | {"XDG_RUNTIME_DIR": runs},
                stdout=log,
                stderr=log,
            )
            held.callback(process.wait)
            held.callback(process.kill)
            made.append(Site(port, 0, tmp_path, process, runs))
        with Client(made[0].url, timeout=PATIENCE) as client:
            client.wait_ready(PATIENCE)
        made[0].until(lambda: made[0].log().count("every replica of slow is ready") == 2, "alone")
        yield made


def test_a_signal_to_all_processes_of_each_part_in_turn_loses_nothing(parts):
    gateway, stage, _ = parts
    with ThreadPoolExecutor(MANY) as pool:

        def ask(number):
            with gateway.client() as client:
                return client.post("/inference", number).status

        for part in (stage, gateway):
            futures = [pool.submit(ask, number) for number in range(MANY)]
            gateway.until(
                lambda: gateway.metric("mesh_remaining_task") >= MANY / 2, "they do not come in"
            )
            for pid in processes_of(part.runs):
                os.kill(pid, signal.SIGTERM)
            assert [future.result(PATIENCE) for future in futures] == [200] * MANY, part.log()
            assert part.service.wait(PATIENCE) == 0
            assert not processes_of(part.runs)
    assert '"error"' not in gateway.log()
    assert "Traceback" not in gateway.log()
