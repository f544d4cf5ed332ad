"""The declarations of all settings of the mesh. Pure.

`MeshSettings` describes a whole service: its gateway, its stages, its routes. The settings of one
process are in `mesh/process/settings.py`.

All values are in seconds and bytes. `mesh/config/schema.py` (kinds) and `mesh/config/sources.py`
(mesh.toml, environment) convert what people write.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from mesh.config.addresses import addresses, last_port
from mesh.config.exposure import of_dialler, of_listener
from mesh.config.schema import (
    Choice,
    Duration,
    Endpoint,
    Endpoints,
    Environments,
    HttpAddress,
    Size,
    Switch,
    Text,
    Texts,
    Whole,
    entries,
    nearest,
    setting,
    split_http,
)
from mesh.config.units import show_duration, show_size
from mesh.errors import SettingsError

LEVELS = ("debug", "info", "warning", "error", "critical")
# Aliases that people write for them, in upper or lower case.
_LEVELS_TOO = {
    **{"trace": "debug", "warn": "warning", "err": "error", "fatal": "critical"},
    **{"crit": "critical", "notset": "debug", "0": "debug"},
    **{"10": "debug", "20": "info", "30": "warning", "40": "error", "50": "critical"},
}
LOG_FORMATS = ("auto", "text", "json")
HOST = r"\*|(\*\.)?[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?"
ORIGIN = r"\*|null|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?"
STAGE_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,62}"
ROUTE = re.compile(r"(/[A-Za-z0-9._~:@!$&'()*+,;=-]+)+")
# The paths that the gateway answers itself, and with what: no route can have them.
PAGES = {
    "/": "what is served here",
    "/health": "200 while the gateway runs",
    "/livez": "200 while the gateway runs",
    "/ping": "200 while the gateway runs",
    "/readyz": "200 while every stage has a replica, else 503",
    "/metrics": "numbers for Prometheus",
    "/mesh/status": "routes, stages and replicas",
}
HEALTH_PAGES = ("/health", "/livez", "/ping", "/readyz")
# The pages that `[gateway] admin` moves to an address of their own.
ADMIN_PAGES = ("/metrics", "/mesh/status")

DEFAULT_TIMEOUT_S = 3.0  # seconds of a request whose stages set no timeouts
MAX_PORT = 65535
MAX_BATCH = 65_536  # as in `mesh/protocol/permissions.py`: gateways refuse a replica with more


class Fault(SettingsError):
    """A wrong setting, with its table and key, so that its line can be found.

    Attributes:
        table: ``""`` for the top of the file, ``"gateway"``, ``"stages.embed"``, ``"routes"``.
        key: the name of the setting, ``""`` if the table as a whole is wrong.
        text: what is wrong and what to do.
    """

    def __init__(self, table: str, key: str, text: str) -> None:
        """Make the error; its message names the place, too."""
        place = " ".join(filter(None, (f"[{table}]" if table else "", key)))
        super().__init__(f"{place}: {text}" if place else text)
        self.table, self.key, self.text = table, key, text


@dataclass(frozen=True)
class GatewaySettings:
    """``[gateway]``: the process that serves HTTP and owns the requests."""

    http: str = setting("127.0.0.1:8000", HttpAddress(), "where HTTP listens; port 0: any free one")
    bind: str = setting(
        "", Endpoint(), "where replicas dial; without it a socket for this user's processes alone"
    )
    processes: int = setting(
        1,
        Whole(1, most=64),
        "gateway processes on each host: one HTTP port, mesh ports one after the other",
        "--processes",
    )
    timeout: float = setting(
        DEFAULT_TIMEOUT_S,
        Duration(0.001),
        "how long a whole request may take; more by default where stages have long timeouts",
        "--timeout",
        "ms",
    )
    capacity: int = setting(1024, Whole(1), "in flight on one route", "--capacity", "requests")
    capacity_bytes: int = setting(2**30, Size(), "bytes in flight on one route", "--capacity-bytes")
    restart_grace: float = setting(
        2.0, Duration(), "how long a stage may be gone before 503", "--restart-grace"
    )
    max_body: int = setting(
        10 * 2**20, Size(), "the largest request body", "--max-request-size", "bytes"
    )
    uploads_per_address: int = setting(
        256,
        Whole(1),
        "bodies not whole after 1 s that a client address may have; a proxy has all its clients'",
    )
    max_attempts: int = setting(
        3, Whole(1), "replica deaths that a request may survive", "--max-attempts"
    )
    namespace: str = setting(
        "mesh",
        Text(r"[A-Za-z_][A-Za-z0-9_]*", "letters, digits and _"),
        "prefix of the metrics' names",
        "--namespace",
    )
    hosts: tuple[str, ...] = setting(
        (),
        Texts(HOST, "a name such as api.example or *.api.example, without port, or *"),
        "host names that browsers may use for this service; on loopback beside localhost",
    )
    cors: tuple[str, ...] = setting(
        (),
        Texts(ORIGIN, "an origin such as https://app.example, without path, or *"),
        "origins whose web pages may send requests",
    )
    admin: str = setting(
        "",
        HttpAddress(optional=True),
        "where /metrics and /mesh/status are served instead: host:port or unix:/path",
    )
    compression: bool = setting(False, Switch(), "speak gzip and zstd", "--compression")
    access_log: bool = setting(False, Switch(), "log every request", "--access-log")
    debug: bool = setting(False, Switch(), "show clients what workers raise, with tracebacks")
    access_log_health: bool = setting(
        False, Switch(), "in the access log: also requests for health pages and metrics"
    )
    access_log_query: bool = setting(
        False, Switch(), "in the access log: also what follows the ? of a URL"
    )
    drain_grace: float | None = setting(
        None,
        Duration(),
        "how long stopping may take; by default `timeout` and 5 s",
        "--drain-grace",
    )
    insecure: bool = setting(
        False, Switch(), "allow mesh addresses over tcp without keys or any authentication"
    )
    keys: str = setting(
        "", Text(r".*", "a folder"), "folder of keys, see `mesh keygen`; tcp ports then demand them"
    )

    @property
    def host(self) -> str:
        """The host name or address where HTTP listens."""
        return split_http(self.http)[0]

    @property
    def port(self) -> int:
        """The port where HTTP listens; 0 means any free one."""
        return split_http(self.http)[1]

    @property
    def grace(self) -> float:
        """Seconds that stopping may take before the remaining processes are killed."""
        return self.timeout + 5.0 if self.drain_grace is None else self.drain_grace

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the values that `asdict` wrote; SettingsError if they do not fit."""
        return cls(**_checked(cls, plain, "gateway"))


