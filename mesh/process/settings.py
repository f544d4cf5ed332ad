"""The settings that a process of the mesh gets at its start, in one JSON file. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from mesh.config.settings import GatewaySettings, StageSettings
from mesh.process.worker_source import WorkerSource


@dataclass(frozen=True)
class GatewayProcess:
    """The settings of one gateway process.

    Attributes:
        mesh: name of the mesh.
        revision: see `MeshSettings.revision`.
        gateway: the settings of ``[gateway]``.
        bind: the address that replicas dial: ``ipc://`` in the run folder, or ``tcp://``.
        routes: by HTTP path, the names of its stages.
        stages: every stage of the mesh, by name.
        open_when_ready: open HTTP only when every stage of every route has a replica.
        run_folder: the private folder of this run, ``""`` if there is none.
        log_level: one of `LEVELS`.
        log_format: one of `LOG_FORMATS`.
        version: see `MeshSettings.version`.
        routes_name: see `MeshSettings.routes_name`.
        number: 1 for the host's first gateway process, and so on.
        doors: the descriptors of the bound sockets of the HTTP port; empty if it must bind them.
        accept_balance: the descriptor of the memory with the connection counts of the processes
            that share the port.
        admin_doors: the descriptors of the bound sockets of ``[gateway] admin``; empty if it must
            bind them, or if there is no such address.
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
        """Return the settings as plain values for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the values that `to_json` wrote; SettingsError if they do not fit."""
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
    """The settings of one replica process.

    Attributes:
        mesh: name of the mesh.
        revision: see `MeshSettings.revision`.
        stage: the settings of its stage.
        worker: the class to run.
        worker_id: 1 for the stage's first replica on this host, and so on.
        gateways: the mesh address of every gateway, or a DNS name that resolves to several.
        timeout: seconds that one forward may take.
        feed: the address that consumers of its outputs dial, ``""`` if there are none; port 0
            takes a free one.
        advertise: the address that consumers learn instead, ``""`` for the feed's own; port 0
            stands for the feed's.
        grace: seconds that stopping may take before the process is killed.
        run_folder: the private folder of this run, ``""`` if there is none.
        log_level: one of `LEVELS`.
        log_format: one of `LOG_FORMATS`.
        keys: the folder of keys, ``""`` for plain links.
        version: see `MeshSettings.version`.
        routes_name: see `MeshSettings.routes_name`.
        debug: whether failures carry the exception, for the gateway to show it.
        feeds: the result of `ipc_feeds` for all stages.
        supervisor: the incarnation of its supervisor in the mesh, 0 if there is none. Gateways
            accept a notice of this replica's death only from that supervisor.
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
        """Return the settings as plain values for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Read the values that `to_json` wrote; SettingsError if they do not fit."""
        parts = {
            "stage": StageSettings.from_json(plain["stage"]),
            "worker": WorkerSource.from_json(plain["worker"]),
            "gateways": tuple(plain["gateways"]),
            "feeds": tuple(plain["feeds"]),
        }
        return cls(**{**plain, **parts})


def ipc_feeds(stages: Iterable[StageSettings]) -> tuple[str, ...]:
    """Return the ipc addresses of the feeds of these stages, without the replicas' numbers.

    Example:
        >>> ipc_feeds([])
        ()
    """
    named = [address for stage in stages for address in (stage.feed, stage.advertise)]
    return tuple(address for address in named if address.startswith("ipc://"))
