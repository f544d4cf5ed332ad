"""docs/logging.md: its commands are run as they stand there, and write what it shows."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from time import monotonic

import pytest
from example_runs import MESH, free_port

PAGE = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
PATIENCE = 40.0


def sessions():
    """The console blocks of the page: each command with the lines that it shows."""
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        parts = re.split(r"^\$ (.+)\n", block, flags=re.MULTILINE)[1:]
        yield list(zip(parts[::2], map(str.splitlines, parts[1::2]), strict=True))


def plain(line):
    """A line without what differs from run to run."""
    line = re.sub(r"meshline-[\w-]+", "FOLDER", line)
    line = re.sub(r"\b[0-9a-f]{13,16}\b", "NAME", line)
    line = re.sub(r"\(\S+, pid \d+\)", "(WHERE)", line)
    line = re.sub(r"ipc://\S+/gateway.sock", "SOCKET", line)
    line = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", line)
    line = re.sub(r"\d+\.\d+", "N", line)
    line = re.sub(r'"bytes":\d+|\d+ bytes', "BYTES", line)
    return re.sub(r"\d\d\d\d-\d\d-\d\dT[\d:N]+Z?|^\d\d:\d\d:\d\d", "TIME", line)


class Shell:
    """A folder with the page's service, and what was started there."""

    def __init__(self, folder, runs):
        self.folder, self.port = folder, free_port()
        self.environment = os.environ | {
            "MESH_GATEWAY_HTTP": f"127.0.0.1:{self.port}",
            "XDG_RUNTIME_DIR": runs,
            "PATH": f"{MESH.parent}:{os.environ['PATH']}",
        }
        for language, name in {"python": "service.py", "toml": "mesh.toml"}.items():
            (folder / name).write_text(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[0])
        self.out = folder / "out"
        self.service = None

    def run(self, command):
        """What a command writes; one that starts the service stays until `stop`."""
        command = command.replace(":8000", f":{self.port}")
        if not command.startswith("mesh up"):
            run = subprocess.run(
                command, shell=True, cwd=self.folder, capture_output=True, text=True, check=True
            )
            return run.stdout
        with self.out.open("wb") as out:
            self.service = subprocess.Popen(
                f"exec {command}",
                shell=True,
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=out,
            )
        self.until(lambda: "serving http" in self.written())
        return ""

    def written(self):
        """What the service has written, wherever its command sends it."""
        log = self.folder / "service.log"
        return self.out.read_text() + (log.read_text() if log.exists() else "")

    def until(self, true):
        end = monotonic() + PATIENCE
        while not true():
            assert monotonic() < end, self.written()
            assert self.service.poll() is None, self.written()
            threading.Event().wait(0.02)

    def stop(self):
        self.service.send_signal(signal.SIGTERM)
        assert self.service.wait(PATIENCE) == 0, self.written()


@pytest.fixture
def shell(tmp_path):
    runs = tempfile.mkdtemp(prefix="r")
    made = Shell(tmp_path, runs)
    yield made
    if made.service is not None:
        with contextlib.suppress(ProcessLookupError):
            made.service.kill()
        made.service.wait()
    shutil.rmtree(runs)


def test_there_are_commands():
    commands = [command for session in sessions() for command, _ in session]
    assert {command.split()[0] for command in commands} == {"mesh", "curl", "tail"}


@pytest.mark.parametrize("session", list(sessions()), ids=lambda session: session[0][0])
def test_what_the_page_shows_is_written(shell, session):
    for command, shown in session:
        if command.startswith("tail"):  # the access log comes after the answer
            shell.until(lambda: "POST /inference 200" in shell.written())
        said = shell.run(command)
        wanted = [plain(line) for line in shown]
        shell.until(
            lambda said=said, wanted=wanted: (
                set(wanted) <= {plain(line) for line in f"{said}\n{shell.written()}".splitlines()}
            )
        )
    shell.stop()
