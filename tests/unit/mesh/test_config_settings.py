"""The settings themselves: what contradicts what, and the way to another process and back."""

import json
import re
from dataclasses import asdict, replace
from typing import Any

import pytest

from mesh.config.settings import (
    DEFAULT_TIMEOUT_S,
    PAGES,
    Fault,
    GatewaySettings,
    MeshSettings,
    StageSettings,
    fitting_timeout,
    refuse_unknown,
)
from mesh.errors import SettingsError
from mesh.protocol import permissions
from mesh.protocol.messages import StageFacts

READ = StageSettings("read", worker="m:Read")
EMBED = StageSettings("embed", worker="m:Embed", replicas=2, env=({"A": "1"}, {"A": "2"}))
ROUTES = {"/inference": ("read", "embed"), "/read": ("read",)}


def described(**changes: Any) -> MeshSettings:
    given = {"stages": {"read": READ, "embed": EMBED}, "routes": ROUTES, **changes}
    return MeshSettings(**given)


def through_json(plain: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(plain))
    return value


def test_defaults() -> None:
    gateway = GatewaySettings()
    assert (gateway.host, gateway.port, gateway.timeout) == ("127.0.0.1", 8000, 3.0)
    assert gateway.grace == 8.0
    assert replace(gateway, drain_grace=1.0).grace == 1.0


def test_settings_from_elsewhere_are_checked_again() -> None:
    with pytest.raises(SettingsError, match=r"\[gateway\] capacity: must be at least 1, not 0"):
        GatewaySettings.from_json({"capacity": 0})
    with pytest.raises(
        SettingsError, match=r"\[stages.x\] size: unknown setting; there are worker"
    ):
        StageSettings.from_json({"name": "x", "size": 0})
    with pytest.raises(SettingsError, match="did you mean 'replicas'"):
        refuse_unknown("stages.x", "replica", ("replicas",))


def test_settings_travel_as_json() -> None:
    assert StageSettings.from_json(through_json(asdict(EMBED))) == EMBED
    gateway = GatewaySettings(drain_grace=2.0)
    assert GatewaySettings.from_json(through_json(asdict(gateway))) == gateway


def test_a_fault_names_its_place() -> None:
    assert str(Fault("", "", "all wrong")) == "all wrong"
    assert str(Fault("", "name", "wrong")) == "name: wrong"


def test_the_revision_is_of_what_a_request_meets() -> None:
    plain = described()
    more = described(stages={"read": replace(READ, replicas=9, max_batch_size=4), "embed": EMBED})
    other = described(stages={"read": replace(READ, worker="m:Other"), "embed": EMBED})
    shorter = described(routes={"/inference": ("embed",)})
    assert plain.revision == more.revision
    newer = described(version="2")
    assert len({plain.revision, other.revision, shorter.revision, newer.revision}) == 4
    same = {each.routes_name for each in (plain, more, other, newer)}
    assert same == {plain.routes_name} != {shorter.routes_name}


def test_who_feeds_whom() -> None:
    assert described().feeds("read")
    assert not described().feeds("embed")


def test_forward_limits() -> None:
    mesh = described(stages={"read": replace(READ, timeout=0.5), "embed": EMBED})
    assert (mesh.forward_limit("read"), mesh.forward_limit("embed")) == (0.5, 3.0)


def stage_of(name: str, timeout: float | None) -> StageSettings:
    return StageSettings(name, worker="m:C", timeout=timeout)


@pytest.mark.parametrize(
    ("timeouts", "routes", "fitting"),
    [
        ({"a": None}, {"/x": ("a",)}, DEFAULT_TIMEOUT_S),
        ({"a": 1.0}, {"/x": ("a",)}, DEFAULT_TIMEOUT_S),
        ({"a": 30.0}, {"/x": ("a",)}, 60.0),
        ({"a": 30.0, "b": 10.0, "c": None}, {"/x": ("a", "c"), "/y": ("b", "a")}, 80.0),
        ({"a": 30.0}, {}, DEFAULT_TIMEOUT_S),
        ({"a": 30.0}, {"/x": ("wrong",)}, DEFAULT_TIMEOUT_S),
    ],
)
def test_a_request_has_time_for_the_stages_of_the_longest_route(
    timeouts: dict[str, float | None], routes: dict[str, tuple[str, ...]], fitting: float
) -> None:
    stages = {name: stage_of(name, seconds) for name, seconds in timeouts.items()}
    assert fitting_timeout(stages, routes) == fitting


def test_timeouts_that_contradict_each_other_are_a_warning() -> None:
    slow = StageSettings("slow", worker="m:C", timeout=30.0, max_batch_size=4, max_wait_time=3.0)
    made = MeshSettings(stages={"slow": slow}, routes={"/x": ("slow",)})
    first, second = made.warnings()
    assert first.startswith("[stages.slow] timeout = 30s is more than [gateway] timeout = 3s")
    assert second.startswith("[stages.slow] max_wait_time = 3s reaches [gateway] timeout = 3s")
    fine = StageSettings("fine", worker="m:C", timeout=3.0, max_wait_time=5.0)
    assert MeshSettings(stages={"fine": fine}, routes={"/x": ("fine",)}).warnings() == []


def test_where_gateways_are_found() -> None:
    near = GatewaySettings(bind="tcp://127.0.0.1:9", insecure=True)
    assert described().dialled() == ()
    assert described(gateway=near).dialled() == ("tcp://127.0.0.1:9",)
    assert described(gateway=near, gateways=("tcp://g:1",)).dialled() == ("tcp://g:1",)


