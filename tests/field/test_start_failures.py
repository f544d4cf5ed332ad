"""A model that fails to load says where, what, and all of it."""

import re

import pytest
from site_runs import refused, running, settings, stage

HEAD = """
import os
import signal
import sys
import time

from mesh import Worker


def load_model(path):
    raise OSError(f"no weights at {path}")


class Embed(Worker):
"""
FORWARD = """
    def forward(self, value):
        return value
"""
CUDA = "CUDA error: device-side assert|CUDA kernel errors may come later|Compile with DSA"
FILE = settings({"embed": stage("Embed", start_timeout="20s")})


def reason(service):
    """Why it could not be started, in a line."""
    (line,) = service.messages("the service could not be started: ")
    return line.partition("started: ")[2]


def failed(folder, constructor, forward=FORWARD, head=HEAD, file=FILE):
    """The reason and all tracebacks of a service whose constructor does that."""
    made = "    def __init__(self):\n" + "".join(f"        {line}\n" for line in constructor)
    code, service = refused(folder, head + made + forward, file)
    assert code == 3, service.log()
    traces = [one["traceback"] for one in service.records() if "traceback" in one]
    return reason(service), "\n".join(traces), service


def test_a_constructor_that_raises_shows_all_of_it_once(tmp_path):
    constructor = [
        "print('loading weights')",
        "try:",
        "    load_model('/models/a')",
        "except OSError as error:",
        f"    raise RuntimeError({CUDA!r}.replace(chr(124), chr(10))) from error",
    ]
    why, trace, service = failed(tmp_path, constructor)
    assert re.fullmatch(
        r"embed/1: Embed.__init__ failed: RuntimeError: CUDA error: device-side assert ... "
        r"Compile with DSA \(service.py:\d+\)",
        why,
    )
    assert "in load_model" in trace
    assert "OSError: no weights at /models/a" in trace
    assert "direct cause" in trace
    assert "CUDA kernel errors may come later" in trace
    assert "stage/server.py" not in trace
    assert service.log().count("in load_model") == 1
    assert "loading weights" in service.log()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sys.exit(3)", r"embed/1: Embed.__init__ failed: it called sys.exit\(3\) \(service.py"),
        ("raise KeyboardInterrupt", r"embed/1: Embed.__init__ failed: KeyboardInterrupt \(serv"),
        (
            "type(self).wants_meta = property(load_model)",
            r"embed/1: stage embed cannot serve: OSError: no weights at <service.Embed .* \(serv",
        ),
        *[
            (
                f"type(self).{name} = {made}",
                r"embed/1: stage embed cannot serve: it called sys.exit\(4\) \(service.py:\d+\)",
            )
            for name, made in (
                ("example", "property(lambda self: sys.exit(4))"),
                ("resp_mime_type", "property(lambda self: sys.exit(4))"),
                ("get_forward_json_schema", "classmethod(lambda *_: sys.exit(4))"),
            )
        ],
    ],
)
def test_a_constructor_that_leaves_or_breaks_what_we_ask_for_is_named(tmp_path, line, said):
    why, trace, _ = failed(tmp_path, [line])
    assert re.match(said, why), why
    assert line in trace or "in load_model" in trace


def test_a_warm_up_that_fails_names_the_example_and_shows_all_of_it(tmp_path):
    why, trace, _ = failed(
        tmp_path,
        ["self.multi_examples = [[1], []]"],
        "\n    def forward(self, value):\n        return value[0]\n",
    )
    expected = (
        "embed/1: Embed failed on example 2 of 2: IndexError: list index out of range (service.py"
    )
    assert why.startswith(expected)
    assert "return value[0]" in trace


def test_an_import_that_fails_shows_all_of_it(tmp_path):
    why, trace, _ = failed(tmp_path, ["pass"], head=HEAD.replace("class", "load_model(7)\n\nclass"))
    assert "service:Embed cannot be imported: OSError: no weights at 7 (service.py" in why
    assert "load_model(7)" in trace


def test_a_model_that_is_killed_while_it_loads_may_have_run_out_of_memory(tmp_path):
    why, _, _ = failed(tmp_path, ["os.kill(os.getpid(), signal.SIGKILL)"])
    said = "embed/1 was killed by signal 9 while starting, in Embed.__init__; out of memory?"
    assert why.startswith(said)


def test_an_import_that_never_returns_is_named(tmp_path):
    head = HEAD.replace("class", "time.sleep(600)\n\nclass")
    file = FILE.replace("20s", "6s")
    why, _, service = failed(tmp_path, ["pass"], head=head, file=file)
    assert re.fullmatch(
        r"embed/1: was not ready within 6 s \(start_timeout\); "
        r"it was in <module> \(service.py:\d+\)",
        why,
    )
    (stack,) = service.messages("its stack:")
    assert "time.sleep(600)" in stack


def test_a_later_start_that_fails_shows_all_of_it_too(tmp_path):
    marker = tmp_path / "broken"
    lines = [f"if os.path.exists({str(marker)!r}):", "    load_model('/gone')"]
    made = "    def __init__(self):\n" + "".join(f"        {line}\n" for line in lines)
    forward = "\n    def forward(self, value):\n        os._exit(1)\n"
    with running(tmp_path, HEAD + made + forward, FILE, ours=True) as service:

        def traced():
            return [one for one in service.records() if "in load_model" in one.get("traceback", "")]

        marker.touch()
        assert service.ask(1)[0] in (500, 502, 503, 504)
        (record, *_) = service.until(traced, "the traceback of the second start")
        assert "Embed.__init__ failed: OSError: no weights at /gone" in record["message"]
        marker.unlink()
