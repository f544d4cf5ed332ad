"""Machines that allow little: few open files, nowhere to write, no home, no folder to be in."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from example_runs import MESH, free_port, wait_ready
from site_runs import PATIENCE

from mesh import Client

SERVICE = """
from mesh import Server, Worker


class Echo(Worker):
    def forward(self, value):
        return value


class Hoarder(Worker):
    def __init__(self):
        self.files = [open(__file__) for _ in range(48)]

    def forward(self, value):
        return value


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo)
    server.run()
"""
FILE = """
[stages.echo]
worker = "service:{name}"

[routes]
"/inference" = ["echo"]
"""
NO_PLACE = ("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP")


@pytest.fixture
def folder():
    """A service's folder, in no place that a test covers, and for others to read."""
    folder = Path(tempfile.mkdtemp(prefix="bare", dir="/var/tmp"))
    folder.chmod(0o755)
    (folder / "service.py").write_text(SERVICE)
    (folder / "mesh.toml").write_text(FILE.format(name="Echo"))
    yield folder
    shutil.rmtree(folder)


def bare(port, **names):
    """An environment with no more in it than a service needs."""
    left = {name: value for name, value in os.environ.items() if name not in NO_PLACE}
    return left | {"MESH_GATEWAY_HTTP": f"127.0.0.1:{port}"} | names


def refused(command, folder, **names):
    """Run a command that cannot start; returns its exit code and what it says, which is a line."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=bare(free_port(), **names),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def serves(command, folder, **names):
    """Run a service by this command, ask it, and stop it in order; returns what it said."""
    port, log = free_port(), folder / "log"
    with log.open("wb") as out:
        service = subprocess.Popen(
            command, cwd=folder, env=bare(port, **names), stdout=out, stderr=out
        )
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_ready(client, service, log)
            assert client.infer("?") == "?"
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        service.kill()
        service.wait()
    return log.read_text()


def limited(count, *command):
    """The command, run with so many open files."""
    return ["sh", "-c", f'ulimit -n {count}; exec "$@"', "sh", *command]


COMMANDS = {
    "up": [MESH, "up"],
    "gateway": [MESH, "gateway"],
    "stage": [MESH, "stage", "echo"],
    "script": [sys.executable, "service.py"],
}


@pytest.mark.parametrize("way", COMMANDS)
def test_too_few_open_files_are_refused_with_what_is_needed(folder, way):
    code, said = refused(limited(24, *COMMANDS[way]), folder)
    assert code == 3
    assert "may have 24 open files" in said
    assert "needs about" in said
    assert "ulimit -n" in said


def test_as_many_open_files_as_are_said_to_be_needed_are_enough(folder):
    _, said = refused(limited(24, MESH, "up"), folder)
    needed = int(re.search(r"needs about (\d+)", said)[1])
    serves(limited(needed, MESH, "up"), folder)


def test_a_soft_limit_is_raised(folder):
    command = ["sh", "-c", 'ulimit -Sn 24; exec "$@"', "sh", MESH, "up"]
    serves(command, folder)


def test_a_worker_that_leaves_too_few_open_files_is_told(folder):
    (folder / "mesh.toml").write_text(FILE.format(name="Hoarder"))
    done = subprocess.run(
        limited(60, MESH, "up"),
        cwd=folder,
        env=bare(free_port()),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3
    assert "the worker left" in done.stderr
    assert "Traceback" not in done.stderr


def unshared(*mounts):
    """A command's beginning that gives it a mount namespace of its own, and mounts this in it."""
    steps = "; ".join(["set -e", "mount --make-rprivate /", *mounts, 'exec "$@"'])
    return ["unshare", "-m", "sh", "-c", steps, "sh"]


@pytest.fixture(scope="module")
def mounts():
    """Skip where nothing can be mounted."""
    with contextlib.suppress(OSError):
        probe = [*unshared("mount -t tmpfs none /dev/shm"), "true"]
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode == 0:
            return
    pytest.skip("no own mount namespace: unshare or mount is refused")


def read_only(*places):
    """Mounts after which these places are all that can be written to, each a tmpfs without code."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = {"/", *(line.split()[4] for line in lines)}
    found = {place for place in found if not place.startswith(("/proc", "/sys", "/dev/pts"))}
    locked = [f"mount -o remount,bind,ro {place} 2>&- || true" for place in sorted(found)]
    return [*locked, *(f"mount -t tmpfs -o noexec,size=64k none {place}" for place in places)]


@pytest.mark.parametrize("place", ["/tmp", "/run", "/dev/shm"])
def test_one_place_to_write_to_is_enough(folder, mounts, place):
    environment = {"TMPDIR": "/nowhere", "XDG_RUNTIME_DIR": "/nowhere/either"}
    log = serves([*unshared(*read_only(place)), MESH, "up"], folder, **environment)
    assert f"ipc://{place}/meshline-" in log


def test_without_any_it_is_said_what_was_tried(folder, mounts):
    code, said = refused([*unshared(*read_only()), MESH, "up"], folder, TMPDIR="/nowhere")
    assert code == 3
    assert "/nowhere (No such file or directory), /tmp (Read-only file system)" in said
    assert "mount a tmpfs at /tmp, or name a writable folder in TMPDIR" in said


def test_a_place_with_no_room_is_said(folder, mounts):
    full = "head -c 65536 /dev/zero > /tmp/full 2>&- || true"
    done = subprocess.run(
        [*unshared(*read_only("/tmp"), full), MESH, "up"],
        cwd=folder,
        env=bare(free_port()),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_without_a_home_or_a_name(folder):
    """In no list of users, as in most containers that are told not to run as root."""
    nobody = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*nobody, "true"], stderr=subprocess.DEVNULL).returncode:
            nobody = []  # where that is refused, without a home is all that can be tried
    serves([*nobody, "env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", MESH, "up"], folder)


def test_the_current_folder_is_gone(folder):
    begin = ["sh", "-c", 'mkdir -p gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    serves([*begin, MESH, "up", "-c", folder / "mesh.toml"], folder)
    serves([*begin, sys.executable, folder / "service.py"], folder)


# A filter for the kernel: x86-64's memfd_create (319), or 64-bit ARM's (279), is not permitted.
FORBIDDING = """
import ctypes, os, platform, struct, sys

number = {"x86_64": 319, "aarch64": 279}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x00050001), (6, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert not libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
assert not libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0)  # PR_SET_SECCOMP, a filter
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("way", COMMANDS)
def test_a_sandbox_without_shared_memory_is_told(folder, way):
    forbidding = [sys.executable, "-c", FORBIDDING]
    done = subprocess.run(
        [*forbidding, *COMMANDS[way]],
        cwd=folder,
        env=bare(free_port()),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3, done.stderr
    assert "there is no shared memory: Operation not permitted; allow the" in done.stderr
    assert "Traceback" not in done.stderr
