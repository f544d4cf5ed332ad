"""`Server`: what a script says, and the settings that follow from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mesh import log, server
from mesh.config.settings import MeshSettings
from mesh.errors import SettingsError, StartError
from mesh.process.worker_source import WorkerSource
from mesh.server import Runtime, Server
from mesh.worker.base import Worker


class Embed(Worker):
    def forward(self, data: Any) -> Any:
        return data


class HTTPText2Image(Embed):
    pass


class Missing(Worker):
    pass


class Waiting(Worker):
    async def forward(self, data: Any) -> Any:
        return data


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The log and the hook as they were, for other tests."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    yield
    log.reset()


class Ran:
    """Stands in for the loop: keeps what it was asked to run."""

    def __init__(self) -> None:
        self.code = 0
        self.dry_run = False
        self.settings = MeshSettings()
        self.sources: Mapping[str, WorkerSource] = {}
        self.base = ""

    def __call__(
        self,
        settings: MeshSettings,
        sources: Mapping[str, WorkerSource],
        base: str,
        dry_run: bool,
    ) -> int:
        self.settings, self.sources, self.base = settings, sources, base
        self.dry_run = dry_run
        return self.code


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    stand_in = Ran()
    monkeypatch.setattr(server, "run", stand_in)
    return stand_in


def test_a_script_becomes_settings(ran: Ran) -> None:
    made = Server(["--port", "0", "--timeout", "500", "--path", "/tmp/x"])
    made.append_worker(Embed, 2, 8, 20, env=[{"A": "1"}, {"A": "2"}], timeout=1.5)
    made.append_worker(HTTPText2Image, route=["/inference", "/image"])
    made.append_worker(Embed, route="/image")
    made.run()
    settings = ran.settings
    assert settings.gateway.http == "127.0.0.1:0"
    assert settings.gateway.timeout == 0.5
    assert settings.routes == {
        "/inference": ("embed", "http_text2_image"),
        "/image": ("http_text2_image", "embed-2"),
    }
    first = settings.stages["embed"]
    assert (first.replicas, first.max_batch_size, first.max_wait_time) == (2, 8, 0.02)
    assert (first.timeout, first.env) == (1.5, ({"A": "1"}, {"A": "2"}))
    assert first.worker == f"{__name__}:Embed"
    second = settings.stages["embed-2"]
    assert (second.timeout, second.max_wait_time) == (None, 0.01)
    assert list(ran.sources) == ["embed", "http_text2_image", "embed-2"]
    assert ran.base == "/tmp/x"


def test_a_flag_for_all_stages_is_set_for_each(ran: Ran) -> None:
    made = Server(["--start-timeout", "5s", "--dry-run"])
    made.append_worker(Embed)
    made.append_worker(HTTPText2Image)
    made.run()
    assert [one.start_timeout for one in ran.settings.stages.values()] == [5.0, 5.0]
    assert ran.dry_run


def test_a_request_has_time_for_its_stages(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    made = Server([])
    made.append_worker(Embed, timeout=30)
    made.run()
    assert ran.settings.gateway.timeout == 60.0
    assert capsys.readouterr().err == ""
    made = Server(["--timeout", "3000"])
    made.append_worker(Embed, timeout=30)
    made.run()
    assert ran.settings.gateway.timeout == 3.0
    said = capsys.readouterr().err
    assert "[stages.embed] timeout = 30s is more than [gateway] timeout = 3s" in said


def test_the_default_wait_is_a_flag(ran: Ran) -> None:
    made = Server(["--wait", "5"])
    made.append_worker(Embed)
    made.run()
    assert ran.settings.stages["embed"].max_wait_time == 0.005


def test_the_environment_comes_between_script_and_flags(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MESH_GATEWAY_HTTP", "0.0.0.0:9")
    monkeypatch.setenv("MESH_GATEWAY_CAPACITY", "9")
    monkeypatch.setenv("MESH_STAGES_EMBED_REPLICAS", "4")
    monkeypatch.setenv("MESH_PORT", "tcp://10.0.0.1:80")
    made = Server(["--port", "10", "--capacity", "7", "--capacty"])
    made.append_worker(Embed)
    made.run()
    assert ran.settings.gateway.http == "0.0.0.0:10"
    assert ran.settings.gateway.capacity == 7
    assert ran.settings.stages["embed"].replicas == 4
    said = capsys.readouterr().err
    assert "did you mean --capacity?" in said
    assert "Kubernetes put them there: MESH_PORT" in said


def test_runtimes_are_shared_by_routes(ran: Ran) -> None:
    shared, own = Runtime(Embed, num=2), Runtime(HTTPText2Image, max_batch_size=4)
    made = Server([])
    made.register_runtime({"/a": [shared], "/b": [shared, own]})
    made.run()
    assert ran.settings.routes == {"/a": ("embed",), "/b": ("embed", "http_text2_image")}
    assert ran.settings.stages["http_text2_image"].max_batch_size == 4
    with pytest.raises(SettingsError, match="use it alone"):
        made.register_runtime({"/c": [shared]})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num": 0}, "num must be at least 1"),
        ({"num": 1.5}, "num must be a whole number, not 1.5"),
        ({"max_batch_size": 0}, "max_batch_size must be at least 1"),
        ({"max_batch_size": True}, "max_batch_size must be a whole number"),
        ({"max_wait_time": -1}, "number of milliseconds, 0 or more, not -1"),
        ({"max_wait_time": "10ms"}, "number of milliseconds"),
        ({"timeout": -1}, "timeout must be at least 1ms"),
        ({"start_method": "fork"}, "start_method must be \"spawn\", not 'fork'"),
        ({"env": [{"A": 1}]}, "env entry 1: A must be a text"),
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Server([]).append_worker(Embed, **arguments)


@pytest.mark.parametrize("worker", [object(), dict, "Embed"])
def test_a_worker_is_a_class_of_ours(worker: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a subclass of mesh\.Worker"):
        Server([]).append_worker(worker)


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (Missing, r"Missing has no forward; write"),
        (Waiting, r"Waiting.forward \(test_mesh_server.py:\d+\) is an `async def`"),
    ],
)
def test_a_class_that_could_serve_nothing_is_refused(worker: type[Worker], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Server([]).append_worker(worker)


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({}, {"env": [{}, {}]}, "has 2 tables for 1 replicas"),
        ({}, {"route": "/metrics"}, "this path is the gateway's own"),
        ({"MESH_GATEWAY_CAPACITY": "many"}, {}, "MESH_GATEWAY_CAPACITY: must be a whole number"),
    ],
)
def test_wrong_settings_end_in_one_line_and_code_2(
    variables: dict[str, str],
    arguments: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made = Server([])
    made.append_worker(Embed, **arguments)
    with pytest.raises(SystemExit) as caught:
        made.run()
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_nothing_to_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Server([]).run()
    assert "call append_worker before run" in capsys.readouterr().err


def test_a_bad_end_is_an_exit_code(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Server([])
    made.append_worker(Embed)
    ran.code = 3
    with pytest.raises(SystemExit) as caught:
        made.run()
    assert caught.value.code == 3


def test_a_folder_that_cannot_be_made_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    made = Server(["--path", "/proc/none"])
    made.append_worker(Embed)
    with pytest.raises(SystemExit) as caught:
        made.run()
    assert caught.value.code == 3
    assert "cannot make the folder" in capsys.readouterr().err


def test_inside_a_replica_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "is_replica", lambda: True)
    made = Server(["--port", "not read"])
    with pytest.raises(StartError, match="__main__"):
        made.run()


def test_a_wrong_setting_that_nobody_catches_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[BaseException] = []
    monkeypatch.setattr(server, "_shown_before", lambda kind, error, trace: shown.append(error))
    Server([])
    with pytest.raises(SystemExit) as ended:
        sys.excepthook(SettingsError, SettingsError("num must be at least 1"), None)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "num must be at least 1" in line
    other = ValueError("no setting")
    sys.excepthook(ValueError, other, None)
    assert shown == [other]
