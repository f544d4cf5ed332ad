"""The wheel is complete: it installs into an empty environment and serves from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from site_runs import ROOT, service_text, settings

from benchmarks.ports import free_port

PACKAGES = ("mesh", "gateway", "stage")

SERVICE = service_text("echo")

# Building and installing download packages, which takes as long as the network takes.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built by `make package`'s command, from a copy that has no earlier build in it."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", "dist", ".", cwd=source)
    return next((source / "dist").glob("meshline-*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", str(folder), cwd=folder)
    programs = folder / "bin"
    run(str(programs / "python"), "-m", "pip", "install", "--quiet", str(wheel), cwd=folder)
    return programs


def run(*command: str, cwd: Path) -> str:
    """What a command prints; its failure shows all of it."""
    done = subprocess.run(command, cwd=cwd, env=bare(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def bare() -> dict[str, str]:
    """The environment variables without those that would lend this tree's packages to a child."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {name for name in names if ".dist-info/" not in name}
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours == tree
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_wheel_asks_for_what_the_project_declares(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    asked = [line for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    assert len([line for line in asked if "extra ==" not in line]) == len(project["dependencies"])


def test_a_service_answers_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(SERVICE, encoding="utf-8")
    with serving(environment, tmp_path) as url:
        assert post(f"{url}/inference", ["from", "the", "wheel"]) == ["from", "the", "wheel"]
    assert {path.name for path in tmp_path.iterdir()} <= {"service.py", "__pycache__"}


def test_the_command_line_is_installed(environment: Path, tmp_path: Path) -> None:
    assert "check" in run(str(environment / "mesh"), "--help", cwd=tmp_path)
    (tmp_path / "service.py").write_text(SERVICE, encoding="utf-8")
    (tmp_path / "mesh.toml").write_text(settings({"echo": "Echo"}), encoding="utf-8")
    run(str(environment / "mesh"), "check", cwd=tmp_path)


@contextmanager
def serving(programs: Path, folder: Path) -> Iterator[str]:
    """The URL of `service.py`, started in `folder`, once it is ready; it ends in order."""
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [str(programs / "python"), "service.py", "--port", url.rpartition(":")[2]],
        cwd=folder,
        env=bare(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> None:
    """Return when the service says that it is ready; raise if it ends before."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as refusal:
            refusal.close()
        except urllib.error.URLError:
            threading.Event().wait(0.05)
    raise AssertionError(f"not ready; exit code {process.poll()}")


def post(url: str, value: object) -> object:
    """The value that a POST of `value` as JSON brings back."""
    request = urllib.request.Request(url, json.dumps(value).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
