"""What keeps a process that has ended, by its name; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import atexit, sys, threading, time
from mesh.process import exit_watchdog
from mesh.process.exit_watchdog import ExitWatchdog, end_soon
exit_watchdog.EXIT_LIMIT_S = 0.05
"""
THREAD = "threading.Thread(target=time.sleep, args=[60], name='feeder').start()\nend_soon(4)"
ATEXIT = "atexit.register(lambda: time.sleep(60))\nend_soon(4)"
UNLOAD = "with ExitWatchdog(0.05, 4, 'its unload()'): time.sleep(60)"
PROCESS = """
import multiprocessing
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60], name="pool-1")
child.start()
end_soon(4)
"""


@pytest.mark.parametrize(
    ("what", "named"),
    [
        (THREAD, "threads that are no daemons: feeder"),
        (ATEXIT, "a function registered with atexit (<string>:"),
        (UNLOAD, "its unload() (<string>:"),
        (PROCESS, "multiprocessing children: pool-1 (pid "),
    ],
)
def test_what_keeps_it_is_named_and_left(what: str, named: str) -> None:
    script = f"{BEGIN}print('printed', end='')\n{what}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        process_group=0,
        timeout=30,
    )
    assert done.returncode == 4
    assert named in done.stderr
    assert done.stdout == "printed"


def test_who_is_in_time_is_left_alone() -> None:
    script = f"{BEGIN}exit_watchdog.EXIT_LIMIT_S = 30\nwith ExitWatchdog(30, 4): pass\nend_soon(4)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
