"""What every test is held to: it leaves nothing behind, and it is not skipped without good reason.

A unit test is checked by itself: the threads, child processes and open files that it began with
are those that it ends with. Other tests may share a running service, so they are checked together
when the session ends; a process is then found by the mark in its environment, even one whose
parent is gone.

A test that skips for a reason outside `ALLOWED_SKIPS` fails. Reasons are printed at the end of
the run (``-ra`` in pyproject.toml). How long a test may take is `timeout` there.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mesh import log

# How many examples a property is tried with; chosen by `--hypothesis-profile`. The same ones every
# time where a verdict must not depend on luck. Machines differ: nothing fails by its time.
_thorough = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", _thorough)
settings.register_profile("steady", _thorough, max_examples=100, derandomize=True)
settings.register_profile("quick", _thorough, max_examples=8, derandomize=True)
settings.load_profile("steady")

ALLOWED_SKIPS = (
    r"no container engine: .+",
    r"no curl: .+",
    r"no h2load: .+",
    r"no wrk: .+",
    r"no libfaketime: .+",
    r"no own mount namespace: .+",
    r"no cgroup of our own: .+",
    r"no prometheus: .+",
    r"no network namespace: .+",
)

MARK = "MESHLINE_TEST_SESSION"
NOHUP = "MESHLINE_TEST_NOHUP"  # tells the workers of a session that SIGHUP does not end it
# Seconds that what is ending may take to have ended: after a unit test, after the session.
UNIT_PATIENCE, SESSION_PATIENCE = 0.5, 5.0

# Held for as long as Python runs by whoever opened them first, so not a test's to close.
LASTING_FILES = re.compile(
    r"/dev/(null|u?random)|anon_inode:\[pidfd\]|.*\.(so|py|pyc|pth|zip)(\..*)?"
)


def pytest_configure() -> None:
    """Undo what a session inherited from a script in the background, `nohup` or a daemon.

    A service that a test starts would inherit it as well, and not end by Ctrl-C.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGQUIT: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGCHLD: signal.SIG_DFL,
    }
    # Whoever ignores it wants the session to outlive a terminal: so do it and its workers, but not
    # the services.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN or NOHUP in os.environ:
        os.environ[NOHUP] = "1"
        signal.signal(signal.SIGHUP, lambda *_: None)
    for number, action in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, action)


def pytest_collection_finish() -> None:
    """Let collections of garbage leave out the tests themselves, which stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest, session_leaves: None) -> Iterator[None]:
    """Fail a unit test that leaves a thread, a child process or an open file behind."""
    if "unit" not in request.path.parts:
        yield
        return
    before = _held()
    yield
    log.reset()  # or the next test's lines go where this one wanted its own
    _demand_none(lambda: _held() - before, UNIT_PATIENCE)


@pytest.fixture(scope="session", autouse=True)
def session_leaves() -> Iterator[None]:
    """Fail a session that leaves a thread, a process or an open socket behind."""
    os.environ[MARK] = str(os.getpid())
    before = _held()
    yield
    _demand_none(lambda: _lasting(before) | _marked(), SESSION_PATIENCE)


def _lasting(before: set[str]) -> set[str]:
    """What is held now and was not before; files aside, which libraries keep once imported."""
    return {name for name in _held() - before if not name.startswith("file")}


def _demand_none(leftovers: Callable[[], set[str]], patience: float) -> None:
    end = time.monotonic() + patience
    while (left := leftovers()) and time.monotonic() < end:
        gc.collect()
        threading.Event().wait(0.05)
    if left:
        pytest.fail("left behind: " + ", ".join(sorted(left)), pytrace=False)


def _held() -> set[str]:
    return _threads() | _children() | _files()


def _threads() -> set[str]:
    return {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}


def _children() -> set[str]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # none at all: the usual case, told without reading all of /proc
        return set()
    me = os.getpid()
    return {f"process {pid} ({_command(pid)})" for pid in _pids() if _parent(pid) == me}


def _marked() -> set[str]:
    """Every process that began, directly or not, in this session, itself left out."""
    mark = f"{MARK}={os.getpid()}".encode()
    return {
        f"process {pid} ({_command(pid)})"
        for pid in _pids()
        if pid != os.getpid() and mark in _read(pid, "environ").split(b"\0")
    }


def _files() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the listing's own descriptor
            continue
        if not LASTING_FILES.fullmatch(target):
            kind = "socket" if target.startswith("socket:") else "file"
            found.add(f"{kind} {target} ({number})")
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip() or "ended"


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip for no good reason into a failure, before anybody counts it."""
    report = yield
    if not hasattr(report, "wasxfail"):
        _judge_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    _judge_skip(report)
    return report


def _judge_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped:
        return
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if not any(re.fullmatch(allowed, reason) for allowed in ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped for a reason that conftest.py does not allow: {reason}"
