"""Runs a service on this host: all its gateways and stages, or some of them.

`Server.run`, ``mesh up``, ``mesh stage`` and ``mesh gateway`` with several processes all use it.
This module knows how to start our two programs (``python -P -m gateway``, ``python -P -m stage``)
and which settings each one needs; it imports neither.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from mesh.config.addresses import address, bracketed, following
from mesh.config.schema import is_loopback, split_tcp
from mesh.config.settings import MeshSettings, StageSettings
from mesh.errors import EXIT_NOT_STARTED, StartError
from mesh.log import get_logger
from mesh.process import open_files
from mesh.process.admin_door import AdminDoor
from mesh.process.limits import demand_open_files, shortage_as_start_error
from mesh.process.listen_socket import ListenSocket
from mesh.process.settings import GatewayProcess, ReplicaProcess, ipc_feeds
from mesh.process.shared_memory import shared_memory
from mesh.process.worker_source import WorkerSource
from mesh.supervision import meeting
from mesh.supervision.child import Command
from mesh.supervision.dry_run import DryRun, apart
from mesh.supervision.events import ProcessPlan, Slot
from mesh.supervision.gateway_link import GatewayLink
from mesh.supervision.process_loop import ProcessLoop
from mesh.supervision.runtime_dir import RuntimeDir
from mesh.supervision.supervisor import Supervisor
from mesh.transport.discovery import with_siblings

# Longer than a gateway takes to open two ports, even on a machine that is importing models.
GATEWAY_START_S = 60.0
# Seconds that a replica has to end a hung forward before its supervisor kills it.
HUNG_FORWARD_S = 1.0
_ANYWHERE = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}


class Service:
    """The processes of one service and their settings: the `Callbacks` of the process loop.

    Args:
        settings: the whole service.
        sources: by stage, where its class is found; only these stages run here.
        folder: the private folder of this run.
        with_gateway: whether gateways run here, too; otherwise replicas dial `settings.dialled()`.
        gateway_link: receives the addresses of the gateways.
        front: the HTTP port that the gateways share; without it each gateway binds its own.
        admin: the same for the operators' address, if there is one.
    """

    def __init__(  # noqa: PLR0913 - all that this host's processes share
        self,
        settings: MeshSettings,
        sources: Mapping[str, WorkerSource],
        folder: Path,
        with_gateway: bool = True,
        gateway_link: GatewayLink | None = None,
        front: ListenSocket | None = None,
        admin: AdminDoor | None = None,
    ) -> None:
        """Choose the addresses that are known before any process runs."""
        self._settings, self._sources, self._folder = settings, sources, folder
        self._with_gateway, self._reporter, self._front = with_gateway, gateway_link, front
        self._admin_doors = admin.doors if admin else ()
        first = settings.gateway.bind or f"ipc://{folder}/gateway.sock"
        gateways = range(1, settings.gateway.processes + 1) if with_gateway else ()
        self._binds = {Slot("", number): address(first, number) for number in gateways}
        self._http = settings.gateway.http
        self._feeds = 0

    def plan(self) -> ProcessPlan:
        """Return the slots to fill, those of gateways first."""
        stages = [self._settings.stages[name] for name in self._sources]
        slots = dict.fromkeys(self._binds, GATEWAY_START_S)
        for stage in stages:
            for number in range(1, stage.replicas + 1):
                slots[Slot(stage.name, number)] = stage.start_timeout
        gateway_first = not all(map(_is_known, self._binds.values()))
        limits = {slot: self._longest(slot.stage) for slot in slots if not slot.is_gateway}
        return ProcessPlan(slots, self._settings.gateway.grace, gateway_first, limits)

    def _longest(self, stage: str) -> float:
        """Return after how many seconds a batch hangs: the replica should have ended it before."""
        grace = self._settings.stages[stage].kill_grace
        return self._settings.forward_limit(stage) + grace + HUNG_FORWARD_S

    def command(self, slot: Slot) -> Command:
        """Return how to start the next process of a slot."""
        program = "gateway" if slot.is_gateway else "stage"
        argv = [sys.executable, "-P", "-m", program]
        environment = dict(os.environ)
        if slot.is_gateway:
            shared = self._front.descriptors if self._front else ()
            inherited = (*shared, *self._admin_doors)
            return Command(argv, environment, self._gateway(slot).to_json(), inherited)
        if self._reporter is not None and not self._with_gateway:
            self._reporter.dial(self._gateways())
        stage = self._settings.stages[slot.stage]
        if stage.env:
            environment.update(stage.env[slot.number - 1])
        return Command(argv, environment, self._replica(stage, slot.number).to_json())

    def received(self, slot: Slot, message: Mapping[str, Any]) -> None:
        """Keep the address at which a gateway listens, so that its successor uses the same one."""
        if slot.is_gateway:
            self._binds[slot] = str(message.get("bind", self._binds[slot]))
            self._http = str(message.get("http", self._http))
            if self._reporter is not None and message.get("event") == "bound":
                self._reporter.dial(self._gateways(), anew=True)

        elif self._reporter is not None and message.get("event") == "refused":
            self._reporter.refused(slot, str(message["address"]), str(message["why"]))

    def exited(self, slot: Slot, pid: int, code: int | None, signal: int) -> None:
        """Remove an ended gateway from those that share the port's connections."""
        if self._front is not None and slot.is_gateway:
            self._front.accept_balance.away(slot.number)

    def announce(self) -> None:
        """Log where the service is, once, for people."""
        if not self._with_gateway:
            get_logger().info("every replica of %s is ready", ", ".join(self._sources))
            return
        for path, stages in self._settings.routes.items():
            get_logger().info("serving http://%s%s: %s", self._http, path, " -> ".join(stages))

    def close_http(self) -> None:
        """Refuse connections from now on."""
        if self._front is not None:
            self._front.close()

    def _gateway(self, slot: Slot) -> GatewayProcess:
        shell = gateway_process(self._settings, self._binds[slot])
        return dataclasses.replace(
            shell,
            gateway=dataclasses.replace(shell.gateway, http=self._http),
            # Without stages here, there is nothing to wait for.
            open_when_ready=bool(self._sources),
            run_folder=str(self._folder),
            number=slot.number,
            doors=self._front.doors if self._front else (),
            accept_balance=self._front.crowd_fd if self._front else -1,
            admin_doors=self._admin_doors,
        )

    def _replica(self, stage: StageSettings, number: int) -> ReplicaProcess:
        return ReplicaProcess(
            mesh=self._settings.name,
            revision=self._settings.revision,
            stage=stage,
            worker=self._sources[stage.name],
            worker_id=number,
            gateways=self._gateways(),
            timeout=self._settings.forward_limit(stage.name),
            feed=self._feed(stage, number),
            advertise=_numbered(stage.advertise, number) if stage.advertise else "",
            grace=self._settings.gateway.grace,
            run_folder=str(self._folder),
            log_level=self._settings.log_level,
            log_format=self._settings.log_format,
            keys=self._settings.gateway.keys,
            version=self._settings.version,
            routes_name=self._settings.routes_name,
            debug=self._settings.gateway.debug,
            feeds=ipc_feeds(self._settings.stages.values()),
            supervisor=self._reporter.me if self._reporter is not None else 0,
        )

    def _gateways(self) -> tuple[str, ...]:
        """Return the addresses of the gateways, as far as they are known."""
        if not self._with_gateway:
            return tuple(map(with_siblings, self._settings.dialled()))
        return tuple(dialled_at(bind) for bind in self._binds.values() if _is_known(bind))

    def _feed(self, stage: StageSettings, number: int) -> str:
        """Return where the next stage dials this replica; "" if no stage follows or could dial
        it."""
        if not self._settings.feeds(stage.name):
            return ""
        if stage.feed:
            return _numbered(stage.feed, number)
        gateways = self._binds.values() if self._with_gateway else self._gateways()
        if any(one.startswith("ipc://") for one in gateways):
            # A new path for each process: no peer mistakes a successor for the one that died.
            self._feeds += 1
            return f"ipc://{self._folder}/feed-{self._feeds}.sock"
        near = gateways and all(map(_is_near, self._gateways()))
        return "tcp://127.0.0.1:0" if near else ""


