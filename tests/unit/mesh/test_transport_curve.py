"""Keys on disk, and the check behind CURVE. What it keeps out is shown in tests/faults."""

import os
import threading
from pathlib import Path

import pytest
import zmq

from mesh.errors import SettingsError, StartError
from mesh.transport import curve as security
from mesh.transport.curve import Keys, ZapAuthenticator, generate, read_pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    generate(made, ["detect"])
    return made


def test_keys_are_private_and_on_the_list(folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    names = sorted(path.name for path in folder.glob("*.key"))
    wanted = ["client.key", "feed.key", "gateway.key", "stage-detect.key", "supervisor.key"]
    assert names == wanted
    keys = Keys(str(folder), ["stage-detect", "stage"], "feed")
    for name in names:
        assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert read_pair(folder / name).public in keys.allowance


def test_without_names_one_key_is_for_all_stages(tmp_path: Path) -> None:
    assert tmp_path / "stage.key" in generate(tmp_path, ())
    Keys(str(tmp_path), ["stage-detect", "stage"])


def test_keys_that_are_there_are_not_overwritten(folder: Path) -> None:
    before = (folder / "gateway.key").read_text()
    with pytest.raises(SettingsError, match=r"gateway\.key: File exists"):
        generate(folder, ())
    assert (folder / "gateway.key").read_text() == before


def test_a_secret_that_others_can_read_is_refused_with_the_remedy(folder: Path) -> None:
    path = folder / "gateway.key"
    path.chmod(0o640)
    with pytest.raises(SettingsError, match=rf"mode 640\): run `chmod 600 {path}`"):
        Keys(str(folder), (), "gateway")


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("gateway.key", None, "No such file .* `mesh keygen`"),
        ("gateway.key", "public = ", "gateway.key: "),
        ("gateway.key", 'public = "a"', "public is not a key"),
        ("allowed.toml", None, "cannot read .*allowed.toml"),
        ("allowed.toml", "", "does not have this process's own key"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    folder: Path, name: str, text: str | None, why: str
) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(SettingsError, match=why):
        Keys(str(folder), (), "gateway")


def test_a_list_that_changes_is_in_force_at_once_and_a_broken_one_never(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(str(folder), ["stage-detect"])
    path, text = folder / "allowed.toml", (folder / "allowed.toml").read_text()
    old = read_pair(folder / "client.key").public
    new = "n" * 40
    for at, changed in enumerate((text.replace(old, new), "[[", None), 1):
        if changed is None:
            path.unlink()
        else:
            path.write_text(changed)
            os.utime(path, ns=(at, at))
        assert new in keys.allowance
        assert old not in keys.allowance
    assert "the former list of keys stays in force" in caplog.text
    path.write_text(text)
    assert old in keys.allowance


class Anybody:
    """A list that has every key."""

    def __contains__(self, key: object) -> bool:
        return True


def test_a_check_that_lets_a_wrong_key_in_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = zmq.Context()
    keys = Keys(str(folder), (), "gateway")
    check = ZapAuthenticator(context, keys)
    check.try_wrong_key()
    monkeypatch.setattr(Keys, "allowance", Anybody())
    with pytest.raises(StartError, match="a wrong one was let in"):
        check.try_wrong_key()
    check.close()
    context.term()


def test_a_process_whose_check_ends_does_not_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(security, "kill_group", ended.set)
    monkeypatch.setattr(ZapAuthenticator, "_answer", lambda *_: 1 / 0)
    context = zmq.Context()
    check = ZapAuthenticator(context, Keys(str(folder), (), "gateway"))
    asking = context.socket(zmq.REQ)
    asking.connect("inproc://zeromq.zap.01")
    asking.send(b"anything")
    assert ended.wait(5.0)
    asking.close(0)
    check.close()
    context.term()


def _try_keys(check: ZapAuthenticator, times: int) -> None:
    for number in range(times):
        key = number.to_bytes(32, "big")
        request = [b"1.0", b"1", b"mesh", b"10.0.0.7", b"", b"CURVE", key]
        assert check._answer(request)[2] == b"400"


def test_wrong_keys_are_logged_ten_times_a_minute_and_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        security._log, "warning", lambda text, *values: told.append(text % values), raising=False
    )
    clock = [100.0]
    monkeypatch.setattr(security, "monotonic", lambda: clock[0])
    sockets: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    check = ZapAuthenticator(sockets, Keys(str(folder), (), "gateway"))
    try:
        assert check._pause_ms() is None
        _try_keys(check, 1_000)
        assert len(told) == 10
        assert "10.0.0.7 has the key" in told[0]
        assert check._pause_ms() == 60_001
        clock[0] = 161.0
        check._log_left_out()
        assert told[10:] == ["and 990 more: refused for keys that are not allowed"]
        assert check._pause_ms() is None
    finally:
        check.close()
        sockets.term()


@pytest.mark.parametrize("name", ["", "allowed.toml"])
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_list_that_others_can_change_is_refused_with_the_remedy(
    folder: Path, name: str, mode: int
) -> None:
    (folder / name).chmod(mode)
    with pytest.raises(SettingsError) as refused:
        Keys(str(folder), (), "gateway")
    assert str(refused.value) == (
        f"others can change {folder / name} (mode {mode:o}): run `chmod go-w {folder / name}`"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("name", ["", "allowed.toml", "gateway.key"])
def test_files_of_another_user_are_refused_with_the_remedy(folder: Path, name: str) -> None:
    os.chown(folder / name, 65534, 65534)
    with pytest.raises(SettingsError) as refused:
        Keys(str(folder), (), "gateway")
    assert str(refused.value) == (
        f"{folder / name} belongs to the user 65534, who can change it: "
        f"run `chown {os.getuid()} {folder / name}`"
    )


def test_a_folder_in_which_others_can_only_add_is_possible(folder: Path) -> None:
    """Such are those that Kubernetes mounts."""
    folder.chmod(0o1777)
    Keys(str(folder), (), "gateway")


def test_a_list_that_others_come_to_be_able_to_change_is_not_read_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(str(folder), (), "gateway")
    path = folder / "allowed.toml"
    path.write_text(path.read_text() + f'\n[[allowed]]\nrole = "client"\npublic = "{"n" * 40}"\n')
    os.utime(path, ns=(1, 1))
    path.chmod(0o666)
    assert "n" * 40 not in keys.allowance
    assert "the former list of keys stays in force: others can change" in caplog.text
    caplog.clear()
    path.chmod(0o644)
    assert "n" * 40 in keys.allowance
