"""Where a replica tells its consumers to dial."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.config.settings import StageSettings
from mesh.errors import SettingsError, StartError
from mesh.process.parent_link import ParentLink
from mesh.process.settings import ReplicaProcess
from mesh.process.worker_source import WorkerSource
from mesh.transport.key_folders import generate_apart
from mesh.transport.zeromq import ZmqNetwork
from mesh.worker.base import Worker
from stage import server
from stage.server import _feed, _keys, placed

STAGE = StageSettings("read", worker="m:Read", start_timeout=1e6)  # the tests may take long


@pytest.fixture
def network() -> Iterator[ZmqNetwork]:
    made = ZmqNetwork(time.monotonic)
    yield made
    made.close()


def process(feed: str, advertise: str = "") -> ReplicaProcess:
    source, gateways = WorkerSource("Read", "m"), ("tcp://127.0.0.1:7000",)
    return ReplicaProcess(
        "mesh", "r", STAGE, source, 1, gateways, 3.0, feed=feed, advertise=advertise
    )


def test_nobody_dials_a_replica_without_a_feed(network: ZmqNetwork) -> None:
    assert _feed(process(""), network) == ""


def test_only_a_replica_with_a_feed_needs_the_key_of_feeds(tmp_path: Path) -> None:
    generate_apart(tmp_path, {"read": False})
    alone = replace(process(""), keys=str(tmp_path / "stage-read"))
    assert _keys(alone) is not None
    with pytest.raises(SettingsError, match=r"cannot read .*feed\.key"):
        _keys(replace(alone, feed="tcp://127.0.0.1:0"))


def test_without_more_it_is_where_it_listens(network: ZmqNetwork) -> None:
    told = _feed(process("tcp://127.0.0.1:*"), network)
    assert told.startswith("tcp://127.0.0.1:")
    assert int(told.rpartition(":")[2]) > 0


def test_any_interface_is_the_one_that_a_gateway_sees(
    network: ZmqNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _feed(process("tcp://127.0.0.1:*", "tcp://*:0"), network)
    assert re.fullmatch(r"tcp://\*:\d+", told)
    seen = {"tcp://old:7000": "", "tcp://10.0.0.9:7000": "10.0.0.1", "tcp://[fd::9]:7000": "fd::1"}
    monkeypatch.setattr(server, "local_address", seen.__getitem__)
    old, new, six = seen
    assert placed(told, [old]) == ""  # its name is unknown so far
    assert placed(told, [old, new]) == told.replace("*", "10.0.0.1")
    assert placed(told, [six]) == told.replace("*", "[fd::1]")
    assert placed("tcp://10.0.0.5:8100", [old]) == "tcp://10.0.0.5:8100"
    assert placed("", [new]) == ""


def test_a_name_is_told_as_its_number(network: ZmqNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"tcp://[fd00::1]:8100", "tcp://10.0.0.1:8100"}
    monkeypatch.setattr(server, "resolve", lambda address: known if "here:8100" in address else 0)
    assert _feed(process("tcp://127.0.0.1:*", "tcp://here:8100"), network) == "tcp://10.0.0.1:8100"


def test_a_name_that_is_unknown_is_no_address(
    network: ZmqNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "resolve", lambda address: set())
    with pytest.raises(StartError, match="no address is known for tcp://here:8100"):
        _feed(process("tcp://127.0.0.1:*", "tcp://here:8100"), network)


class Idle(Worker):
    def forward(self, item: object) -> object:
        return item


class Lifelike(ParentLink):
    def __init__(self) -> None:
        super().__init__(None, None)


def loaded(monkeypatch: pytest.MonkeyPatch, worker: type[Worker]) -> None:
    monkeypatch.setattr(server, "load", lambda source: worker)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("no\nGPU\nhere"), r"Broken.__init__ failed: ValueError: no ... here \(test_"),
        (SystemExit(3), r"Broken.__init__ failed: it called sys.exit\(3\) \(test_"),
        (KeyboardInterrupt(), r"Broken.__init__ failed: KeyboardInterrupt \(test_"),
    ],
)
def test_a_constructor_that_fails_says_which_and_what(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, said: str
) -> None:
    class Broken(Idle):
        def __init__(self) -> None:
            raise raised

    Broken.__qualname__ = "Broken"
    loaded(monkeypatch, Broken)
    with pytest.raises(StartError, match=said) as caught:
        server.construct(process(""))
    assert caught.value.__cause__ is raised


def test_a_fault_before_it_is_ready_is_a_reason_not_to_start_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Odd(Idle):
        @property
        def example(self) -> object:  # type: ignore[override]
            raise RuntimeError("no example")

    loaded(monkeypatch, Odd)
    parent_link = Lifelike()
    with pytest.raises(StartError, match="stage read cannot serve: RuntimeError: no example"):
        server.serve(process(""), parent_link)
    parent_link.close()


def test_a_fault_of_one_that_has_served_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(source: object) -> type[Worker]:
        parent_link.ready(7)
        raise RuntimeError("later")

    monkeypatch.setattr(server, "load", loading)
    parent_link = Lifelike()
    with pytest.raises(RuntimeError, match="later"):
        server.serve(process(""), parent_link)
    parent_link.close()