def run(
    settings: MeshSettings,
    sources: Mapping[str, WorkerSource],
    with_gateway: bool = True,
    base: str = "",
    dry_run: bool = False,
) -> int:
    """Run a service until it ends; return the exit code for this process.

    Args:
        settings: the whole service.
        sources: by stage, where its class is found; only these stages run here, possibly none.
        with_gateway: whether its gateways run here, too.
        base: where to make the run folder, "" for the usual place.
        dry_run: stop as soon as all processes are ready, and print how each replica started.

    Raises:
        StartError: the HTTP port cannot be bound, the run folder cannot be made, or the limit of
            open files is too low.
    """
    demand_open_files(open_files.needs(settings, sources, with_gateway))
    settings = apart(settings) if dry_run else settings
    gateway = settings.gateway
    with ExitStack() as held:
        held.enter_context(shortage_as_start_error())
        settings = _placed(settings, sources, with_gateway, held)
        folder = held.enter_context(RuntimeDir(base))
        front = (
            ListenSocket(gateway.host, gateway.port, gateway.processes) if with_gateway else None
        )
        if front is not None:
            held.enter_context(front)
        has_admin = with_gateway and gateway.admin
        admin = held.enter_context(AdminDoor(gateway.admin)) if has_admin else None
        # Without replicas here, there are no deaths to report.
        gateway_link = (
            GatewayLink(settings.name, gateway.timeout, gateway.keys, greets=not with_gateway)
            if sources
            else None
        )
        service = Service(
            settings, sources, folder.path, with_gateway, gateway_link, front=front, admin=admin
        )
        supervisor = Supervisor(service.plan())
        if not dry_run:
            return ProcessLoop(supervisor, service, folder, gateway_link).run()
        trial = DryRun(service, print)
        processes = ProcessLoop(supervisor, trial, folder, gateway_link)
        trial.stop = processes.stop
        code = processes.run()
        return code if code or trial.complete else EXIT_NOT_STARTED