def test_where_all_processes_of_the_gateways_are_found() -> None:
    three = GatewaySettings(bind="ipc:///run/x", processes=3)
    own = ("ipc:///run/x", "ipc:///run/x-2", "ipc:///run/x-3")
    assert described(gateway=three).dialled() == own
    two = GatewaySettings(processes=2, insecure=True)
    named = ("tcp://g:1", "tcp://h:5", "file:///g")
    every = ("tcp://g:1", "tcp://g:2", "tcp://h:5", "tcp://h:6", "file:///g")
    assert described(gateway=two, gateways=named).dialled() == every


def test_how_many_processes_there_are_is_no_part_of_the_revision() -> None:
    two = described(gateway=GatewaySettings(processes=2))
    assert two.revision == described().revision


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"gateway": GatewaySettings(bind="tcp://127.0.0.1:65535", processes=2, insecure=True)},
            "[gateway] bind",
        ),
        (
            {
                "gateways": ("tcp://g:7000", "tcp://h:65534"),
                "gateway": GatewaySettings(processes=3, insecure=True),
            },
            "gateways: tcp://h:65534 leaves no ports for processes = 3",
        ),
    ],
)
def test_every_process_must_have_a_port(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        described(**settings)


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"routes": {"/": ("read",)}}, ("routes", "/"), "the gateway's own"),
        ({"routes": {"/metrics": ("read",)}}, ("routes", "/metrics"), "the gateway's own"),
        ({"routes": {"read": ("read",)}}, ("routes", "read"), "looks like"),
        ({"routes": {"/a/": ("read",)}}, ("routes", "/a/"), "looks like"),
        ({"routes": {"/a b": ("read",)}}, ("routes", "/a b"), "looks like"),
        ({"routes": {"/a": ()}}, ("routes", "/a"), "names no stage"),
        ({"routes": {"/a": ("raed",)}}, ("routes", "/a"), "did you mean 'read'"),
        ({"routes": {"/a": ("zzz",)}}, ("routes", "/a"), r"add a table \[stages.zzz\]"),
        ({"routes": {"/a": ("read", "read")}}, ("routes", "/a"), "twice"),
        ({"stages": {"x": StageSettings("x")}, "routes": {}}, ("stages.x", "worker"), "is missing"),
        (
            {"stages": {"x": replace(EMBED, name="x", replicas=3)}, "routes": {}},
            ("stages.x", "env"),
            "has 2 tables for 3 replicas",
        ),
        (
            {"gateway": GatewaySettings(max_body=2**30)},
            ("stages.read", "pool"),
            r"256MiB cannot hold one request of \[gateway\] max_body = 1GiB",
        ),
        (
            {"gateway": GatewaySettings(bind="tcp://*:7000")},
            ("gateway", "bind"),
            "insecure = true",
        ),
        (
            {"gateway": GatewaySettings(bind="tcp://[::1]:7000")},
            ("gateway", "bind"),
            "open to every user of this machine",
        ),
        (
            {"gateways": ("ipc:///run/x", "tcp://127.0.0.1:7000")},
            ("", "gateways"),
            "any process that answers at tcp://127.0.0.1:7000",
        ),
        (
            {"stages": {"x": replace(READ, name="x", feed="tcp://10.0.0.1:0")}, "routes": {}},
            ("stages.x", "feed"),
            "can be reached from other machines",
        ),
    ],
)
def test_contradictions_are_refused(
    changes: dict[str, Any], place: tuple[str, str], said: str
) -> None:
    with pytest.raises(Fault, match=said) as caught:
        described(**changes)
    assert (caught.value.table, caught.value.key) == place


def test_exposed_ports_are_possible_where_that_is_meant() -> None:
    gateway = GatewaySettings(bind="tcp://0.0.0.0:7000", insecure=True)
    stage = replace(READ, feed="tcp://*:0")
    assert described(gateway=gateway, stages={"read": stage, "embed": EMBED}).gateway == gateway


@pytest.mark.parametrize("name", ["", "1st", "a b", "é", "x" * 64, 'a"b'])
def test_a_stage_has_a_plain_name(name: str) -> None:
    with pytest.raises(Fault, match="letters, digits, _ and -"):
        StageSettings(name, worker="m:C")


@pytest.mark.parametrize("path", PAGES)
def test_a_route_cannot_be_where_the_gateway_answers(path: str) -> None:
    with pytest.raises(Fault, match=re.escape(PAGES[path])):
        described(routes={path: ("read",)})


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/v2/models/x", "/mesh", "/pings"])
def test_a_route_may_be_anywhere_else(path: str) -> None:
    assert path in described(routes={path: ("read",)}).routes


def test_what_the_settings_allow_a_gateway_takes() -> None:
    """Else `mesh check` would call right what never connects."""
    largest = StageSettings("a", worker="m:A", max_batch_size=permissions.MAX_BATCH)
    facts = StageFacts("a", "1", largest.max_batch_size, 3.0, 1, version="~" * 128)
    assert permissions.stage_objection(facts) == ""
    assert MeshSettings.__dataclass_fields__["version"].metadata["kind"].read("~" * 128)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        (StageSettings, "max_batch_size", permissions.MAX_BATCH + 1),
        (MeshSettings, "version", "vé"),
        (MeshSettings, "version", "v" * 129),
    ],
)
def test_what_a_gateway_would_refuse_is_refused_at_once(
    table: type, key: str, value: object
) -> None:
    with pytest.raises(ValueError, match="must be"):
        table.__dataclass_fields__[key].metadata["kind"].read(value)  # type: ignore[attr-defined]
