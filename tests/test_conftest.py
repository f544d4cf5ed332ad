"""The checks of `conftest.py` notice what they are there for: planted tests break each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

UNIT = """
import os, socket, subprocess, sys, threading, time
import pytest

kept = []
stop = threading.Event()

@pytest.mark.xfail(reason="planted")
def test_known_to_fail():
    raise ValueError

def test_clean():
    with socket.socket():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        subprocess.run([sys.executable, "-c", ""], check=True)

def test_thread():
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()

def test_child():
    kept.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_socket():
    kept.append(socket.socket())

def test_descriptor():
    kept.append(os.pipe())

def test_slow():
    stop.wait(60)

def test_warning():
    import warnings
    warnings.warn("planted")

def test_skipped():
    pytest.skip("no time")

@pytest.mark.skip(reason="no container engine: planted")
def test_rightly_skipped():
    pass

@pytest.mark.skip
def test_skipped_without_reason():
    pass
"""

MODULE = """
import pytest
pytest.skip("not today", allow_module_level=True)
"""

ORPHAN = '''
import subprocess, sys

def test_leaves_a_grandchild():
    """The child ends; its own child, in a session of its own, lives on."""
    inner = "import threading; threading.Event().wait(8)"
    outer = (
        "import subprocess, sys;"
        f"subprocess.Popen([sys.executable, '-c', {inner!r}], start_new_session=True)"
    )
    subprocess.run([sys.executable, "-c", outer], stdout=subprocess.DEVNULL, check=True)

def test_shares_a_service():
    assert True
'''


SIGNALS = """
import signal, subprocess, sys
import pytest

@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP", "SIGCHLD", "SIGQUIT", "SIGTERM"])
def test_what_a_service_inherits(name):
    code = f"import signal; print(signal.getsignal(signal.{name}) is signal.SIG_IGN,"
    code += "signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "False set()\\n"

def test_nohup_stays_what_it_is():
    signal.raise_signal(signal.SIGHUP)
"""
# What a shell's background, nohup and a daemon may leave; a program that is started inherits it.
IGNORING = (
    "import os, signal, sys\n"
    "for name in 'SIGINT', 'SIGHUP', 'SIGCHLD', 'SIGQUIT', 'SIGTERM':\n"
    "    signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass
class Run:
    """What became of one planted session: its exit code and its text."""

    code: int
    text: str

    def line(self, name: str) -> str:
        """What the summary says of the test or file `name`; its failure, if it has one."""
        spoken = [line for line in self.text.splitlines() if name in line.partition(" - ")[0]]
        for word in ("FAILED", "ERROR", "SKIPPED", "XFAIL", "PASSED"):
            for line in spoken:
                if line.startswith(word):
                    return line
        raise LookupError(self.text)


def planted(
    folder: Path, files: dict[str, str], *options: str, before: tuple[str, ...] = ()
) -> Run:
    """Run pytest on `files` below `folder`, under the project's own conftest and configuration."""
    for name, text in files.items():
        path = folder / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "conftest.py", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [*before, sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options]
    command.append("--continue-on-collection-errors")
    names = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    run = subprocess.run(
        command, cwd=folder, env=names, stdin=subprocess.PIPE, capture_output=True, text=True
    )
    return Run(run.returncode, run.stdout + run.stderr)


@pytest.fixture(scope="module", params=["serial", "parallel"])
def unit_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One session of unit tests that break every rule, each rule once."""
    files = {"unit/test_planted.py": UNIT, "unit/test_module.py": MODULE}
    options = ["-o", "timeout=2", *(["-n", "1"] if request.param == "parallel" else [])]
    return planted(tmp_path_factory.mktemp("planted"), files, *options)


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["serial", "parallel"])
def test_what_a_session_ignores_its_services_do_not(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    before = (sys.executable, "-c", IGNORING)
    run = planted(tmp_path, {"integration/test_signals.py": SIGNALS}, *options, before=before)
    assert run.code == 0, run.text


@pytest.mark.parametrize("name", ["test_clean", "test_known_to_fail"])
def test_what_leaves_nothing_passes(unit_run: Run, name: str) -> None:
    assert unit_run.line(name).startswith(("PASSED", "XFAIL"))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("test_thread", "left behind: thread"),
        ("test_child", "left behind: file pipe:"),
        ("test_socket", "left behind: socket"),
        ("test_descriptor", "left behind: file pipe"),
        ("test_slow", "Timeout"),
        ("test_warning", "UserWarning: planted"),
        ("test_skipped", "does not allow: no time"),
        ("test_skipped_without_reason", "does not allow: unconditional skip"),
        ("test_module.py", "does not allow: not today"),
    ],
)
def test_a_planted_breach_fails(unit_run: Run, name: str, complaint: str) -> None:
    assert unit_run.code == 1
    assert unit_run.line(name).startswith(("FAILED", "ERROR"))
    assert complaint in unit_run.text


def test_a_child_that_lives_on_is_named(unit_run: Run) -> None:
    assert "-c input())" in unit_run.text


def test_an_allowed_skip_is_printed_with_its_reason(unit_run: Run) -> None:
    skips = [line for line in unit_run.text.splitlines() if line.startswith("SKIPPED")]
    assert len(skips) == 1
    assert "no container engine: planted" in skips[0]


def test_a_process_whose_parent_is_gone_fails_the_session(tmp_path: Path) -> None:
    run = planted(tmp_path, {"integration/test_planted.py": ORPHAN})
    assert run.code == 1
    assert "2 passed, 1 error" in run.text
    assert "left behind: process" in run.text
