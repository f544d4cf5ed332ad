"""Scripts and files as people write them: what is refused at the start, and in which words."""

import contextlib
import re
import sys

import pytest
from site_runs import MESH, Site, running, service_text, settings, shows_our_code, stage

SCRIPT = service_text("nap_script")
CLASSES = service_text("wrong_classes")


@pytest.fixture
def site(tmp_path):
    with contextlib.closing(Site(tmp_path)) as made:
        yield made


def run(site, *command, **variables):
    """Run a command to its end; returns its exit code and what it wrote."""
    ran = site.run(*command, **variables)
    assert not shows_our_code(ran.stderr), ran.stderr
    return ran.returncode, ran.stdout, ran.stderr


def script(site, *flags, **variables):
    """Run the script to its end."""
    site.describe(SCRIPT)
    return run(site, sys.executable, "service.py", *flags, **variables)


def serving(folder, *flags, timeout=0):
    """Serve with the script; ends in order."""
    command = ["env", f"NAP_TIMEOUT={timeout}", sys.executable, "service.py", *flags]
    return running(folder, SCRIPT, command=command)


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
def test_a_flag_works_or_is_refused_in_one_line(site, flags, said):
    code, _, shown = script(site, *flags.split())
    assert (code, shown.count("\n")) == (2, 1)
    assert said in shown


def test_a_dry_run_starts_everything_and_says_how_long_that_took(site):
    code, shown, log = script(site, "--dry-run", MOSEC_TIMEOUT="5000")
    assert code == 0, log
    head, *rows = shown.splitlines()
    assert head.split() == "stage replica loaded in examples which took".split()
    assert [re.sub(r"\d+\.\d\d", "T", row).split() for row in rows] == [
        ["nap", "1", "T", "s", "1", "T", "s"],
        ["plain", "1", "T", "s", "none", "-"],
        ["plain", "2", "T", "s", "none", "-"],
    ]
    assert "the variable MOSEC_TIMEOUT is mosec's and is not read here; set MESH_GATEWAY" in log


def test_a_dry_run_of_what_does_not_start_fails(site):
    code, shown, log = script(site, "--dry-run", "--start-timeout", "1ms")
    assert (code, shown) == (3, "")
    assert "was not ready within 0.001 s (start_timeout)" in log


# --- workers that could serve nothing ------------------------------------------------------------


def mesh(site, name, *command, **more):
    """Run a `mesh` command on a file whose only stage is this class."""
    site.describe(CLASSES, settings({"one": name}, **more))
    return run(site, MESH, *command)


CLASS_FAULTS = [
    ("Async", r"Async.forward (service.py:17) is an `async def`, which is not served"),
    ("Yields", r"Yields.forward (service.py:22) is a generator (it has a `yield`)"),
    ("Reads", r"Reads.deserialize (service.py:33) is an `async def`, which is not served"),
    ("Alone", r"Alone.forward (service.py:41) takes (self): too many positional arguments"),
    ("Called", r"Called.__call__ (service.py:46) is not what a stage calls; rename it to forward"),
]


@pytest.mark.parametrize(("name", "said"), CLASS_FAULTS)
def test_a_class_that_could_serve_nothing_is_refused_with_its_line(site, name, said):
    code, _, shown = mesh(site, name, "check", "--import")
    assert code == 3, shown
    assert said in shown


def test_a_replica_refuses_it_once(site):
    code, _, shown = mesh(site, "Async", "up")
    assert code == 3, shown
    assert shown.count("Async.forward (service.py:17) is an `async def`") == 1


def test_a_script_refuses_it_before_anything_is_started(site):
    site.describe(CLASSES)
    text = "from mesh import Server\nfrom service import Async\nServer().append_worker(Async)\n"
    (site.folder / "main.py").write_text(text)
    code, _, shown = run(site, sys.executable, "main.py")
    assert (code, shown.count("\n")) == (2, 1)
    assert "Async.forward (service.py:17) is an `async def`" in shown


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
def test_what_a_worker_says_of_itself_is_looked_at_once(site, name, said):
    code, _, shown = mesh(site, name, "up")
    assert code == 3, shown
    assert shown.count("could not be started") == 1
    assert said in shown
    assert "restart in" not in shown


def test_a_version_that_no_message_can_carry_is_no_restart_loop(site):
    code, _, shown = mesh(site, "Plain", "up", top={"version": "1" * 5000})
    assert code == 2, shown
    assert "mesh.toml, line 1: version: must be printable ASCII, 128 characters at most" in shown


# --- timeouts ------------------------------------------------------------------------------------


def test_a_stages_own_timeout_is_enough_for_a_slow_model(tmp_path):
    with serving(tmp_path, timeout=30) as site, site.client() as client:
        assert client.post("/inference", 4).json() == 4
    assert "timeout" not in site.log()


def test_who_is_told_that_it_took_too_long_is_told_what_to_raise(tmp_path):
    with serving(tmp_path, "--timeout", "1500", timeout=0.3) as site, site.client() as client:
        slow = client.post("/inference", 1)
        late = client.post("/inference", 1, headers={"X-Request-Timeout": "100ms"})
    assert slow.status == late.status == 504
    said = slow.json()["error"]["message"]
    assert said.startswith("forward took longer than 0.3 s; raise the stage's timeout: append_work")
    assert "timeout in [stages.nap]" in said
    assert "--timeout, or timeout in [gateway]" in said
    assert "raise timeout in [gateway] (--timeout of a script)" in late.json()["error"]["message"]


def test_a_stages_timeout_that_no_request_can_take_is_a_warning(site):
    code, _, shown = mesh(site, stage("Plain", timeout="30s"), "check", timeout="3s")
    assert code == 0
    assert "[stages.one] timeout = 30s is more than [gateway] timeout = 3s" in shown
