"""Parts of a mesh that are started with the command `mesh`, in a folder with settings files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import counts, processes
from benchmarks.failure import BenchmarkError

PATIENCE = 20.0


@contextmanager
def mesh(folder: Path, mark: str, *command: str) -> Iterator[None]:
    """A `mesh` command, until it has ended in order.

    Args:
        folder: with the settings file, and one called `counts` for what workers count.
        mark: that its processes bear.
        command: what follows `mesh`.
    """
    names = {counts.FOLDER: str(folder / "counts"), processes.MARK: mark}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("mesh")), *command],
        cwd=folder,
        env=os.environ | names,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


def wait(reached: Callable[[], bool], patience: float = PATIENCE, pause: float = 0.003) -> None:
    """Wait until something is reached, looking again after each pause.

    Raises:
        BenchmarkError: it is not, within `patience` seconds.
    """
    end = time.monotonic() + patience
    while not reached():
        if time.monotonic() > end:
            raise BenchmarkError(f"nothing came within {patience:.0f} s")
        time.sleep(pause)
