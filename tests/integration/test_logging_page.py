"""docs/logging.md: its commands are run as they stand there, and write what it shows."""

import contextlib
import os
import re
import subprocess

import pytest
from site_runs import MESH, ROOT, Site

PAGE = (ROOT / "docs" / "logging.md").read_text()


LANGUAGES = ("python", "toml")


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


class Shell(Site):
    """A folder with the page's service, and what was started there."""

    def __init__(self, folder):
        blocks = {name: re.findall(rf"```{name}\n(.*?)```", PAGE, re.S)[0] for name in LANGUAGES}
        super().__init__(folder, *blocks.values(), PATH=f"{MESH.parent}:{os.environ['PATH']}")

    def says(self, command):
        """What a command writes; one that starts the service stays until `stop`."""
        command = command.replace(":8000", f":{self.port}")
        if not command.startswith("mesh up"):
            return subprocess.run(
                command, shell=True, cwd=self.folder, capture_output=True, text=True, check=True
            ).stdout
        self.start("sh", "-c", f"exec {command}")
        self.waits(lambda: "serving http" in self.written())
        return ""

    def written(self):
        """What the service has written, wherever its command sends it."""
        log = self.folder / "service.log"
        return self.log() + (log.read_text() if log.exists() else "")

    def waits(self, true):
        def look():
            assert self.service.poll() is None, self.written()
            return true()

        self.until(look, "it is not written")


@pytest.fixture
def shell(tmp_path):
    with contextlib.closing(Shell(tmp_path)) as made:
        yield made


def test_there_are_commands():
    commands = [command for session in sessions() for command, _ in session]
    assert {command.split()[0] for command in commands} == {"mesh", "curl", "tail"}


@pytest.mark.parametrize("session", list(sessions()), ids=lambda session: session[0][0])
def test_what_the_page_shows_is_written(shell, session):
    for command, shown in session:
        if command.startswith("tail"):  # the access log comes after the answer
            shell.waits(lambda: "POST /inference 200" in shell.written())
        said = shell.says(command)
        wanted = [plain(line) for line in shown]
        shell.waits(
            lambda said=said, wanted=wanted: (
                set(wanted) <= {plain(line) for line in f"{said}\n{shell.written()}".splitlines()}
            )
        )
    shell.end()
