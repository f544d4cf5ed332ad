"""Scripts and files as people write them: what is refused at the start, and in which words."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from example_runs import MESH, environment, free_port
from site_runs import shows_our_code

from mesh import Client

PATIENCE = 60.0
SCRIPT = """
import time
from mesh import Server, Worker

class Nap(Worker):
    example = 0

    def forward(self, seconds):
        time.sleep(seconds)
        return seconds

class Plain(Worker):
    def forward(self, data):
        return data

if __name__ == "__main__":
    server = Server()
    server.append_worker(Nap, timeout={timeout})
    server.append_worker(Plain, route="/plain", num=2)
    server.run()
"""
CLASSES = """
import functools
from mesh import Worker

def passed_on(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)
    return wrapper

class Async(Worker):
    async def forward(self, data):
        return data

class Yields(Worker):
    def forward(self, data):
        yield data

class Wrapped(Worker):
    @passed_on
    async def forward(self, data):
        return data

class Reads(Worker):
    async def deserialize(self, payload):
        return payload
    def forward(self, data):
        return data

class Alone(Worker):
    def forward(self):
        return 1

class Called(Worker):
    def __call__(self, data):
        return data

class Plain(Worker):
    def forward(self, data):
        return data

class NoType(Plain):
    resp_mime_type = None

class BytesType(Plain):
    resp_mime_type = b"text/plain"

class LongType(Plain):
    resp_mime_type = "text/" + "a" * 5000

class SplitType(Plain):
    resp_mime_type = "text/plain\\r\\nX: y"

class Schema(Plain):
    @classmethod
    def get_forward_json_schema(cls, target, ref_template):
        raise KeyError("no model")

class HugeSchema(Plain):
    @classmethod
    def get_forward_json_schema(cls, target, ref_template):
        return {"description": "x" * 5_000_000}, {}

class Batches(Plain):
    max_batch_size = 8

class Stage(Plain):
    def __init__(self):
        self.stage = "decode"

class Examples(Plain):
    multi_examples = 5

class Later(Plain):
    example = 1
    def __init__(self):
        self.model = self.ask
    async def ask(self, data):
        return data
    def forward(self, data):
        return self.model(data)
