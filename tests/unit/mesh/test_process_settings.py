"""What a process is handed, on its way there as JSON and back."""

import json
from typing import Any

from mesh.config.settings import GatewaySettings, StageSettings
from mesh.process.settings import GatewayProcess, ReplicaProcess, ipc_feeds
from mesh.process.worker_source import WorkerSource

EMBED = StageSettings("embed", worker="m:Embed", replicas=2, env=({"A": "1"}, {"A": "2"}))


def through_json(plain: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(plain))
    return value


def test_a_gateway_gets_its_settings_through_json() -> None:
    process = GatewayProcess(
        mesh="mesh",
        revision="r1",
        gateway=GatewaySettings(drain_grace=2.0, hosts=("a.example",), cors=("https://a",)),
        bind="ipc:///run/gateway.sock",
        routes={"/inference": ("embed",)},
        stages={"embed": EMBED},
        open_when_ready=True,
        run_folder="/run",
        log_level="debug",
        log_format="json",
        number=2,
        doors=(7, 8),
        accept_balance=9,
        admin_doors=(10,),
    )
    assert GatewayProcess.from_json(through_json(process.to_json())) == process


def test_a_replica_gets_its_settings_through_json() -> None:
    source = WorkerSource("Embed", file="/a/service.py", sys_path=("/a",), argv=("x", "--y"))
    process = ReplicaProcess(
        mesh="mesh",
        revision="r1",
        stage=EMBED,
        worker=source,
        worker_id=2,
        gateways=("tcp://a:1", "tcp://b:1"),
        timeout=3.0,
        feeds=("ipc:///srv/feed",),
        log_format="text",
    )
    assert ReplicaProcess.from_json(through_json(process.to_json())) == process


def test_where_feeds_are_by_ipc_is_known_of_all_stages() -> None:
    told = StageSettings("a", worker="m:A", feed="ipc:///srv/a", advertise="ipc:///mnt/a")
    others = [EMBED, StageSettings("b", worker="m:B", feed="tcp://*:0")]
    assert ipc_feeds([*others, told]) == ("ipc:///srv/a", "ipc:///mnt/a")
