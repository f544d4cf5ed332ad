"""The private folder: whose it is, when it goes, and that only the dead lose theirs."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.errors import StartError
from mesh.supervision.runtime_dir import MAX_PATH_BYTES, RuntimeDir, candidates, remove_stale


@pytest.fixture
def base() -> Path:
    """A short path, as sockets need one; pytest's own are long."""
    import tempfile

    return Path(tempfile.mkdtemp(prefix="b"))


def test_it_is_private_and_goes_with_the_block(base: Path) -> None:
    with RuntimeDir(str(base)) as folder:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        written = folder.write("gateway.json", "{}")
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        assert folder.write("gateway.json", "[]").read_text() == "[]"
        assert f"-{os.getpid()}-" in folder.path.name
    assert list(base.iterdir()) == []
    folder.close()
    base.rmdir()


def test_folders_of_the_living_stay(base: Path) -> None:
    with RuntimeDir(str(base)) as first, RuntimeDir(str(base)) as second:
        assert first.path != second.path
        assert first.path.is_dir()
        assert remove_stale(base) == []
    base.rmdir()


def test_a_folder_that_is_being_made_is_nobodys_to_remove(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that start at once: the one looked just when the other had made its lock."""
    lock, removed = fcntl.flock, []

    def slow(descriptor: int, how: int) -> None:
        if how == fcntl.LOCK_EX:
            removed.extend(remove_stale(base))
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with RuntimeDir(str(base)) as folder:
        assert removed == []
        assert folder.path.is_dir()
    assert list(base.iterdir()) == []
    base.rmdir()


def test_folders_of_the_dead_go(base: Path) -> None:
    script = (
        "import os, sys; from mesh.supervision.runtime_dir import RuntimeDir\n"
        "print(RuntimeDir(sys.argv[1]).path, flush=True); os.kill(os.getpid(), 9)"
    )
    dead = subprocess.run([sys.executable, "-c", script, base], capture_output=True, text=True)
    left = Path(dead.stdout.strip())
    assert left.is_dir()
    with RuntimeDir(str(base)):
        assert not left.exists()
    base.rmdir()


def test_folders_without_a_lock_belong_to_who_made_them(base: Path) -> None:
    mine = base / f"meshline-{os.getuid()}-{os.getpid()}-ab"
    other = base / f"meshline-{os.getuid()}-4194999-ab"
    elses = base / f"meshline-{os.getuid() + 1}-4194999-ab"
    foreign = base / "meshline-notes"
    link = base / f"meshline-{os.getuid()}-4194999-cd"
    half = base / f".meshline-{os.getuid()}-4194999-ef"
    open_to_all = base / f"meshline-{os.getuid()}-4194999-01"
    for path in (mine, other, elses, foreign, half):
        path.mkdir(0o700)
    open_to_all.mkdir(0o755)
    link.symlink_to(foreign)
    assert sorted(remove_stale(base)) == [half, other]
    assert sorted(base.iterdir()) == sorted([mine, elses, foreign, link, open_to_all])
    link.unlink()
    for path in (mine, elses, foreign, open_to_all, base):
        path.rmdir()


def test_there_must_be_room_for_sockets(base: Path) -> None:
    deep = base / ("x" * MAX_PATH_BYTES)
    with pytest.raises(StartError, match="too deep for sockets"):
        RuntimeDir(str(deep))
    assert not deep.exists()
    base.rmdir()


def test_a_folder_that_cannot_be_made_is_an_error(base: Path) -> None:
    (base / "file").touch()
    with pytest.raises(
        StartError, match=r"cannot make the folder .+ File exists; name another with"
    ):
        RuntimeDir(str(base / "file"))
    (base / "file").unlink()
    base.rmdir()


def test_the_usual_place(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert candidates()[:3] == [str(base), "/var/tmp", "/tmp"]
    assert len(set(candidates())) == len(candidates())
    with RuntimeDir() as folder:
        assert folder.path.parent == base
    base.rmdir()


def test_the_next_best_place(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = base / ("x" * MAX_PATH_BYTES)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base / "nowhere"))
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setenv("TEMP", str(base))
    with RuntimeDir() as folder:
        assert folder.path.parent == base
    deep.rmdir()
    base.rmdir()


def test_nowhere(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = [str(base / "nowhere"), str(base / ("x" * MAX_PATH_BYTES))]
    monkeypatch.setattr("mesh.supervision.runtime_dir.candidates", lambda: bases)
    with pytest.raises(StartError) as raised:
        RuntimeDir()
    assert str(raised.value) == (
        f"nowhere can a folder for sockets be made: tried {bases[0]} (No such file or directory), "
        f"{bases[1]} (it is too deep for sockets); "
        "mount a tmpfs at /tmp, or name a writable folder in TMPDIR"
    )
    base.rmdir()


def test_where_no_socket_can_be_nothing_is_left(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("mesh.process.private_folder.try_socket", refuse)
    with pytest.raises(StartError, match="Operation not permitted"):
        RuntimeDir(str(base))
    base.rmdir()


NOBODY = 65534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


@only_root
def test_another_users_runtime_folder_is_not_used_and_that_is_said(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after `su` or `sudo -E`: the variable is still the other's."""
    theirs = base / "theirs"
    theirs.mkdir(0o700)
    os.chown(theirs, NOBODY, NOBODY)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(theirs))
    monkeypatch.setenv("TMPDIR", str(base))
    with RuntimeDir() as folder:
        assert folder.path.parent == base
        assert list(theirs.iterdir()) == []
    assert caplog.messages == [
        f"XDG_RUNTIME_DIR={theirs} is not used for sockets: "
        f"it belongs to the user {NOBODY}, not to {os.getuid()}"
    ]
    theirs.rmdir()
    base.rmdir()


def test_a_place_where_others_could_exchange_it_is_refused(base: Path) -> None:
    base.chmod(0o777)
    with pytest.raises(StartError, match=r"others may rename what is in it \(mode 777\)"):
        RuntimeDir(str(base))
    base.chmod(0o1777)
    with RuntimeDir(str(base)):
        pass
    base.rmdir()


@only_root
def test_what_another_user_left_under_our_name_is_not_touched(base: Path) -> None:
    planted = base / f"meshline-{os.getuid()}-4194999-ab"
    planted.mkdir(0o700)
    os.chown(planted, NOBODY, NOBODY)
    assert remove_stale(base) == []
    planted.rmdir()
    base.rmdir()


def test_a_link_in_the_folder_is_not_written_through(base: Path) -> None:
    victim = base / "victim"
    victim.write_text("kept")
    with RuntimeDir(str(base)) as folder:
        (folder.path / "gateway.json").symlink_to(victim)
        with pytest.raises(OSError, match="symbolic links"):
            folder.write("gateway.json", "{}")
    assert victim.read_text() == "kept"
    victim.unlink()
    base.rmdir()