"""


def run(folder, *command, **variables):
    """Run a command to its end; returns its exit code and what it wrote."""
    ran = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert not shows_our_code(ran.stderr), ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


def script(folder, *flags, timeout=0, **variables):
    """Run the script to its end."""
    (folder / "service.py").write_text(SCRIPT.format(timeout=timeout))
    return run(folder, sys.executable, "service.py", *flags, **variables)


@contextmanager
def serving(folder, *flags, timeout=0):
    """Serve with the script; ends in order."""
    port = free_port()
    (folder / "service.py").write_text(SCRIPT.format(timeout=timeout))
    command = [sys.executable, "service.py", "--port", str(port), *flags]
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            client.wait_ready(PATIENCE)
            yield client
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE) == 0
    finally:
        service.kill()
        service.wait()


# --- flags and variables -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--replicas 3", "--replicas sets nothing; give it to append_worker, as num"),
        ("--max-batch-size 8", "--max-batch-size sets nothing; give it to append_worker"),
        ("--log_level debug", "--log_level is written --log-level"),
        ("--timeout=abc", "argument --timeout: must be a number of ms, not 'abc'"),
        ("--timeout -1", "argument --timeout: must be at least 1ms, not '-1'"),
        ("--port 99999", "must be a port, 0 to 65535, not '99999'"),
    ],
)
def test_a_flag_works_or_is_refused_in_one_line(tmp_path, flags, said):
    code, _, shown = script(tmp_path, *flags.split())
    assert (code, shown.count("\n")) == (2, 1)
    assert said in shown


def test_a_dry_run_starts_everything_and_says_how_long_that_took(tmp_path):
    code, shown, log = script(tmp_path, "--dry-run", MOSEC_TIMEOUT="5000")
    assert code == 0, log
    head, *rows = shown.splitlines()
    assert head.split() == "stage replica loaded in examples which took".split()
    assert [re.sub(r"\d+\.\d\d", "T", row).split() for row in rows] == [
        ["nap", "1", "T", "s", "1", "T", "s"],
        ["plain", "1", "T", "s", "none", "-"],
        ["plain", "2", "T", "s", "none", "-"],
    ]
    assert "the variable MOSEC_TIMEOUT is mosec's and is not read here; set MESH_GATEWAY" in log


def test_a_dry_run_of_what_does_not_start_fails(tmp_path):
    code, shown, log = script(tmp_path, "--dry-run", "--start-timeout", "1ms")
    assert (code, shown) == (3, "")
    assert "was not ready within 0.001 s (start_timeout)" in log


# --- workers that could serve nothing ------------------------------------------------------------


def mesh(folder, name, *command):
    """Run a `mesh` command on a file whose only stage is this class."""
    (folder / "service.py").write_text(CLASSES)
    (folder / "mesh.toml").write_text(
        f'[stages.one]\nworker = "service:{name}"\n[routes]\n"/inference" = ["one"]\n'
    )
    return run(folder, MESH, *command, **environment(free_port()))


CLASS_FAULTS = [
    ("Async", r"Async.forward (service.py:12) is an `async def`, which is not served"),
    ("Yields", r"Yields.forward (service.py:16) is a generator (it has a `yield`)"),
    ("Reads", r"Reads.deserialize (service.py:25) is an `async def`, which is not served"),
    ("Alone", r"Alone.forward (service.py:31) takes (self): too many positional arguments"),
    ("Called", r"Called.__call__ (service.py:35) is not what a stage calls; rename it to forward"),
]


@pytest.mark.parametrize(("name", "said"), CLASS_FAULTS)
def test_a_class_that_could_serve_nothing_is_refused_with_its_line(tmp_path, name, said):
    code, _, shown = mesh(tmp_path, name, "check", "--import")
    assert code == 3, shown
    assert said in shown


def test_a_replica_refuses_it_once(tmp_path):
    code, _, shown = mesh(tmp_path, "Async", "up")
    assert code == 3, shown
    assert shown.count("Async.forward (service.py:12) is an `async def`") == 1


def test_a_script_refuses_it_before_anything_is_started(tmp_path):
    (tmp_path / "service.py").write_text(CLASSES)
    text = "from mesh import Server\nfrom service import Async\nServer().append_worker(Async)\n"
    (tmp_path / "main.py").write_text(text)
    code, _, shown = run(tmp_path, sys.executable, "main.py")
    assert (code, shown.count("\n")) == (2, 1)
    assert "Async.forward (service.py:12) is an `async def`" in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoType", "NoType.resp_mime_type must be a text such as"),
        ("BytesType", "BytesType.resp_mime_type must be a text such as"),
        ("LongType", "LongType.resp_mime_type has 5005 characters, and at most 255 are sent"),
        ("SplitType", "SplitType.resp_mime_type must be a content type such as"),
        ("Schema", "Schema.get_forward_json_schema failed: KeyError: 'no model'"),
        ("HugeSchema", "HugeSchema.get_forward_json_schema makes 10000"),
        ("Batches", "Batches sets max_batch_size to 8, but the service sets it"),
        ("Stage", "Stage sets stage to 'decode', but the service sets it"),
        ("Examples", "Examples.multi_examples must be a list of inputs of forward, not 5"),
        ("Later", "forward returned a coroutine; await it inside of forward"),
    ],
)
def test_what_a_worker_says_of_itself_is_looked_at_once(tmp_path, name, said):
    code, _, shown = mesh(tmp_path, name, "up")
    assert code == 3, shown
    assert shown.count("could not be started") == 1
    assert said in shown
    assert "restart in" not in shown


def test_a_version_that_no_message_can_carry_is_no_restart_loop(tmp_path):
    (tmp_path / "service.py").write_text(CLASSES)
    file = '[stages.one]\nworker = "service:Plain"\n[routes]\n"/inference" = ["one"]\n'
    (tmp_path / "mesh.toml").write_text(f'version = "{"1" * 5000}"\n{file}')
    code, _, shown = run(tmp_path, MESH, "up", **environment(free_port()))
    assert code == 2, shown
    assert "mesh.toml, line 1: version: must be printable ASCII, 128 characters at most" in shown


# --- timeouts ------------------------------------------------------------------------------------


def test_a_stages_own_timeout_is_enough_for_a_slow_model(tmp_path):
    with serving(tmp_path, timeout=30) as client:
        assert client.post("/inference", 4).json() == 4
    assert "timeout" not in (tmp_path / "log").read_text()


def test_who_is_told_that_it_took_too_long_is_told_what_to_raise(tmp_path):
    with serving(tmp_path, "--timeout", "1500", timeout=0.3) as client:
        slow = client.post("/inference", 1)
        late = client.post("/inference", 1, headers={"X-Request-Timeout": "100ms"})
    assert slow.status == late.status == 504
    said = slow.json()["error"]["message"]
    assert said.startswith("forward took longer than 0.3 s; raise the stage's timeout: append_work")
    assert "timeout in [stages.nap]" in said
    assert "--timeout, or timeout in [gateway]" in said
    assert "raise timeout in [gateway] (--timeout of a script)" in late.json()["error"]["message"]


def test_a_stages_timeout_that_no_request_can_take_is_a_warning(tmp_path):
    (tmp_path / "service.py").write_text(CLASSES)
    (tmp_path / "mesh.toml").write_text(
        '[gateway]\ntimeout = "3s"\n[stages.one]\nworker = "service:Plain"\ntimeout = "30s"\n'
        '[routes]\n"/inference" = ["one"]\n'
    )
    code, _, shown = run(tmp_path, MESH, "check")
    assert code == 0
    assert "[stages.one] timeout = 30s is more than [gateway] timeout = 3s" in shown
