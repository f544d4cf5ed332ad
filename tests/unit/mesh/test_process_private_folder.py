"""Private folders by descriptor: who may have one, and what others can do about it."""

import os
import stat
from pathlib import Path

import pytest

from mesh.process import private_folder
from mesh.process.private_folder import Untrusted

NOBODY = 65534


def made(tmp_path: Path, mode: int = 0o700) -> Path:
    path = tmp_path / "own"
    path.mkdir()
    path.chmod(mode)
    return path


def test_it_is_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with private_folder.opened(str(tmp_path)) as above:
            private_folder.make(above, "own")
            os.close(private_folder.enter(above, "own"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o701, 0o720])
def test_one_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    made(tmp_path, mode)
    with (
        private_folder.opened(str(tmp_path)) as above,
        pytest.raises(Untrusted, match="others may enter it"),
    ):
        private_folder.enter(above, "own")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_one_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(made(tmp_path), NOBODY, NOBODY)
    with (
        private_folder.opened(str(tmp_path)) as above,
        pytest.raises(Untrusted, match=f"it belongs to the user {NOBODY}, not to"),
    ):
        private_folder.enter(above, "own")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made(tmp_path))
    with private_folder.opened(str(tmp_path)) as above, pytest.raises(NotADirectoryError):
        private_folder.enter(above, "link")


def test_removing_follows_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()
    (made(tmp_path) / "link").symlink_to(victim)
    with private_folder.opened(str(tmp_path)) as above:
        private_folder.remove(above, "own")
    assert not (tmp_path / "own").exists()
    assert (victim / "file").exists()


def test_one_process_has_the_lock_at_a_time(tmp_path: Path) -> None:
    made(tmp_path)
    with private_folder.opened(str(tmp_path)) as above:
        folder = private_folder.enter(above, "own")
        assert not private_folder.has_lock(folder)
        lock = private_folder.take_lock(folder)
        assert private_folder.has_lock(folder)
        with pytest.raises(BlockingIOError):
            private_folder.take_lock(folder)
        os.close(lock)
        os.close(private_folder.take_lock(folder))
        os.close(folder)


def test_an_open_folder_knows_whether_it_was_exchanged(tmp_path: Path) -> None:
    path = made(tmp_path)
    with private_folder.opened(str(path)) as folder:
        assert private_folder.is_at(folder, path)
        path.rename(tmp_path / "elsewhere")
        assert not private_folder.is_at(folder, path)
        path.mkdir()
        assert not private_folder.is_at(folder, path)
