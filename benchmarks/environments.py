"""An environment for each peer that does not share ours: made when it is first asked for.

They lie in `.venv-peers/`, one folder each; deleting it makes a new one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.failure import BenchmarkError

FOLDER = Path(__file__).resolve().parent.parent / ".venv-peers"
_VERSION = "import sys; from importlib import metadata; print(metadata.version(sys.argv[1]))"


def python(name: str) -> Path:
    """The interpreter of an environment."""
    return FOLDER / name / "bin" / "python"


def make(name: str, requirement: str) -> None:
    """Make an environment of this requirement, unless it is there.

    Raises:
        BenchmarkError: it cannot be made; nothing of it stays.
    """
    stamp = FOLDER / name / "requirement"
    if stamp.exists() and stamp.read_text() == requirement:
        return
    sys.stderr.write(f"making an environment of {requirement} in {FOLDER / name} ...\n")
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(FOLDER / name)], name)
    pip = [str(python(name)), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    _run([*pip, requirement], name)
    stamp.write_text(requirement)


def _run(command: list[str], name: str) -> None:
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if run.returncode:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        raise BenchmarkError(f"{name} could not be installed:\n{run.stderr[-2000:]}")


def version(name: str, distribution: str) -> str:
    """The version of a package in an environment; empty where there is none."""
    if not python(name).exists():
        return ""
    command = [str(python(name)), "-c", _VERSION, distribution]
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return run.stdout.strip() if run.returncode == 0 else ""
