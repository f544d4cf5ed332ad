"""Gateways and stages that were started apart, each with a signal to all of its processes."""

import contextlib
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from site_runs import MESH, PATIENCE, Site, service_text, settings, stage

from benchmarks.ports import free_ports

MANY = 30


def described(processes):
    bind = f"tcp://127.0.0.1:{free_ports(2)}"
    gateway = {"timeout": "30s", "processes": processes, "bind": bind, "insecure": True}
    return settings({"slow": stage("First", max_batch_size=4)}, **gateway)


@pytest.fixture
def parts(tmp_path):
    """One gateway of two processes, and two supervisors of its stage: each with its mark."""
    made, file = [], described(2)
    with contextlib.ExitStack() as held:
        for command in (["gateway"], ["stage", "slow"], ["stage", "slow"]):
            part = Site(tmp_path, service_text("steps"), file)
            made.append(held.enter_context(contextlib.closing(part)))
            part.port = made[0].port
            part.mesh(*command)
        made[0].wait_ready()
        made[0].until(lambda: made[0].log().count("every replica of slow is ready") == 2, "alone")
        yield made


def test_a_signal_to_all_processes_of_each_part_in_turn_loses_nothing(parts):
    gateway, stage, _ = parts
    with ThreadPoolExecutor(MANY) as pool:

        def ask(item):
            with gateway.client() as client:
                return client.post("/inference", [item]).status

        for number, part in enumerate((stage, gateway), 1):
            futures = [pool.submit(ask, item) for item in range(MANY)]
            wanted = number * MANY
            gateway.until(lambda: gateway.taken_in() == wanted, "they do not come in")  # noqa: B023
            for pid in part.processes():
                os.kill(pid, signal.SIGTERM)
            assert [future.result(PATIENCE) for future in futures] == [200] * MANY, part.log()
            assert part.service.wait(PATIENCE) == 0
            assert not part.processes()
    assert '"error"' not in gateway.log()
    assert "Traceback" not in gateway.log()


@pytest.mark.parametrize(
    "command", [["gateway"], ["gateway", "--processes", "2"], ["stage", "slow"]], ids=" ".join
)
def test_a_part_that_was_started_with_the_interrupt_ignored_says_so(tmp_path, command):
    site = Site(tmp_path, service_text("steps"), described(1))
    with contextlib.closing(site):
        process = site.start("env", "--ignore-signal=INT", MESH, *command)
        wanted = "Ctrl-C (SIGINT) is ignored, as this process was started so; stop it: kill {}"
        site.until(lambda: wanted.format(process.pid) in site.log(), "it does not say so")
        assert site.log().count("Ctrl-C") == 1
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        site.end()
