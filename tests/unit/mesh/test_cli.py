"""The command ``mesh``: what it takes, what it refuses, what it hands on."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mesh import cli, log
from mesh.cli import query as asking
from mesh.cli import run as running
from mesh.cli.query import lines_of
from mesh.client.core import Response
from mesh.config.settings import MeshSettings
from mesh.transport.curve import generate

FILE = """\
[gateway]
http = "0.0.0.0:8123"

[stages.read]
worker = "service:Read"

[stages.spare]
worker = "service:Read"

[routes]
"/inference" = ["read"]
"""


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The log and the import path as they were, for other tests."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    log.reset()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a mesh.toml and its service."""
    (tmp_path / "mesh.toml").write_text(FILE)
    (tmp_path / "service.py").write_text("from mesh import Worker\nclass Read(Worker): pass\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mesh(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Run the command; returns the exit code."""
    monkeypatch.setattr("sys.argv", ["mesh", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code


class Ran:
    """Stands in for what runs a service: keeps what it was given."""

    def __init__(self) -> None:
        self.settings = MeshSettings()
        self.stages: list[str] = []
        self.folders: set[tuple[str, ...]] = set()
        self.with_gateway = True
        self.dry_run = False

    def __call__(
        self,
        settings: MeshSettings,
        sources: Any,
        with_gateway: bool = True,
        dry_run: bool = False,
    ) -> int:
        self.settings, self.with_gateway, self.dry_run = settings, with_gateway, dry_run
        self.stages = list(sources)
        self.folders = {source.sys_path for source in sources.values()}
        return 0

    def become(self, settings: MeshSettings) -> None:
        self.settings = settings
        raise SystemExit(0)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    stand_in = Ran()
    monkeypatch.setattr(running, "run", stand_in)
    monkeypatch.setattr(running, "become_gateway", stand_in.become)
    return stand_in


def test_up(monkeypatch: pytest.MonkeyPatch, ran: Ran, folder: Path) -> None:
    flags = ["--timeout", "5s", "--max-body", "1MiB", "--access-log", "--log-level", "error"]
    monkeypatch.setenv("MESH_GATEWAY_CAPACITY", "9")
    monkeypatch.setenv("MESH_GATEWAY_TIMEOUT", "9s")
    assert mesh(monkeypatch, "up", *flags) == 0
    gateway = ran.settings.gateway
    assert (gateway.timeout, gateway.max_body, gateway.access_log) == (5.0, 2**20, True)
    assert (gateway.capacity, gateway.port, ran.settings.log_level) == (9, 8123, "error")
    assert ran.stages == ["read", "spare"]
    assert ran.folders == {(str(folder),)}
    assert (ran.with_gateway, ran.dry_run) == (True, False)
    assert mesh(monkeypatch, "up", "--dry-run") == 0
    assert ran.dry_run


def test_gateway(monkeypatch: pytest.MonkeyPatch, ran: Ran) -> None:
    bind = ("gateway", "--bind", "tcp://127.0.0.1:0")
    assert mesh(monkeypatch, *bind) == 2
    assert mesh(monkeypatch, *bind, "--insecure") == 0
    assert ran.settings.gateway.bind == "tcp://127.0.0.1:0"


def test_gateways_of_several_processes_have_a_parent(
    monkeypatch: pytest.MonkeyPatch, ran: Ran
) -> None:
    assert mesh(monkeypatch, "gateway", "--processes", "2") == 0
    assert ran.settings.gateway.processes == 2
    assert (ran.stages, ran.with_gateway) == ([], True)


@pytest.mark.parametrize(
    ("flags", "file", "said"),
    [
        (["--bind", "tcp://127.0.0.1:7000"], "", True),
        (["--bind", "tcp://127.0.0.1:7000"], "processes = 2\n", False),
        ([], "", False),
    ],
)
def test_more_processes_than_stages_can_know_of_are_said(
    monkeypatch: pytest.MonkeyPatch,
    ran: Ran,
    folder: Path,
    capfd: pytest.CaptureFixture[str],
    flags: list[str],
    file: str,
    said: bool,
) -> None:
    """Ports that follow one another are dialled by those whose settings say how many there are."""
    (folder / "mesh.toml").write_text(FILE.replace("[stages.read]", f"{file}[stages.read]"))
    assert mesh(monkeypatch, "gateway", "--insecure", "--processes", "2", *flags) == 0
    log.flush()
    assert ("write processes = 2 in [gateway] of mesh.toml" in capfd.readouterr().err) is said


@pytest.mark.parametrize(("number", "said"), [("0", "at least 1"), ("65", "at most 64")])
def test_how_many_processes_there_may_be(
    monkeypatch: pytest.MonkeyPatch, number: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mesh(monkeypatch, "up", "--processes", number) == 2
    assert f"--processes: must be {said}, not {number}" in capsys.readouterr().err


def test_stage(monkeypatch: pytest.MonkeyPatch, ran: Ran) -> None:
    dialled = ["--gateway", "tcp://a:1", "--gateway", "tcp://b:1", "--insecure"]
    assert mesh(monkeypatch, "stage", "read", "--replicas", "3", *dialled) == 0
    assert ran.settings.stages["read"].replicas == 3
    assert ran.settings.gateways == ("tcp://a:1", "tcp://b:1")
    assert (ran.stages, ran.with_gateway) == (["read"], False)


@pytest.mark.parametrize(("flag", "said"), [("--idempotent", True), ("--no-idempotent", False)])
def test_a_switch_can_be_set_either_way(
    monkeypatch: pytest.MonkeyPatch, ran: Ran, flag: str, said: bool
) -> None:
    assert mesh(monkeypatch, "stage", "read", flag) == 0
    assert ran.settings.stages["read"].idempotent is said


def test_a_stage_may_be_told_to_listen_for_other_machines(
    monkeypatch: pytest.MonkeyPatch, ran: Ran
) -> None:
    feed = ("stage", "read", "--feed", "tcp://0.0.0.0:7100")
    assert mesh(monkeypatch, *feed) == 2
    assert mesh(monkeypatch, *feed, "--insecure") == 0
    assert ran.settings.stages["read"].feed == "tcp://0.0.0.0:7100"


def test_check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert mesh(monkeypatch, "check") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("mesh.toml is right (revision ")
    assert "http://0.0.0.0:8123/inference: read" in shown
    assert "spare: service:Read, replicas 1, unused" in shown


def keyed(folder: Path, *stages: str) -> Path:
    """A folder of keys, named in mesh.toml."""
    generate(folder / "keys", stages)
    text = FILE.replace("[gateway]", '[gateway]\nkeys = "keys"')
    (folder / "mesh.toml").write_text(text.replace('["read"]', '["read", "spare"]'))
    return folder / "keys"


def test_check_says_whose_keys_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    keyed(folder)
    assert mesh(monkeypatch, "check") == 0
    assert "\n  keys has the keys of the gateway, read, spare\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "there", "said"),
    [
        ("gateway.key", "read, spare", "the gateway: keys/gateway.key is missing"),
        ("feed.key", "the gateway, spare", "read: keys/feed.key is missing"),
        (
            "stage-spare.key",
            "the gateway, read",
            "spare: keys/stage-spare.key or keys/stage.key is",
        ),
    ],
)
def test_check_says_which_file_a_part_lacks_that_may_run_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    missing: str,
    there: str,
    said: str,
) -> None:
    (keyed(folder, "read", "spare") / missing).unlink()
    assert mesh(monkeypatch, "check") == 0
    shown = capsys.readouterr().out
    assert f"keys has the keys of {there}\n" in shown
    [line] = [line for line in shown.splitlines() if "has not those of" in line]
    assert f"has not those of {said}" in line
    assert "`mesh keygen`" in line


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (None, "cannot read keys/allowed.toml: No such file"),
        ((), "cannot read keys/allowed.toml: No such file"),
        (("allowed.toml",), "no keys. the gateway: keys/gateway.key is missing"),
        (("allowed.toml", "client.key"), "no keys. the gateway: keys/gateway.key is missing"),
    ],
)
def test_check_refuses_a_folder_that_has_nobodys_keys(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    left: tuple[str, ...] | None,
    said: str,
) -> None:
    keys = keyed(folder)
    for path in keys.iterdir():
        if path.name not in (left or ()):
            path.unlink()
    if left is None:
        keys.rmdir()
    assert mesh(monkeypatch, "check") == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "`mesh keygen`" in shown


