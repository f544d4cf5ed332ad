"""Gateways and stages that were started apart, each with a signal to all of its processes."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

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
insecure = true

[stages.slow]
worker = "service:Slow"
max_batch_size = 4

[routes]
"/inference" = ["slow"]
"""
MANY = 30


def all_gone(runs):
    """What a killed supervisor leaves behind still clears up in its folder."""
    end = monotonic() + PATIENCE
    while processes_of(runs):
        assert monotonic() < end
        sleep(0.05)


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
            held.callback(all_gone, runs)
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

        def ask(item):
            with gateway.client() as client:
                return client.post("/inference", item).status

        for number, part in enumerate((stage, gateway), 1):
            futures = [pool.submit(ask, item) for item in range(MANY)]
            wanted = number * MANY
            gateway.until(lambda: gateway.taken_in() == wanted, "they do not come in")  # noqa: B023
            for pid in processes_of(part.runs):
                os.kill(pid, signal.SIGTERM)
            assert [future.result(PATIENCE) for future in futures] == [200] * MANY, part.log()
            assert part.service.wait(PATIENCE) == 0
            assert not processes_of(part.runs)
    assert '"error"' not in gateway.log()
    assert "Traceback" not in gateway.log()


@pytest.mark.parametrize(
    "command", [["gateway"], ["gateway", "--processes", "2"], ["stage", "slow"]], ids=" ".join
)
def test_a_part_that_was_started_with_the_interrupt_ignored_says_so(tmp_path, command):
    (tmp_path / "service.py").write_text(SERVICE)
    file = FILE.format(port=free_ports(2)).replace("processes = 2", "processes = 1")
    (tmp_path / "mesh.toml").write_text(file)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["env", "--ignore-signal=INT", MESH, *command],
            cwd=tmp_path,
            env=environment(free_port()),
            stdout=log,
            stderr=log,
        )
    try:
        site = Site(0, 0, tmp_path, process, "")
        wanted = "Ctrl-C (SIGINT) is ignored, as whoever started this wanted; stop it: kill {}"
        site.until(lambda: wanted.format(process.pid) in site.log(), "it does not say so")
        assert site.log().count("Ctrl-C") == 1
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(PATIENCE) == 0, site.log()
    finally:
        process.kill()
        process.wait()
