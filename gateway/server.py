"""The gateway's life: bind, serve, drain, close."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from time import monotonic

from gateway.admin.metrics import Metrics
from gateway.admin.pages import make_app
from gateway.event_loop import EventLoopDriver
from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.core import GatewayCore
from gateway.requests.drawn_numbers import drawn_numbers
from gateway.requests.journal import JournalEntry, Turnover
from gateway.requests.route import InferenceRoute
from gateway.view import GatewayView
from gateway.web.access_log import AccessLog
from gateway.web.admin_listener import AdminListener
from gateway.web.browser_policy import BrowserPolicy
from gateway.web.byte_budget import ByteBudget
from gateway.web.compressor import Compressor
from gateway.web.failure_log import FailureLog
from gateway.web.http_server import HttpServer
from gateway.web.limits import Limits
from gateway.web.responses import row
from mesh.config.addresses import bracketed
from mesh.config.settings import ADMIN_PAGES, PAGES, GatewaySettings
from mesh.links.events import Identity
from mesh.links.expulsions import ExpulsionLog
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.log import flush, get_logger, get_output
from mesh.process.accept_balance import AcceptShare
from mesh.process.listen_socket import cannot_listen, inherited, shared_crowd
from mesh.process.malloc import keep_freed
from mesh.process.parent_link import ParentLink
from mesh.process.settings import GatewayProcess, ipc_feeds
from mesh.process.signals import SAME_STOP_S, wanted_stops
from mesh.protocol import incarnations
from mesh.protocol.messages import Hops, Role
from mesh.transport.curve import Keys
from mesh.transport.factory import open_network
from mesh.transport.network import Network

_log = get_logger()
# New objects after which the garbage collector runs. A request in flight has some ten objects and
# no cycle: with Python's default of 700, collections took a twentieth of the gateway's time.
_MANY_OBJECTS = 50_000
# The share of a route's bytes that all unread answers may take, and the bytes that they always may.
_UNREAD_SHARE = 4
_UNREAD_LEAST_BYTES = 64 * 2**20
_BYE_LIMIT_S = 0.5  # seconds to wait for the peers that were sent BYE
_READY_POLL_S = 0.02  # seconds between checks whether every stage has a replica


class Gateway:
    """One gateway process.

    Args:
        process: its settings.
        parent_link: reports to the parent that it is ready.
    """

    def __init__(self, process: GatewayProcess, parent_link: ParentLink) -> None:
        settings = process.gateway
        self._process = process
        self._parent_link = parent_link
        self._stopping = asyncio.Event()
        self._signalled_at: float | None = None
        routes = {
            path: tuple((stage, process.revision) for stage in stages)
            for path, stages in process.routes.items()
        }
        self._links = Links(self._identity(), secrets.SystemRandom().random)
        self._core = self._make_core(routes)
        self._network = self._open_network()
        self._drive = EventLoopDriver(
            Node(self._core, self._network), self._answer, lambda: self._core.calm
        )
        self._failures = FailureLog(monotonic, _later)
        self._inference = self._make_inference(routes)
        self._metrics = Metrics(settings.namespace)
        self._view = GatewayView(process, self._core, self._inference, self._metrics, self.failed)
        self._compressor = None
        if settings.compression:
            self._compressor = Compressor(self._inference, settings.max_body, self.failed)
        access = _access_log(settings)
        self._http = self._view.http = self._make_http(access)
        self._admin = None
        if settings.admin:
            self._admin = AdminListener(settings, self._view, access, self._refused)

    def _make_core(self, routes: Mapping[str, Hops]) -> GatewayCore:
        process, settings = self._process, self._process.gateway
        core = GatewayCore(
            self._links,
            routes,
            settings.max_attempts,
            monotonic(),
            settings.restart_grace,
            process.version,
        )
        core.in_flight.next_number = drawn_numbers(os.urandom).__next__
        core.replicas.routes_name = process.routes_name
        return core

    def _open_network(self) -> Network:
        process = self._process
        keys = Keys(process.gateway.keys, (), "gateway") if process.gateway.keys else None
        feeds = ipc_feeds(process.stages.values())
        network = open_network(self._watch, self._unwatch, keys, gateways=(), feeds=feeds)
        self._links.admits, self._links.source = network.objection, network.source
        self._links.expelled = ExpulsionLog().record
        return network

    def _make_inference(self, routes: Mapping[str, Hops]) -> InferenceService:
        settings = self._process.gateway
        inference = InferenceService(
            self._core,
            [
                InferenceRoute(
                    endpoint, path, Admission(settings.capacity, settings.capacity_bytes)
                )
                for endpoint, path in routes.items()
            ],
            settings.timeout,
            self._drive.wake,
            monotonic,
            self._failures,
            ByteBudget(max(settings.capacity_bytes, settings.max_body)),
        )
        inference.answers.debug = settings.debug
        return inference

    def _make_http(self, access: AccessLog | None) -> HttpServer:
        settings = self._process.gateway
        return HttpServer(
            self._compressor or self._inference,
            make_app(self._view, settings.compression, _pages(settings)),
            _limits(settings),
            coded=settings.compression,
            access=access,
            refused=self._refused,
            dropped=self._dropped,
            browsers=BrowserPolicy(settings.hosts, settings.cors),
        )

    def _identity(self) -> Identity:
        process = self._process
        return Identity(
            incarnation=secrets.randbits(63) | 1,
            role=Role.GATEWAY,
            mesh=process.mesh,
            host=socket.gethostname(),
            pid=os.getpid(),
            timeout=process.gateway.timeout,
            pool=process.gateway.capacity_bytes,
        )

    def _watch(self, fd: int) -> None:
        self._drive.watch(fd)

    def _unwatch(self, fd: int) -> None:
        self._drive.unwatch(fd)

    # --- life ------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve until a stop signal or the parent's order, then end in order.

        Raises:
            StartError: an address cannot be bound.
        """
        self._listen_for_the_end()
        try:
            bind = self._network.listen(self._process.bind)
            self._parent_link.bound(bind, self._links.me)
            self._drive.start()
            if self._view.siblings is not None:
                await self._view.siblings.start()
            if self._admin is not None:
                where = self._admin.open(self._process.admin_doors)
                _log.info("gateway %s serves metrics and status at %s", self._name, where)
            if await self._may_open():
                await self._open(bind)
                await self._stopping.wait()
                await self._drain()
        finally:
            self._parent_link.obey(lambda: None)
            if self._admin is not None:
                await self._admin.close()
            if self._view.siblings is not None:
                await self._view.siblings.close()
            self._drive.stop()
            self._network.close()
            if self._compressor is not None:
                self._compressor.close()
            self._failures.close()

    def _listen_for_the_end(self) -> None:
        loop = asyncio.get_running_loop()
        for number in wanted_stops():
            loop.add_signal_handler(number, self._signalled, number)
        self._parent_link.obey(lambda: loop.call_soon_threadsafe(self._stop))

    def _signalled(self, number: int) -> None:
        """Stop once for a signal and the parent's order, and for signals that come together."""
        now = monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
        elif now >= self._signalled_at + SAME_STOP_S:
            flush()
            os._exit(128 + number)  # a second, separate signal means: stop at once
        self._stop()

    def _stop(self) -> None:
        """Refuse requests as soon as clients can see that this gateway is not ready."""
        self._inference.draining = True
        self._stopping.set()

    async def _may_open(self) -> bool:
        """Wait for every stage, if HTTP must open only then; return False if stopped meanwhile."""
        while self._process.open_when_ready and not self._core.is_ready(monotonic()):
            try:
                await asyncio.wait_for(self._stopping.wait(), _READY_POLL_S)
            except TimeoutError:
                continue
            return False
        return not self._stopping.is_set()

    async def _open(self, bind: str) -> None:
        settings = self._process.gateway
        try:
            host, port = await self._listen()
        except OSError as error:
            raise cannot_listen(settings.host, settings.port, error) from error
        gc.collect()
        gc.freeze()  # what exists now lives for ever: collections need not scan it
        gc.set_threshold(_MANY_OBJECTS)
        keep_freed()
        if settings.debug:
            _log.warning("debug is on: clients are shown what workers raise, with tracebacks")
        shown = bracketed(host)
        _log.info("gateway %s serves http://%s:%d, replicas at %s", self._name, shown, port, bind)
        self._parent_link.ready(self._links.me, http=f"{shown}:{port}", bind=bind)

    async def _listen(self) -> tuple[str, int]:
        """Listen on the inherited sockets, or bind a port."""
        process = self._process
        if not process.doors:
            return await self._http.start(process.gateway.host, process.gateway.port)
        return self._http.take(inherited(process.doors), _seat(process), self._parent_link.closed)

    async def _drain(self) -> None:
        settings = self._process.gateway
        _log.info("gateway %s stops, %d requests in flight", self._name, len(self._core.in_flight))
        await self._http.drain(settings.grace)
        self._drive.wake()
        for session in list(self._links.sessions.values()):
            self._links.part(session, monotonic())
        self._drive.wake()
        await self._await_peers()
        _log.info("gateway %s has stopped", self._name)

    async def _await_peers(self) -> None:
        """Wait until all peers have read our BYE, and with it the acks of their outcomes.

        A computing replica reads rarely, and would keep them for a gateway that has ended.
        """
        for _ in range(round(_BYE_LIMIT_S / _READY_POLL_S)):
            if not self._links.sessions:
                return
            await asyncio.sleep(_READY_POLL_S)

    def _answer(self, now: float) -> None:
        if self._core.met_stage:
            self._core.met_stage = False
            self._inference.learn()
        while self._core.journal:
            self._log_change(self._core.journal.pop(0))
        if self._core.ended:
            self._inference.answers.write(self._core.take_ended())
        if self._core.stats:
            stats, self._core.stats = self._core.stats, []
            self._metrics.record_stats(stats)
            self._inference.measure()
        if self._inference.answers.durations:
            durations, self._inference.answers.durations = self._inference.answers.durations, []
            self._metrics.record_durations(durations)

    def _log_change(self, entry: JournalEntry | Turnover) -> None:
        if isinstance(entry, Turnover):
            _log.info("version %s is ready; all routes switched to it (revision %s)", *entry)
            return
        session, orderly, reason = entry
        assert session.stage is not None
        level = logging.INFO if orderly else logging.WARNING
        where = f"{session.host}, pid {session.pid}"
        _log.log(
            level,
            "replica %s of %s: %s (%s)",
            incarnations.shown(session.peer),
            session.stage.name,
            reason,
            where,
        )

    def _refused(self, code: str, message: str, request_id: bytes) -> None:
        self._inference.answers.answered[row(code).status, ""] += 1
        self.failed(code, message, request_id)

    def _dropped(self, cause: str) -> None:
        self._metrics.count("connections_dropped", (cause,))

    def failed(self, code: str, message: str, request_id: bytes) -> None:
        """Log the failure of an answer without a route, if the service is at fault."""
        self._failures.record(code, message, request_id)

    @property
    def _name(self) -> str:
        return incarnations.shown(self._links.me)


def _limits(settings: GatewaySettings) -> Limits:
    """Return the limits of HTTP clients; unread answers never fill a route of the usual size."""
    unread = max(settings.capacity_bytes // _UNREAD_SHARE, _UNREAD_LEAST_BYTES)
    return Limits(
        max_body=settings.max_body,
        unread_bytes=unread,
        uploads_per_address=settings.uploads_per_address,
    )


def _later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)


def _pages(settings: GatewaySettings) -> list[str]:
    """Return the pages of the main port."""
    return [page for page in PAGES if not (settings.admin and page in ADMIN_PAGES)]


def _access_log(settings: GatewaySettings) -> AccessLog | None:
    if not settings.access_log:
        return None
    return AccessLog(
        get_output(), health=settings.access_log_health, query=settings.access_log_query
    )


def _seat(process: GatewayProcess) -> AcceptShare:
    """Return this process's part in the balance of connections."""
    accept_balance = shared_crowd(process.accept_balance)
    os.close(process.accept_balance)
    return AcceptShare(accept_balance, process.number)
