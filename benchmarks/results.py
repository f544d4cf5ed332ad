"""Where and of what something was measured, and the file that keeps it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.failure import BenchmarkError
from benchmarks.peers import Peer
from benchmarks.plots import busy
from benchmarks.running import HERE

RESULTS = HERE / "measured"  # not "results": a folder would hide this module


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def commit() -> str:
    """The commit that is measured, with ``+`` where the tree differs from it."""
    name = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return name + ("+" if changed else "")


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True)
    return run.stdout.strip()


def facts(peers: Sequence[Peer], rounds: int, seconds: float) -> dict[str, object]:
    """What is written beside the figures: commit, machine, versions and settings."""
    return {
        "commit": commit(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": rounds,
        "seconds": seconds,
        "servers": {peer.name: {"version": peer.version, "flags": peer.flags} for peer in peers},
    }


def write(folder: Path, name: str, whole: Mapping[str, object]) -> Path:
    """Write a result as JSON; returns where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{name}-{whole['commit']}.json"
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


def warn_of_company() -> None:
    """Say so where others use this machine."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if busy(load, cores):
        tell(f"others use this machine (load {load:.1f} on {cores} cores): trust no figure of it")


@contextmanager
def forgiving(name: str) -> Iterator[None]:
    """What fails is told, and the rest goes on without it."""
    try:
        yield
    except BenchmarkError as error:
        tell(f"NOT MEASURED: {name}: {error}")


def tell(line: str) -> None:
    """Say how it goes, beside what is printed as the result."""
    sys.stderr.write(line + "\n")