def test_check_refuses_keys_that_others_can_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    (keyed(folder) / "gateway.key").chmod(0o644)
    assert mesh(monkeypatch, "check") == 2
    assert "chmod" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check", "-c", "none.toml"], 2, "none.toml: there is no such file; name another with -c"),
        (["check", "-c", "."], 2, ".: cannot be read: Is a directory"),
        (["check", "-c", "latin.toml"], 2, "latin.toml: is not a UTF-8 text"),
        (["check", "-c", "wrong.toml"], 2, "wrong.toml, line 2: [gateway] htpp: unknown setting"),
        (["check", "--import", "-c", "zzz.toml"], 3, "No module named 'zzz'"),
        (["up", "--timeout", "5"], 2, "--timeout: '5' needs a unit"),
        (["up", "--frobnicate"], 2, "No such option"),
        (["stage", "raed"], 2, "there is no stage 'raed'; did you mean 'read'?"),
        (["stage", "zzz"], 2, "there is no stage 'zzz'; there are read, spare"),
        (["call", "/inference", "none.png"], 2, "none.png: cannot be read: No such file"),
        (["status", "--url", "http://127.0.0.1:1"], 1, "no answer from http://127.0.0.1:1"),
    ],
)
def test_mistakes_end_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    (folder / "latin.toml").write_bytes(b"name = '\xe9'")
    (folder / "wrong.toml").write_text('[gateway]\nhtpp = "x"\n')
    (folder / "zzz.toml").write_text(FILE.replace("service:", "zzz:"))
    assert mesh(monkeypatch, *arguments) == code
    assert said in capsys.readouterr().err


