"""A service that is started only to see that it can be."""

from __future__ import annotations

from typing import Any

from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.supervision.child import Command
from mesh.supervision.dry_run import DryRun, apart, report_lines
from mesh.supervision.events import GATEWAY, Slot


class Heard:
    """Stands in for the service: keeps what it was asked and told."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def command(self, slot: Slot) -> Command:
        return Command([str(slot)], {}, {})

    def received(self, slot: Slot, message: dict[str, Any]) -> None:
        self.calls.append(("received", slot))

    def exited(self, slot: Slot, pid: int, code: int, signal: int) -> None:
        self.calls.append(("exited", slot, pid, code, signal))

    def announce(self) -> None:
        self.calls.append("announce")

    def close_http(self) -> None:
        self.calls.append("close_http")


def test_when_everything_is_ready_it_says_so_and_ends() -> None:
    service, shown = Heard(), []
    trial = DryRun(service, shown.append)
    trial.stop = lambda: shown.append("stop")
    one, other = Slot("embed", 1), Slot("read", 2)
    assert trial.command(one).argv == ["embed/1"]
    trial.received(GATEWAY, {"event": "ready"})
    trial.received(other, {"event": "ready"})
    trial.received(one, {"event": "ready", "report": {"loaded": 1.234, "examples": 2, "ran": 0.5}})
    assert not trial.complete
    trial.announce()
    assert trial.complete
    assert shown == [
        "stage  replica  loaded in  examples  which took",
        "embed  1        1.23 s     2         0.50 s",
        "read   2        0.00 s     none      -",
        "stop",
    ]
    trial.exited(one, 5, 0, 15)
    trial.close_http()
    assert service.calls == [
        *(("received", GATEWAY), ("received", other), ("received", one)),
        *(("exited", one, 5, 0, 15), "close_http"),
    ]


def test_nothing_that_is_ready_makes_an_empty_table() -> None:
    assert len(list(report_lines({}))) == 1


def test_it_takes_no_address_of_a_service_that_runs() -> None:
    gateway = GatewaySettings(
        http="[::1]:8000", bind="tcp://127.0.0.1:7000", processes=2, insecure=True
    )
    stage = StageSettings("a", worker="m:C", feed="tcp://127.0.0.1:7100", advertise="tcp://h:7100")
    made = apart(
        MeshSettings(
            gateways=("tcp://127.0.0.1:7000",),
            gateway=gateway,
            stages={"a": stage},
            routes={"/x": ("a",)},
        )
    )
    assert (made.gateway.http, made.gateway.bind, made.gateway.processes) == ("[::1]:0", "", 1)
    assert (made.stages["a"].feed, made.stages["a"].advertise, made.gateways) == ("", "", ())
    assert apart(MeshSettings()).gateway.http == "127.0.0.1:0"