@dataclass(frozen=True)
class StageSettings:
    """``[stages.NAME]``: one user class, and how its replicas run it."""

    name: str
    worker: str = setting(
        "",
        Text(r".+:[A-Za-z_][\w.]*", 'written as "module:Class" or "file.py:Class"'),
        "the class to run",
    )
    replicas: int = setting(1, Whole(0), "processes on this host")
    max_batch_size: int = setting(
        1, Whole(1, most=MAX_BATCH), "tasks that one forward takes; over 1: in a list"
    )
    max_wait_time: float = setting(0.0, Duration(), "how long a batch may wait for more tasks")
    timeout: float | None = setting(
        None, Duration(0.001), "how long one forward may take; by default the gateway's `timeout`"
    )
    start_timeout: float = setting(
        120.0, Duration(0.001), "how long construction may take", "--start-timeout"
    )
    kill_grace: float = setting(
        1.0, Duration(), "how long a forward may go on after its timeout, then it is killed"
    )
    env: tuple[dict[str, str], ...] = setting(
        (), Environments(), "environment variables, one table per replica"
    )
    feed: str = setting("", Endpoint(), "where replicas of the next stage dial; port 0: any")
    advertise: str = setting("", Endpoint(), "the address they get instead; port 0: the feed's")
    pool: int = setting(256 * 2**20, Size(), "payload bytes that a replica holds at once")
    idempotent: bool = setting(True, Switch(), "whether running a task twice does no harm")

    def __post_init__(self) -> None:
        """Refuse a name that cannot be a metric's label or a key."""
        if not re.fullmatch(STAGE_NAME, self.name):
            text = f"a stage's name is letters, digits, _ and -, not {self.name!r}"
            raise Fault(f"stages.{self.name}", "", text)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the values that `asdict` wrote; SettingsError if they do not fit."""
        name = str(plain.get("name", ""))
        rest = {key: value for key, value in plain.items() if key != "name"}
        return cls(name=name, **_checked(cls, rest, f"stages.{name}"))


@dataclass(frozen=True)
class MeshSettings:
    """The checked, immutable settings of a whole service, from one mesh.toml or one script."""

    name: str = setting(
        "mesh", Text(STAGE_NAME, "letters, digits, _ and -"), "name of the mesh; others are refused"
    )
    version: str = setting(
        "",
        Text(r"([!-~]([ -~]{0,126}[!-~])?)?", "printable ASCII, 128 characters at most"),
        "of code and models; routes move to a later one when all stages of it stand",
    )
    log_level: str = setting(
        "info",
        Choice(LEVELS, "level", _LEVELS_TOO),
        f"the lowest level that is logged: {', '.join(LEVELS)}",
        "--log-level",
    )
    log_format: str = setting(
        "auto",
        Choice(LOG_FORMATS, "format"),
        "how it is logged: text, json, or auto: text on a terminal, else json",
        "--log-format",
    )
    gateways: tuple[str, ...] = setting(
        (), Endpoints(), "where the gateways are; by default the gateway's `bind`"
    )
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    stages: Mapping[str, StageSettings] = field(default_factory=dict)
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        _check_routes(self.routes, self.stages)
        for stage in self.stages.values():
            _check_stage(stage, self.gateway)
        _check_exposed("gateway", "bind", of_listener(self.gateway.bind), self.gateway)
        for one in self.gateways:
            _check_exposed("", "gateways", of_dialler(one), self.gateway)
        _check_ports("gateway", "bind", (self.gateway.bind,), self.gateway.processes)
        _check_ports("", "gateways", self.gateways, self.gateway.processes)

    @property
    def revision(self) -> str:
        """A short hash of everything that a request depends on: version, routes, stage classes.

        Processes with the same revision can work together. The number of replicas, their batching
        and their addresses may differ from host to host, and are not part of it.
        """
        classes = {one.name: [one.worker, one.idempotent] for one in self.stages.values()}
        return _named([self.name, self.version, self._plain_routes(), classes])

    @property
    def routes_name(self) -> str:
        """A short hash of the routes alone; a version may only take over from one with the same."""
        return _named(self._plain_routes())

    def _plain_routes(self) -> dict[str, list[str]]:
        return {path: list(stages) for path, stages in self.routes.items()}

    def feeds(self, stage: str) -> bool:
        """Return whether another stage follows this one on some route."""
        return any(stage in path[:-1] for path in self.routes.values())

    def forward_limit(self, stage: str) -> float:
        """Return the seconds that one forward of this stage may take."""
        own = self.stages[stage].timeout
        return self.gateway.timeout if own is None else own

    def warnings(self) -> list[str]:
        """Return warnings about settings that are valid but probably not intended."""
        whole = self.gateway.timeout
        shown = f"[gateway] timeout = {show_duration(whole)}, in which a whole request must end"
        found = []
        for stage in self.stages.values():
            if stage.timeout is not None and stage.timeout > whole:
                own = f"[stages.{stage.name}] timeout = {show_duration(stage.timeout)}"
                found.append(f"{own} is more than {shown}; raise that (--timeout), too")
            if stage.max_batch_size > 1 and stage.max_wait_time >= whole:
                own = f"[stages.{stage.name}] max_wait_time = {show_duration(stage.max_wait_time)}"
                text = "; a batch that does not fill ends in 504: lower the one or raise the other"
                found.append(f"{own} reaches {shown}{text}")
        return found

    def dialled(self) -> tuple[str, ...]:
        """Return the addresses at which replicas dial the gateways, all processes of each.

        Empty if no address is set: they meet on this host then (`mesh.supervision.meeting`).
        """
        named = self.gateways or tuple(filter(None, [self.gateway.bind]))
        return tuple(one for name in named for one in addresses(name, self.gateway.processes))


def fitting_timeout(
    stages: Mapping[str, StageSettings], routes: Mapping[str, tuple[str, ...]]
) -> float:
    """Return the default seconds for a whole request: enough for the stages of every route.

    A request that arrives just after a forward began waits for that forward first: so this is twice
    the sum of the stage timeouts of the longest route, and at least `DEFAULT_TIMEOUT_S`.

    Example:
        >>> slow = StageSettings("slow", worker="m:Slow", timeout=30.0)
        >>> fitting_timeout({"slow": slow}, {"/inference": ("slow",)})
        60.0
    """
    sums = [
        sum(stages[name].timeout or 0.0 for name in names if name in stages)
        for names in routes.values()
    ]
    return max(DEFAULT_TIMEOUT_S, 2 * max(sums, default=0.0))


def _named(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def refuse_unknown(table: str, key: str, known: Mapping[str, object] | tuple[str, ...]) -> NoReturn:
    """Raise the Fault for a key that is not in the schema; it names the nearest known key."""
    meant = nearest(key, known)
    hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(known)}"
    raise Fault(table, key, f"unknown setting; {hint}")


def _checked(owner: type, plain: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Check the values of one table by their kinds; None stands for the default."""
    schema = entries(owner)
    values: dict[str, Any] = {}
    for key, value in plain.items():
        if key not in schema:
            refuse_unknown(table, key, schema)
        try:
            values[key] = None if value is None else schema[key].kind.check(value)
        except ValueError as error:
            raise Fault(table, key, str(error)) from None
    return values


