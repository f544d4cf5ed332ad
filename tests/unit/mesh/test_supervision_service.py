"""What each process of a service is started with, and handed."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.errors import StartError
from mesh.process.admin_door import AdminDoor
from mesh.process.listen_socket import ListenSocket
from mesh.process.settings import GatewayProcess, ReplicaProcess
from mesh.process.worker_source import WorkerSource
from mesh.supervision import meeting, service
from mesh.supervision.child import Command
from mesh.supervision.events import (
    GATEWAY,
    Slot,
)
from mesh.supervision.service import Service, _placed, become_gateway, dialled_at, gateway_process

READ = StageSettings("read", worker="m:Read", start_timeout=5.0)
SIBLING = Slot("", 2)
EMBED = StageSettings("embed", worker="m:Embed", replicas=2, env=({"GPU": "0"}, {"GPU": "1"}))
SOURCES = {"read": WorkerSource("Read", "m"), "embed": WorkerSource("Embed", "m")}
FOLDER = Path("/run/x")


def described(**changes: Any) -> MeshSettings:
    stages = {"read": READ, "embed": EMBED}
    return MeshSettings(**{"stages": stages, "routes": {"/i": ("read", "embed")}, **changes})


def replica(command: Command) -> ReplicaProcess:
    return ReplicaProcess.from_json(json.loads(json.dumps(command.settings)))


def gateway(command: Command) -> GatewayProcess:
    return GatewayProcess.from_json(json.loads(json.dumps(command.settings)))


def test_everything_here() -> None:
    made = Service(described(), SOURCES, FOLDER)
    plan = made.plan()
    assert list(plan.slots) == [GATEWAY, Slot("read", 1), Slot("embed", 1), Slot("embed", 2)]
    assert (plan.slots[Slot("read", 1)], plan.grace, plan.gateway_first) == (5.0, 8.0, False)


def test_the_gateway_listens_in_the_run_folder() -> None:
    command = Service(described(), SOURCES, FOLDER).command(GATEWAY)
    assert command.argv == [sys.executable, "-P", "-m", "gateway"]
    assert command.environment == dict(os.environ)
    handed = gateway(command)
    assert (handed.bind, handed.run_folder) == ("ipc:///run/x/gateway.sock", "/run/x")
    assert handed.open_when_ready
    assert handed.revision == described().revision


def test_a_replica_knows_its_number_and_its_environment() -> None:
    made = Service(described(), SOURCES, FOLDER)
    command = made.command(Slot("embed", 2))
    assert command.argv == [sys.executable, "-P", "-m", "stage"]
    assert command.environment["GPU"] == "1"
    handed = replica(command)
    assert (handed.worker_id, handed.worker, handed.feed) == (2, SOURCES["embed"], "")
    assert handed.gateways == ("ipc:///run/x/gateway.sock",)
    assert (handed.timeout, handed.run_folder) == (3.0, "/run/x")


def test_each_life_feeds_from_an_address_of_its_own() -> None:
    made = Service(described(), SOURCES, FOLDER)
    feeds = [replica(made.command(Slot("read", 1))).feed for _ in range(2)]
    assert feeds == ["ipc:///run/x/feed-1.sock", "ipc:///run/x/feed-2.sock"]


def test_a_restarted_gateway_listens_where_the_first_one_did() -> None:
    settings = described(
        gateway=GatewaySettings(http="127.0.0.1:0", bind="tcp://0.0.0.0:0", insecure=True)
    )
    made = Service(settings, SOURCES, FOLDER)
    assert made.plan().gateway_first
    made.received(GATEWAY, {"event": "bound", "bind": "tcp://0.0.0.0:41000"})
    made.received(GATEWAY, {"event": "ready", "http": "127.0.0.1:42000"})
    made.received(Slot("read", 1), {"event": "ready"})
    handed = gateway(made.command(GATEWAY))
    assert (handed.bind, handed.gateway.http) == ("tcp://0.0.0.0:41000", "127.0.0.1:42000")
    assert replica(made.command(Slot("read", 1))).gateways == ("tcp://127.0.0.1:41000",)


def test_several_gateways_each_have_an_address() -> None:
    made = Service(described(gateway=GatewaySettings(processes=2)), SOURCES, FOLDER)
    plan = made.plan()
    assert list(plan.slots)[:3] == [GATEWAY, SIBLING, Slot("read", 1)]
    assert not plan.gateway_first
    handed = [gateway(made.command(slot)) for slot in (GATEWAY, SIBLING)]
    binds = ("ipc:///run/x/gateway.sock", "ipc:///run/x/gateway.sock-2")
    assert tuple(one.bind for one in handed) == binds
    assert [one.number for one in handed] == [1, 2]
    assert all(one.open_when_ready for one in handed)
    assert replica(made.command(Slot("embed", 1))).gateways == binds


def test_ports_that_are_given_count_on() -> None:
    settings = described(
        gateway=GatewaySettings(bind="tcp://127.0.0.1:7100", processes=3, insecure=True)
    )
    made = Service(settings, SOURCES, FOLDER)
    third = gateway(made.command(Slot("", 3)))
    assert third.bind == "tcp://127.0.0.1:7102"
    assert replica(made.command(Slot("read", 1))).gateways == (
        "tcp://127.0.0.1:7100",
        "tcp://127.0.0.1:7101",
        "tcp://127.0.0.1:7102",
    )


def test_replicas_are_told_each_free_port_that_a_gateway_has_found() -> None:
    told = Reporter()
    settings = described(
        gateway=GatewaySettings(bind="tcp://127.0.0.1:0", processes=2, insecure=True)
    )
    made = Service(settings, SOURCES, FOLDER, gateway_link=told)  # type: ignore[arg-type]
    assert made.plan().gateway_first
    made.received(SIBLING, {"event": "bound", "bind": "tcp://127.0.0.1:42"})
    made.received(GATEWAY, {"event": "bound", "bind": "tcp://127.0.0.1:41"})
    both = ("tcp://127.0.0.1:41", "tcp://127.0.0.1:42")
    assert replica(made.command(Slot("read", 1))).gateways == both
    assert told.dialled == [(("tcp://127.0.0.1:42",), True), (both, True)]
    assert gateway(made.command(SIBLING)).bind == "tcp://127.0.0.1:42"


def test_gateways_alone_listen_where_stages_elsewhere_look() -> None:
    settings = described(gateway=GatewaySettings(bind="ipc:///run/y", processes=2))
    made = Service(settings, {}, FOLDER)
    assert list(made.plan().slots) == [GATEWAY, SIBLING]
    handed = [gateway(made.command(slot)) for slot in (GATEWAY, SIBLING)]
    assert tuple(one.bind for one in handed) == settings.dialled()
    assert not any(one.open_when_ready for one in handed)


NEAR = GatewaySettings(bind="tcp://127.0.0.1:7000", insecure=True)


@pytest.mark.parametrize(
    ("changes", "stages", "with_gateway"),
    [
        ({}, SOURCES, True),  # all of it is here, and meets in the run folder
        ({"gateway": NEAR}, {}, True),
        ({"gateway": NEAR}, SOURCES, False),
        ({"gateways": ("ipc:///run/y",)}, SOURCES, False),
    ],
)
def test_those_who_know_an_address_need_no_place_to_meet(
    changes: dict[str, Any], stages: dict[str, WorkerSource], with_gateway: bool
) -> None:
    settings = described(**changes)
    with ExitStack() as held:
        assert _placed(settings, stages, with_gateway, held) is settings


def test_gateways_and_stages_that_are_apart_meet() -> None:
    settings = described(name="apart", gateways=())
    with ExitStack() as held:
        gateways = _placed(settings, {}, True, held)
        stages = _placed(settings, SOURCES, False, held)
    assert gateways == stages
    assert stages.dialled() == (meeting.where("apart", 8000),)
    assert stages.revision == settings.revision


def test_gateways_inherit_the_port_and_replicas_do_not() -> None:
    settings = described(gateway=GatewaySettings(http="127.0.0.1:0", processes=2))
    with ListenSocket("127.0.0.1", 0, 2) as front:
        made = Service(settings, SOURCES, FOLDER, front=front)
        command = made.command(SIBLING)
        handed = gateway(command)
        assert command.descriptors == (*handed.doors, handed.accept_balance)
        assert handed.doors == front.doors
        assert made.command(Slot("read", 1)).descriptors == ()


def test_gateways_inherit_the_operators_address() -> None:
    settings = described(gateway=GatewaySettings(admin="127.0.0.1:0", processes=2))
    with AdminDoor("127.0.0.1:0") as admin:
        made = Service(settings, SOURCES, FOLDER, admin=admin)
        command = made.command(SIBLING)
        assert command.descriptors == gateway(command).admin_doors == admin.doors
        assert made.command(Slot("read", 1)).descriptors == ()


def test_a_gateway_that_is_gone_is_struck_out() -> None:
    settings = described(gateway=GatewaySettings(processes=2))
    with ListenSocket("127.0.0.1", 0, 2) as front:
        made = Service(settings, SOURCES, FOLDER, front=front)
        front.accept_balance.count(1, 3)
        front.accept_balance.count(2, 3)
        made.exited(Slot("read", 2), 12, 0, 9)
        assert not front.accept_balance.is_alone(1)
        made.exited(SIBLING, 12, 0, 9)
        assert front.accept_balance.is_alone(1)


def test_the_port_is_closed_when_it_is_to_be() -> None:
    with ListenSocket("127.0.0.1", 0, 1) as front:
        made = Service(described(), SOURCES, FOLDER, front=front)
        made.close_http()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(front.doors[0])
    Service(described(), SOURCES, FOLDER).close_http()


def test_one_stage_alone_dials_the_gateways_it_is_told() -> None:
    settings = described(gateways=("tcp://g:7000",), gateway=GatewaySettings(insecure=True))
    made = Service(settings, {"embed": SOURCES["embed"]}, FOLDER, with_gateway=False)
    assert list(made.plan().slots) == [Slot("embed", 1), Slot("embed", 2)]
    assert replica(made.command(Slot("embed", 1))).gateways == ("tcp://g:7000",)


@pytest.mark.parametrize(
    ("feed", "gateways", "fed"),
    [
        ("", (), ""),
        ("", ("ipc:///run/gateway.sock",), "ipc:///run/x/feed-1.sock"),
        ("", ("tcp://127.0.0.1:7000",), "tcp://127.0.0.1:0"),
        ("", ("tcp://10.0.0.1:7000",), ""),
        ("", ("file:///gateways",), ""),
        ("tcp://127.0.0.1:7100", (), "tcp://127.0.0.1:7102"),
        ("tcp://[::1]:7100", (), "tcp://[::1]:7102"),
        ("tcp://127.0.0.1:0", ("tcp://10.0.0.1:7000",), "tcp://127.0.0.1:0"),
        ("ipc:///run/feed", (), "ipc:///run/feed-3"),
    ],
)
def test_where_a_stage_alone_feeds_the_next(feed: str, gateways: tuple[str, ...], fed: str) -> None:
    read = replace(READ, feed=feed, replicas=3)
    settings = described(
        stages={"read": read, "embed": EMBED},
        gateways=gateways,
        gateway=GatewaySettings(insecure=True),
    )
    made = Service(settings, {"read": SOURCES["read"]}, FOLDER, with_gateway=False)
    assert replica(made.command(Slot("read", 3))).feed == fed


def test_replicas_advertise_ports_of_their_own_like_their_feeds() -> None:
    read = replace(READ, feed="tcp://127.0.0.1:7100", advertise="tcp://here:8100", replicas=2)
    insecure = GatewaySettings(insecure=True)
    settings = described(stages={"read": read, "embed": EMBED}, gateway=insecure)
    made = Service(settings, SOURCES, FOLDER)
    handed = [replica(made.command(Slot("read", number))) for number in (1, 2)]
    assert [one.advertise for one in handed] == ["tcp://here:8100", "tcp://here:8101"]
    assert replica(made.command(Slot("embed", 1))).advertise == ""


def test_replicas_are_handed_where_feeds_of_other_stages_may_be() -> None:
    read = replace(READ, feed="ipc:///srv/read")
    made = Service(described(stages={"read": read, "embed": EMBED}), SOURCES, FOLDER)
    assert replica(made.command(Slot("embed", 1))).feeds == ("ipc:///srv/read",)


def test_replicas_are_handed_how_long_stopping_may_take() -> None:
    made = Service(described(gateway=GatewaySettings(drain_grace=1.5)), SOURCES, FOLDER)
    assert replica(made.command(Slot("embed", 1))).grace == 1.5


def test_it_says_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mesh")
    made = Service(described(), SOURCES, FOLDER)
    made.received(GATEWAY, {"http": "127.0.0.1:4000"})
    made.announce()
    Service(described(), SOURCES, FOLDER, with_gateway=False).announce()
    assert caplog.messages == [
        "serving http://127.0.0.1:4000/i: read -> embed",
        "every replica of read, embed is ready",
    ]


def test_becoming_a_gateway_leaves_no_file_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Replaced(Exception):
        pass

    seen: list[GatewayProcess] = []

    def execv(program: str, argv: list[str]) -> None:
        assert (program, argv[:4]) == (sys.executable, [sys.executable, "-P", "-m", "gateway"])
        file = argv[4].removeprefix("--settings=")
        seen.append(GatewayProcess.from_json(json.loads(Path(file).read_text())))
        descriptor = int(Path(file).name)
        assert os.get_inheritable(descriptor)
        os.close(descriptor)
        with pytest.raises(StartError, match="is running here"), meeting.held("becoming", 8000):
            pass
        raise Replaced

    monkeypatch.setattr(service.os, "execv", execv)  # type: ignore[attr-defined]
    with pytest.raises(Replaced):
        become_gateway(described(name="becoming"))
    bind = meeting.where("becoming", 8000)
    assert seen == [gateway_process(described(name="becoming"), bind)]
    assert not seen[0].open_when_ready


@pytest.mark.parametrize(
    ("bind", "dialled"),
    [
        ("ipc:///run/x", "ipc:///run/x"),
        ("tcp://*:1", "tcp://127.0.0.1:1"),
        ("tcp://[::]:1", "tcp://[::1]:1"),
        ("tcp://[::1]:1", "tcp://[::1]:1"),
        ("tcp://10.0.0.1:1", "tcp://10.0.0.1:1"),
    ],
)
def test_where_a_bound_address_is_dialled(bind: str, dialled: str) -> None:
    assert dialled_at(bind) == dialled


class Reporter:
    me = 77

    def __init__(self) -> None:
        self.dialled: list[tuple[tuple[str, ...], bool]] = []
        self.refusals: list[tuple[Slot, str, str]] = []

    def refused(self, slot: Slot, address: str, why: str) -> None:
        self.refusals.append((slot, address, why))

    def dial(self, addresses: tuple[str, ...], *, anew: bool = False) -> None:
        self.dialled.append((addresses, anew))


def test_the_reporter_is_told_where_the_gateway_is_when_it_listens() -> None:
    told = Reporter()
    made = Service(described(), SOURCES, FOLDER, gateway_link=told)  # type: ignore[arg-type]
    made.command(Slot("embed", 1))
    assert told.dialled == []
    made.received(GATEWAY, {"event": "bound", "bind": "tcp://127.0.0.1:7"})
    made.received(GATEWAY, {"event": "ready", "bind": "tcp://127.0.0.1:7"})
    made.received(Slot("embed", 1), {"event": "ready"})
    assert told.dialled == [(("tcp://127.0.0.1:7",), True)]


def test_a_replica_is_told_by_what_number_gateways_know_its_supervisor() -> None:
    told = Reporter()
    made = Service(described(), SOURCES, FOLDER, gateway_link=told)  # type: ignore[arg-type]
    assert made.command(Slot("embed", 1)).settings["supervisor"] == told.me
    alone = Service(described(), SOURCES, FOLDER)
    assert alone.command(Slot("embed", 1)).settings["supervisor"] == 0


def test_the_reporter_is_told_that_a_gateway_refuses_a_replica() -> None:
    told = Reporter()
    made = Service(described(), SOURCES, FOLDER, gateway_link=told)  # type: ignore[arg-type]
    made.received(Slot("embed", 1), {"event": "refused", "address": "tcp://g:1", "why": "not you"})
    made.received(Slot("embed", 1), {"event": "ready"})
    assert told.refusals == [(Slot("embed", 1), "tcp://g:1", "not you")]


def test_the_reporter_of_replicas_alone_dials_where_they_do() -> None:
    told = Reporter()
    settings = described(gateways=("tcp://g:7000",), gateway=GatewaySettings(insecure=True))
    made = Service(settings, SOURCES, FOLDER, with_gateway=False, gateway_link=told)  # type: ignore[arg-type]
    made.command(Slot("embed", 1))
    assert told.dialled == [(("tcp://g:7000",), False)]


def test_a_batch_may_take_as_long_as_its_replica_has_to_end_it_and_a_second() -> None:
    plan = Service(described(), SOURCES, FOLDER).plan()
    assert plan.limits is not None
    assert GATEWAY not in plan.limits
    assert plan.limits[Slot("embed", 1)] == 3.0 + 1.0 + 1.0