def _placed(
    settings: MeshSettings, sources: Mapping[str, object], with_gateway: bool, held: ExitStack
) -> MeshSettings:
    """Add the meeting place as address, if the parts run separately and none is configured."""
    gateway = settings.gateway
    if gateway.bind or (sources and (with_gateway or settings.gateways)):
        return settings
    if with_gateway:
        bind, _ = held.enter_context(meeting.held(settings.name, gateway.port))
    else:
        bind = meeting.where(settings.name, gateway.port)
    return bound_at(settings, bind)


def bound_at(settings: MeshSettings, bind: str) -> MeshSettings:
    """Return the settings with this address of the gateway."""
    return dataclasses.replace(settings, gateway=dataclasses.replace(settings.gateway, bind=bind))


def gateway_process(settings: MeshSettings, bind: str) -> GatewayProcess:
    """Return the settings of a gateway that runs by itself: it opens HTTP at once."""
    return GatewayProcess(
        mesh=settings.name,
        revision=settings.revision,
        gateway=settings.gateway,
        bind=bind,
        routes=settings.routes,
        stages=settings.stages,
        log_level=settings.log_level,
        log_format=settings.log_format,
        version=settings.version,
        routes_name=settings.routes_name,
    )


def become_gateway(settings: MeshSettings) -> NoReturn:
    """Replace this process by a gateway, which then has no supervisor.

    Its settings are passed in memory, as no parent remains to remove a file.
    """
    replicas = sum(stage.replicas for stage in settings.stages.values())
    demand_open_files({"the gateway": open_files.gateway(replicas, 1)})
    held = ExitStack()
    try:
        _exec_gateway(gateway_process(settings, settings.gateway.bind or _kept(settings, held)))
    finally:
        held.close()


def _kept(settings: MeshSettings, held: ExitStack) -> str:
    """Return the address where stages find the gateway; this process keeps its lock after
    `exec`."""
    bind, lock = held.enter_context(meeting.held(settings.name, settings.gateway.port))
    os.set_inheritable(lock, True)
    return bind


def _exec_gateway(shell: GatewayProcess) -> NoReturn:
    try:
        memory = shared_memory("mesh-settings", inheritable=True)
    except OSError as error:
        raise StartError(error.strerror) from error
    os.write(memory, json.dumps(shell.to_json()).encode())
    flag = f"--settings=/proc/self/fd/{memory}"
    os.execv(sys.executable, [sys.executable, "-P", "-m", "gateway", flag])


def dialled_at(bind: str) -> str:
    """Return the address at which processes of this machine dial a listener at `bind`.

    Example:
        >>> dialled_at("tcp://0.0.0.0:7000")
        'tcp://127.0.0.1:7000'
    """
    if not bind.startswith("tcp://"):
        return bind
    host, port = split_tcp(bind)
    return f"tcp://{_ANYWHERE.get(host, bracketed(host))}:{port}"


def _numbered(feed: str, number: int) -> str:
    """Return the feed of the n-th replica. The configured port is the first replica's."""
    return following(feed, number) if feed.startswith("tcp://") else f"{feed}-{number}"


def _is_known(bind: str) -> bool:
    """Return whether an address can be dialled yet: port 0 is chosen only when it is bound."""
    return not bind.startswith("tcp://") or split_tcp(bind)[1] != 0


def _is_near(address: str) -> bool:
    if address.startswith("file://"):
        return False
    return not address.startswith("tcp://") or is_loopback(split_tcp(address)[0])
