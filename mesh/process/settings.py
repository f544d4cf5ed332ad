"""What a process of the mesh is handed when it starts: one JSON file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from mesh.config.settings import GatewaySettings, StageSettings
from mesh.process.worker_source import WorkerSource


@dataclass(frozen=True)
class GatewayProcess:
    """What one gateway process is handed.

    Attributes:
        mesh: name of the mesh.
        revision: see `MeshSettings.revision`.
        gateway: its settings.
        bind: where replicas dial: ``ipc://`` in the run folder, or ``tcp://``.
        routes: per HTTP path the names of its stages.
        stages: every stage that the mesh has, by name.
        open_when_ready: open HTTP only when every stage of every route has a replica.
        run_folder: private folder of this run, ``""`` where there is none.
        log_level: one of `LEVELS`.
        log_format: one of `LOG_FORMATS`.
        version: see `MeshSettings.version`.
        routes_name: see `MeshSettings.routes_name`.
        number: 1 for the host's first gateway process, and so on.
        doors: descriptors of the bound sockets of the HTTP port; none where it is to bind them.
        accept_balance: descriptor of the memory in which those who share the port count
        connections. admin_doors: descriptors of the bound sockets of ``[gateway] admin``; none
        where it is to
            bind them, or there is no such address.
    """

    mesh: str
    revision: str
    gateway: GatewaySettings
    bind: str
    routes: Mapping[str, tuple[str, ...]]
    stages: Mapping[str, StageSettings]
    open_when_ready: bool = False
    run_folder: str = ""
    log_level: str = "info"
    log_format: str = "auto"
    version: str = ""
    routes_name: str = ""
    number: int = 1
    doors: tuple[int, ...] = ()
    accept_balance: int = -1
    admin_doors: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; SettingsError where it does not fit."""
        parts = {
            "doors": tuple(plain["doors"]),
            "admin_doors": tuple(plain["admin_doors"]),
            "gateway": GatewaySettings.from_json(plain["gateway"]),
            "routes": {path: tuple(stages) for path, stages in plain["routes"].items()},
            "stages": {
                name: StageSettings.from_json(stage) for name, stage in plain["stages"].items()
            },
        }
        return cls(**{**plain, **parts})


@dataclass(frozen=True)
class ReplicaProcess:
    """What one replica process is handed.

    Attributes:
        mesh: name of the mesh.
        revision: see `MeshSettings.revision`.
        stage: the settings of its stage.
        worker: the class to run.
        worker_id: 1 for the stage's first replica on this host, and so on.
        gateways: every gateway's mesh address, or a DNS name that stands for several.
        timeout: seconds that one forward may take.
        feed: where consumers of its outputs dial it, ``""`` where nobody does; port 0: any.
        advertise: the address told to them instead, ``""`` for the feed's own; port 0: the feed's.
        grace: seconds that stopping may take before what is left is killed.
        run_folder: private folder of this run, ``""`` where there is none.
        log_level: one of `LEVELS`.
        log_format: one of `LOG_FORMATS`.
        keys: folder of keys, ``""`` for plain links.
        version: see `MeshSettings.version`.
        routes_name: see `MeshSettings.routes_name`.
        debug: failures carry what was raised, for the gateway to show it.
        feeds: see `ipc_feeds`, of all stages.
        supervisor: the incarnation that its supervisor has in the mesh, by which gateways know who
            may tell of this replica's death; 0 where there is none.
    """

    mesh: str
    revision: str
    stage: StageSettings
    worker: WorkerSource
    worker_id: int
    gateways: tuple[str, ...]
    timeout: float
    feed: str = ""
    advertise: str = ""
    grace: float = 8.0
    run_folder: str = ""
    log_level: str = "info"
    log_format: str = "auto"
    keys: str = ""
    version: str = ""
    routes_name: str = ""
    debug: bool = False
    feeds: tuple[str, ...] = ()
    supervisor: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain values for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; SettingsError where it does not fit."""
        parts = {
            "stage": StageSettings.from_json(plain["stage"]),
            "worker": WorkerSource.from_json(plain["worker"]),
            "gateways": tuple(plain["gateways"]),
            "feeds": tuple(plain["feeds"]),
        }
        return cls(**{**plain, **parts})


def ipc_feeds(stages: Iterable[StageSettings]) -> tuple[str, ...]:
    """The ipc addresses that these stages' replicas are dialled at, before their numbers.

    Example:
        >>> ipc_feeds([])
        ()
    """
    named = [address for stage in stages for address in (stage.feed, stage.advertise)]
    return tuple(address for address in named if address.startswith("ipc://"))