class Answering(BaseHTTPRequestHandler):
    """A service: tells its status, shouts what it is sent."""

    def do_GET(self) -> None:
        self.answer(json.dumps({"path": self.path, "stages": [{"name": "read"}]}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(body.upper(), 200 if self.path == "/inference" else 404)

    def answer(self, body: bytes, code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    assert mesh(monkeypatch, "status", "--url", url) == 0
    assert capsys.readouterr().out == "path  /mesh/status\nstages\n  name\n  read\n"
    assert mesh(monkeypatch, "status", "--url", url, "--json") == 0
    assert json.loads(capsys.readouterr().out)["path"] == "/mesh/status"


class Output(io.StringIO):
    """A text stream with bytes below it."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = io.BytesIO()


class Input:
    buffer = io.BytesIO(b'"piped"')
    closed = False


def test_call(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> None:
    (folder / "hello.json").write_bytes(b'"hello"')
    for route, file, said in [
        ("inference", "hello.json", b'"HELLO"'),
        ("/inference", "-", b'"PIPED"'),
    ]:
        output = Output()
        monkeypatch.setattr("sys.stdout", output)
        monkeypatch.setattr("sys.stdin", Input)
        assert mesh(monkeypatch, "call", route, file, "--url", url) == 0
        assert output.buffer.getvalue() == said
    assert mesh(monkeypatch, "call", "/other", "hello.json", "--url", url) == 1


def test_where_the_service_is_asked(folder: Path) -> None:
    assert asking._url("http://x:1", "mesh.toml") == "http://x:1"
    assert asking._url("", "mesh.toml") == "http://127.0.0.1:8123"
    (folder / "mesh.toml").write_text(FILE.replace("0.0.0.0", "[::1]"))
    assert asking._url("", "mesh.toml") == "http://[::1]:8123"
    for admin, url in [("0.0.0.0:9000", "http://127.0.0.1:9000"), ("unix:/run/a", "unix:/run/a")]:
        more = FILE.replace("[gateway]", f'[gateway]\nadmin = "{admin}"')
        (folder / "mesh.toml").write_text(more)
        assert asking._url("", "mesh.toml", for_admin=True) == url
        assert asking._url("", "mesh.toml") == "http://127.0.0.1:8123"
    (folder / "mesh.toml").unlink()
    assert asking._url("", "mesh.toml") == "http://127.0.0.1:8000"


def test_a_picture_for_people() -> None:
    picture = {
        "draining": False,
        "load": 0.123456789,
        "routes": {"/inference": ["read", "embed"], "/none": []},
        "stages": [{"name": "read", "up": 1}, {"name": "embed", "age": 2.5, "of": {"a": 1}}],
        "empty": {},
    }
    assert list(lines_of(picture)) == [
        "draining  no",
        "load      0.123457",
        "routes",
        "  /inference  read, embed",
        "  /none       -",
        "stages",
        "  name   up  age  of",
        "  read   1",
        '  embed      2.5  {"a": 1}',
    ]


def test_keys_for_each_part(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mesh(monkeypatch, "keygen", "new", "--apart") == 0
    made = {str(one.relative_to(folder)) for one in folder.rglob("*.key")}
    parts = [f"new/stage-{name}" for name in ("read", "spare")]
    wanted = [f"{part}/{part[4:]}.key" for part in parts] + [f"{p}/supervisor.key" for p in parts]
    assert made == {"new/gateway/gateway.key", *wanted}
    assert set(capsys.readouterr().out.split()) >= made
    assert mesh(monkeypatch, "keygen", "new", "--apart") == 2


def test_keys_for_each_part_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mesh(monkeypatch, "keygen", "new", "--apart", "--stage", "read") == 2
    assert mesh(monkeypatch, "keygen", "new", "--apart", "-c", "none.toml") == 2


@pytest.mark.parametrize("command", [["up"], ["gateway"], ["stage", "read"]])
def test_debug_is_a_log_level_too(
    monkeypatch: pytest.MonkeyPatch, ran: Ran, command: list[str]
) -> None:
    """As a script's flag is."""
    assert mesh(monkeypatch, *command, "--debug", "--log-level", "error") == 0
    assert (ran.settings.gateway.debug, ran.settings.log_level) == (True, "debug")
    assert mesh(monkeypatch, *command, "--no-debug") == 0
    assert (ran.settings.gateway.debug, ran.settings.log_level) == (False, "info")


def test_what_a_service_says_moves_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = "\x1b[2J\x9b\u202ea\nb"
    picture = {"mesh": nasty, nasty: {"a": 1}, "replicas": [{"host": nasty, nasty: True}]}
    answer = Response(200, {}, json.dumps(picture).encode())
    monkeypatch.setattr(asking.Client, "get", lambda *_: answer)
    assert mesh(monkeypatch, "status", "--url", "http://127.0.0.1:1") == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))
    assert mesh(monkeypatch, "status", "--url", "http://127.0.0.1:1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == picture
    told = {"error": {"code": "overloaded", "message": nasty}}
    refused = Response(429, {}, json.dumps(told).encode())
    monkeypatch.setattr(asking.Client, "get", lambda *_: refused)
    assert mesh(monkeypatch, "status", "--url", "http://127.0.0.1:1") == 1
    said = capsys.readouterr().err
    assert said.endswith("\n")
    assert said[:-1].isprintable()


def test_an_answer_on_a_terminal_moves_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    asking._print_answer(b"a\x1b[2J\xff\nb")
    assert capsys.readouterr().out == "a\\x1b[2J\\xff\nb\n"
