"""Machines that allow little: few open files, nowhere to write, no home, no folder to be in."""

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from site_runs import MESH, PATIENCE, SERVICES, Site, service_text, settings

NO_PLACE = dict.fromkeys(("XDG_RUNTIME_DIR", "TMPDIR", "TEMP", "TMP"))


@pytest.fixture
def folder():
    """A service's folder, in no place that a test covers, and for others to read."""
    folder = Path(tempfile.mkdtemp(prefix="bare", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def made(folder, worker="Echo", **names):
    """A service there, with no more in its environment than it needs."""
    return Site(folder, service_text("echo"), settings({"echo": worker}), **NO_PLACE | names)


def run(command, folder, worker="Echo", **names):
    """Run a command that cannot start; returns its exit code and what it says."""
    with contextlib.closing(made(folder, worker, **names)) as site:
        done = site.run(*command)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def refused(command, folder, **names):
    """The same, of a command that says no more than a line."""
    code, said = run(command, folder, **names)
    assert said.count("\n") == 1, said
    return code, said


def serves(command, folder, **names):
    """Run a service by this command, ask it, and stop it in order; returns what it said."""
    with contextlib.closing(made(folder, **names)) as site:
        site.start(*command)
        site.wait_ready()
        with site.client() as client:
            assert client.infer("?") == "?"
        site.end()
        assert "Traceback" not in site.log()
        return site.log()


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
    code, said = run(limited(60, MESH, "up"), folder, "Hoarder")
    assert code == 3
    assert "the worker left" in said


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
    code, said = run([*unshared(*read_only("/tmp"), full), MESH, "up"], folder)
    assert code == 3
    assert "No space left on device" in said


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


@pytest.mark.parametrize("way", COMMANDS)
def test_a_sandbox_without_shared_memory_is_told(folder, way):
    forbidding = [sys.executable, SERVICES / "forbids_memfd.py"]
    code, said = run([*forbidding, *COMMANDS[way]], folder)
    assert code == 3, said
    assert "there is no shared memory: Operation not permitted; allow the" in said
