"""Every way to start a service and to end it, with real processes; nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
from site_runs import MESH, PATIENCE, Site, service_text, settings, stage

from benchmarks.ports import free_port
from mesh import ServerError
from mesh.client import Response

SERVICE = service_text("double_wrap")
WRAP = stage("Wrap", max_batch_size=4, env=[{"DEVICE": "one"}])


def described(**gateway: object) -> str:
    return settings({"double": "Double", "wrap": WRAP}, timeout="30s", **gateway)


def changed(old: str, new: str) -> str:
    """The service with something else in place of what comes first."""
    assert old in SERVICE
    return SERVICE.replace(old, new, 1)


def over_tcp() -> str:
    return described(bind=f"tcp://127.0.0.1:{free_port()}", insecure=True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with contextlib.closing(Site(tmp_path, SERVICE, described())) as made:
        yield made


def script(site: Site, *flags: str) -> subprocess.Popen[bytes]:
    return site.start(sys.executable, "service.py", *flags)


def up(site: Site, *flags: str) -> subprocess.Popen[bytes]:
    return site.start(MESH, "up", *flags)


@pytest.mark.parametrize("start", [script, up])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_everything_on_one_host(
    site: Site, start: Callable[[Site], subprocess.Popen[bytes]], number: signal.Signals
) -> None:
    service = start(site)
    with site.client() as client:
        client.wait_ready(PATIENCE)
        assert client.infer("ab") == {"answer": "abab", "device": "one"}
        with asking(site, "nap") as asked:
            service.send_signal(number)
            site.until(lambda: not client.get("/readyz").ok, "it is still ready")
            refused = client.post("/inference", "ab")
            assert (refused.status, refused.json()["error"]["code"]) == (503, "draining")
            assert asked.result(PATIENCE).json()["answer"] == "napnap"
    assert service.wait(PATIENCE) == 0, site.log()
    site.assert_nothing_is_left()
    lines = [json.loads(line) for line in site.log().splitlines()]
    assert {"info"} == {line["level"] for line in lines}, site.log()


@contextlib.contextmanager
def asking(site: Site, value: str) -> Iterator[Future[Response]]:
    """A request that is being computed, asked by a client of its own."""
    with ThreadPoolExecutor(1) as pool, site.client() as asker, site.client() as client:
        asked = pool.submit(asker.post, "/inference", value)
        site.until(
            lambda: "remaining_task 1.0" in client.get("/metrics").body.decode(), "not asked"
        )
        yield asked


def test_the_parts_as_processes_of_their_own_over_tcp(site: Site) -> None:
    site.describe(file=over_tcp())
    stages = [site.start(MESH, "stage", name) for name in ("double", "wrap")]
    gateway = site.start(MESH, "gateway")
    with site.client() as client:
        client.wait_ready(PATIENCE)
        assert client.infer("ab") == {"answer": "abab", "device": "one"}
        shown = subprocess.run(
            [MESH, "status", "--url", client.url, "--json"], capture_output=True, check=True
        )
        picture = json.loads(shown.stdout)
        replicas = {name: one["replicas"] for name, one in picture["stages"].items()}
        assert replicas == {"double": 1, "wrap": 1}
        assert (picture["deaths"], picture["missing"]) == (0, [])
        assert [one["direct"] for one in picture["replicas"]] == ["-", "1 of 1"]
        asked = subprocess.run(
            [MESH, "call", "--url", client.url, "/inference"],
            input=b'"x"',
            capture_output=True,
            check=True,
        )
        assert json.loads(asked.stdout)["answer"] == "xx"
    for process in (*stages, gateway):
        process.terminate()
        assert process.wait(PATIENCE) == 0, site.log()
    site.assert_nothing_is_left()


def test_a_crashed_replica_and_a_crashed_gateway_come_back(site: Site) -> None:
    service = script(site)
    with site.client() as client:
        client.wait_ready(PATIENCE)
        before = client.infer("who")["answer"]
        os.kill(before, signal.SIGKILL)
        site.until(lambda: client.post("/inference", "who").ok, "no replica came back")
        assert client.infer("who")["answer"] != before
        gateway = next(pid for pid in site.processes() if b"gateway" in command(pid))
        os.kill(gateway, signal.SIGKILL)
        with contextlib.suppress(Exception):
            client.get("/health")
        client.wait_ready(PATIENCE)
        assert client.infer("ab")["answer"] == "abab"
    service.terminate()
    assert service.wait(PATIENCE) == 0, site.log()
    site.assert_nothing_is_left()


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("start", [script, up])
def test_a_killed_parent_leaves_nothing_behind(
    site: Site, start: Callable[[Site], subprocess.Popen[bytes]]
) -> None:
    """Not even what a worker started for itself, such as a server of its own."""
    child = "def __init__(self):\n        self.child = subprocess.Popen(['sleep', '3600'])\n\n    "
    with_child = changed("def forward(self, value)", f"{child}def forward(self, value)")
    site.describe(f"import subprocess\n{with_child}")
    service = start(site)
    with site.client() as client:
        client.wait_ready(PATIENCE)
        assert any(command(pid).startswith(b"sleep") for pid in site.processes())
        service.kill()
        service.wait()
    site.assert_nothing_is_left()


def test_a_killed_supervisor_of_one_stage_leaves_nothing_behind(site: Site) -> None:
    site.describe(file=over_tcp())
    service = site.start(MESH, "stage", "double")
    site.until(lambda: "every replica of double is ready" in site.log(), "not ready")
    service.kill()
    service.wait()
    site.assert_nothing_is_left()


@pytest.mark.parametrize("start", [script, up])
def test_a_second_signal_ends_all_at_once(
    site: Site, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    service = start(site, "--timeout", "30000") if start is script else start(site)
    with site.client() as client:
        client.wait_ready(PATIENCE)
    with asking(site, "hang") as asked:
        service.send_signal(signal.SIGINT)
        site.until(lambda: "once more to stop at once" in site.log(), "not stopping")
        threading.Event().wait(1.0)  # within a second it would be the same stop
        began = monotonic()
        service.send_signal(signal.SIGINT)
        assert service.wait(PATIENCE) == 1, site.log()
        assert monotonic() - began < 2.0
        assert isinstance(asked.exception(PATIENCE), ServerError)
    site.assert_nothing_is_left()


@pytest.mark.parametrize("moment", ["start", "forward", "drain"])
def test_a_parent_that_is_killed_at_a_bad_moment_leaves_nothing_behind(
    site: Site, moment: str
) -> None:
    if moment == "start":
        slow = (
            "class Double(Worker):\n    def __init__(self):\n        import time; time.sleep(60)\n"
        )
        site.describe(changed("class Double(Worker):", slow))
        service = script(site)
        site.until(lambda: len(site.processes()) == 4 and "is ready" in site.log(), "not starting")
        service.kill()
    else:
        service = script(site, "--timeout", "1000")
        with site.client() as client:
            client.wait_ready(PATIENCE)
        with asking(site, "hang") as asked:
            if moment == "drain":
                service.terminate()
                site.until(lambda: "once more to stop at once" in site.log(), "not stopping")
            service.kill()
            assert not asked.result(PATIENCE).ok  # its time is over, and that is said
    service.wait()
    site.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import os", "import torhc", "No module named 'torhc' (service.py:3)"),
        (
            "class Wrap(Worker):",
            "class Wrap(Worker):\n    def __init__(self): 1 / 0\n",
            "ZeroDivisionError",
        ),
        ("class Wrap(Worker):", "class Wrap(Worker):\n    example = 5\n", "failed on example 1"),
        ('if __name__ == "__main__":', "if True:", '__name__ == \\"__main__\\"'),
    ],
)
def test_a_worker_that_cannot_start_ends_the_service_and_says_why_once(
    site: Site, old: str, new: str, said: str
) -> None:
    site.describe(changed(old, new))
    service = up(site) if "torhc" in new else script(site)
    assert service.wait(PATIENCE) == 3, site.log()
    errors = [line for line in site.log().splitlines() if '"error"' in line]
    assert said in site.log()
    assert sum("could not be started" in line for line in errors) == 1
    site.assert_nothing_is_left()


def test_a_port_that_is_taken(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)):
        service = script(site)
        assert service.wait(PATIENCE) == 3, site.log()
    assert f"127.0.0.1:{site.port}" in site.log()
    site.assert_nothing_is_left()


def test_wrong_settings_start_nothing(site: Site) -> None:
    site.describe(file=described(tiemout="3s"))
    service = up(site)
    assert service.wait(PATIENCE) == 2
    assert (
        "mesh.toml, line 3: [gateway] tiemout: unknown setting; did you mean 'timeout'?"
        in site.log()
    )
    site.assert_nothing_is_left()


def test_a_wrong_argument_in_a_script_is_one_line(site: Site) -> None:
    text = changed("append_worker(Double)", "append_worker(Double, num=0)")
    site.describe(text)
    service = script(site)
    assert service.wait(PATIENCE) == 2, site.log()
    (line,) = site.log().splitlines()
    assert json.loads(line)["message"] == "num must be at least 1, not 0"
    site.assert_nothing_is_left()


def test_another_error_of_a_script_is_shown_as_ever(site: Site) -> None:
    text = changed("append_worker(Double)", "append_worker(int)")
    site.describe(text)
    service = script(site)
    assert service.wait(PATIENCE) == 1, site.log()
    assert "Traceback" in site.log()
    assert "TypeError: worker must be a subclass of mesh.Worker" in site.log()