def _check_routes(
    routes: Mapping[str, tuple[str, ...]], stages: Mapping[str, StageSettings]
) -> None:
    for path, names in routes.items():
        if path in PAGES:
            own = f"this path is the gateway's own ({PAGES[path]}); choose another"
            raise Fault("routes", path, own)
        if not ROUTE.fullmatch(path):
            raise Fault("routes", path, 'a route looks like "/inference": no spaces, no end slash')
        if not names:
            raise Fault("routes", path, "names no stage")
        for name in names:
            _check_hop(path, name, names, stages)


def _check_hop(
    path: str, name: str, names: tuple[str, ...], stages: Mapping[str, StageSettings]
) -> None:
    if name not in stages:
        meant = nearest(name, stages)
        hint = f"; did you mean {meant!r}?" if meant else f"; add a table [stages.{name}]"
        raise Fault("routes", path, f"there is no stage {name!r}{hint}")
    if names.count(name) > 1:
        raise Fault("routes", path, f"visits the stage {name!r} twice")


def _check_stage(stage: StageSettings, gateway: GatewaySettings) -> None:
    table = f"stages.{stage.name}"
    if not stage.worker:
        raise Fault(table, "worker", 'is missing; write worker = "module:Class"')
    if stage.env and len(stage.env) != stage.replicas:
        text = f"has {len(stage.env)} tables for {stage.replicas} replicas; give each its own"
        raise Fault(table, "env", text)
    if gateway.max_body > stage.pool:
        text = f"{show_size(stage.pool)} cannot hold one request of [gateway] max_body = "
        raise Fault(table, "pool", text + f"{show_size(gateway.max_body)}; raise it to that")
    _check_exposed(table, "feed", of_listener(stage.feed), gateway)


def _check_exposed(table: str, key: str, objection: str, gateway: GatewaySettings) -> None:
    """Refuse an address that is open to strangers, unless the settings allow it explicitly."""
    if objection and not gateway.insecure and not gateway.keys:
        raise Fault(table, key, objection)


def _check_ports(table: str, key: str, named: tuple[str, ...], processes: int) -> None:
    """Refuse an address that leaves too few ports for all processes."""
    for address in named:
        if last_port(address, processes) > MAX_PORT:
            text = f"{address} leaves no ports for processes = {processes}; choose a lower one"
            raise Fault(table, key, text)
