"""A replica's life: load, construct, warm up, announce, serve, drain."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Concatenate, ParamSpec

from mesh.errors import MeshError, ProtocolError, StartError
from mesh.links.dialer import MOST_NAMED
from mesh.links.events import Identity
from mesh.links.expulsions import ExpulsionLog
from mesh.links.handshake import hello_of
from mesh.links.links import Links
from mesh.log import get_logger, name_requests
from mesh.logs.failure_text import line_and_place
from mesh.process import open_files
from mesh.process.batch_record import SIZE, BatchRecord
from mesh.process.class_loader import explain, load
from mesh.process.exit_watchdog import ExitWatchdog
from mesh.process.fork import end_if_forked
from mesh.process.limits import demand_free_files, free_files
from mesh.process.malloc import keep_freed
from mesh.process.parent_link import ParentLink
from mesh.process.settings import ReplicaProcess
from mesh.process.signals import STOP_SIGNALS
from mesh.process.start_watch import StartWatch
from mesh.process.streams import open_missing_streams
from mesh.protocol import incarnations
from mesh.protocol.array_memory import SetAside
from mesh.protocol.messages import Role, StageFacts
from mesh.protocol.wire import encode
from mesh.transport.curve import Keys
from mesh.transport.discovery import Discovery, is_numeric, local_address, resolve
from mesh.transport.factory import open_network
from mesh.transport.network import Network
from mesh.worker.base import Worker
from mesh.worker.checks import WorkerFacts, facts_of
from stage.batching.batcher import Batcher
from stage.loop import Loop
from stage.replica import Replica
from stage.runner import Runner

_log = get_logger()
_UNLOAD_GRACE_S = 1.0  # seconds of the grace that are left when `unload` is given up
_More = ParamSpec("_More")
_Serving = Callable[Concatenate[ReplicaProcess, ParentLink, _More], None]


def _explained(serving: _Serving[_More]) -> _Serving[_More]:
    """Convert each failure before the replica is ready to a StartError, and enforce the start
    timeout. Without a reason, the supervisor would restart the replica again and again."""

    def explained(
        process: ReplicaProcess,
        parent_link: ParentLink,
        /,
        *more: _More.args,
        **named: _More.kwargs,
    ) -> None:
        watch = StartWatch(process.stage.start_timeout, parent_link)
        watch.begin()
        try:
            serving(process, parent_link, *more, **named)
        except MeshError:
            raise
        except BaseException as error:  # a property of the worker may even call sys.exit
            if parent_link.settled.is_set():
                raise  # the replica was ready
            text = f"stage {process.stage.name} cannot serve: {line_and_place(error)}"
            raise StartError(text) from error
        finally:
            watch.end()

    explained.__doc__ = serving.__doc__
    return explained


@_explained
def serve(
    process: ReplicaProcess,
    parent_link: ParentLink,
    batch_record: BatchRecord | None = None,
    stops: Sequence[signal.Signals] = STOP_SIGNALS,
) -> None:
    """Run one replica until it is ordered to stop and has drained.

    Raises:
        StartError: the worker cannot be imported, constructed or warmed up, the feed address
            cannot be bound, or anything else failed before the replica was ready.
    """
    started = monotonic()
    settings = process.stage
    worker = construct(process, batch_record)
    facts = facts_of(worker, settings.name, settings.max_batch_size, process.worker_id)
    runner = _runner(process, worker, batch_record)
    report = _warmed(runner, monotonic() - started)
    _settle_after_worker(process)
    loop = Loop(runner, _log, process.timeout, settings.kill_grace, stops, parent_link.asked)
    network = open_network(loop.watch, loop.unwatch, _keys(process))
    discovery = None
    try:
        identity = _identity(process, facts)
        links = _links(identity, network, parent_link)
        feed = _feed(process, network)
        identity.feed = placed(feed, process.gateways)
        if feed and not identity.feed:
            _log.warning("no gateway's name can be resolved yet, so this host's address is unknown")

        def found(addresses: set[str], now: float) -> None:
            identity.feed = identity.feed or placed(feed, addresses)
            network.trust(addresses, process.feeds)
            replica.know_gateways(addresses, now)

        discovery = Discovery(process.gateways, lambda new: loop.post(lambda now: found(new, now)))
        network.trust(discovery.known, process.feeds)
        replica = Replica(links, _facts(identity), _batcher(process), discovery.known, monotonic())
        parent_link.obey(loop.stop)
        discovery.start()
        parent_link.ready(identity.incarnation, report=report)
        _log.info(
            "replica %d of stage %s is ready after %.2f s: %s",
            process.worker_id,
            settings.name,
            monotonic() - started,
            incarnations.shown(identity.incarnation),
        )
        loop.run(replica, network, process.grace)
    finally:
        parent_link.obey(lambda: None)
        if discovery is not None:
            discovery.stop()
        network.close()
        loop.close()
        _unload(runner, loop.left(process.grace) - _UNLOAD_GRACE_S)
    _log.info("replica %d of stage %s has stopped", process.worker_id, settings.name)


def _runner(process: ReplicaProcess, worker: Worker, batch_record: BatchRecord | None) -> Runner:
    batching = process.stage.max_batch_size > 1
    runner = Runner(
        worker, batching=batching, log=_log, batch_record=batch_record, debug=process.debug
    )
    name_requests(runner.in_hand)
    return runner


def _settle_after_worker(process: ReplicaProcess) -> None:
    """Repair what the worker's code may have changed in this process, before it listens."""
    end_if_forked()  # a child that returned from the constructor must not act as a replica
    open_missing_streams()
    demand_free_files(open_files.links(len(process.gateways), bool(process.feed)), "the worker")
    gc.collect()
    gc.freeze()  # model and libraries live for ever: collections need not scan them
    keep_freed()


def _warmed(runner: Runner, loaded: float) -> dict[str, float]:
    """Run the examples; return how long the start took, as a report for the parent."""
    started = monotonic()
    examples = runner.warm_up()
    return {"loaded": loaded, "examples": examples, "ran": monotonic() - started}


def _unload(runner: Runner, seconds: float) -> None:
    """Run the worker's `unload`, for at most `seconds`."""
    with ExitWatchdog(max(seconds, _UNLOAD_GRACE_S), 0, "its unload()"):
        runner.close()


def construct(process: ReplicaProcess, batch_record: BatchRecord | None = None) -> Worker:
    """Import the user's class and construct its object; the batch record names the current step.

    Raises:
        StartError: the text names the exception and its place; the exception is the cause.
    """
    batch_record = batch_record or BatchRecord(bytearray(SIZE))
    batch_record.starts(f"importing {process.worker}")
    cls = load(process.worker)
    made = cls.__qualname__
    batch_record.starts(f"in {made}.__init__")
    try:
        worker: Worker = cls.__new__(cls)
        worker.worker_id = process.worker_id
        worker.stage = process.stage.name
        worker.max_batch_size = process.stage.max_batch_size
        worker.__init__()  # type: ignore[misc]  # the attributes above must be set before
    except BaseException as error:
        said = explain(error, process.worker)
        raise StartError(f"{made}.__init__ failed: {said}") from error
    return worker


def _links(identity: Identity, network: Network, parent_link: ParentLink) -> Links:
    return Links(
        identity,
        secrets.SystemRandom().random,
        admits=network.objection,
        objected=parent_link.refused,
        most_named=min(MOST_NAMED, open_files.most_named(free_files())),
        left_out=_log_left_out,
        source=network.source,
        expelled=ExpulsionLog().record,
        memory=SetAside,
    )


def _log_left_out(count: int) -> None:
    _log.warning(
        "gateways announced %d more replicas than this process dials: they are too many, or too "
        "few files may be open; the gateways relay the outputs for those. %s",
        count,
        open_files.ADVICE,
    )


def _facts(identity: Identity) -> StageFacts:
    assert identity.stage is not None
    return identity.stage


def _identity(process: ReplicaProcess, worker: WorkerFacts) -> Identity:
    settings = process.stage
    facts = StageFacts(
        name=settings.name,
        revision=process.revision,
        batch=settings.max_batch_size,
        timeout=process.timeout,
        pool=settings.pool,
        repeatable=settings.idempotent,
        wants_meta=worker.wants_meta,
        content_type=worker.content_type,
        schema=worker.schema,
        version=process.version,
        routes=process.routes_name,
    )
    identity = Identity(
        incarnation=secrets.randbits(63) | 1,
        role=Role.REPLICA,
        mesh=process.mesh,
        stage=facts,
        host=socket.gethostname(),
        pid=os.getpid(),
        parent=process.supervisor,
        pool=settings.pool,
    )
    _refuse_unsendable(identity)
    return identity


def _keys(process: ReplicaProcess) -> Keys | None:
    if not process.keys:
        return None
    serves_as = "feed" if process.feed else ""
    return Keys(process.keys, [f"stage-{process.stage.name}", "stage"], serves_as)


def _refuse_unsendable(identity: Identity) -> None:
    """Check that this replica's announcement can be sent; otherwise each start would fail at it."""
    try:
        encode(hello_of(identity, 1, None, ()))
    except ProtocolError as error:
        text = f"the announcement of this replica cannot be sent: {error}"
        raise StartError(f"{text}; see the settings name, version and advertise") from error


def _feed(process: ReplicaProcess, network: Network) -> str:
    """Listen for consumers of the outputs, if another stage follows.

    Returns:
        The address for consumers. Its host is ``*`` if it depends on their network, see `placed`.
    """
    if not process.feed:
        return ""
    bound = network.listen(process.feed)
    advertised = process.advertise or bound
    if not advertised.startswith("tcp://"):
        return advertised
    host, _, port = advertised.removeprefix("tcp://").rpartition(":")
    if port in ("0", "*"):
        port = bound.rpartition(":")[2]
    if host in ("0.0.0.0", "*", "[::]"):
        return f"tcp://*:{port}"
    return _numeric(f"tcp://{host}:{port}")


def placed(feed: str, gateways: Iterable[str]) -> str:
    """Replace ``*`` in the feed address by the address of this host that gateways see.

    Returns:
        The address, "" while no gateway's name can be resolved to a reachable host.
    """
    if not feed.startswith("tcp://*:"):
        return feed
    seen = next(filter(None, map(local_address, gateways)), "")
    host = f"[{seen}]" if ":" in seen else seen
    return feed.replace("*", host, 1) if seen else ""


def _numeric(address: str) -> str:
    """Resolve the host of an address: with a numeric one, libzmq of consumers need not resolve
    it."""
    if is_numeric(address):
        return address
    found = sorted(resolve(address))
    if not found:
        raise StartError(f"no address is known for {address}; correct the stage's `advertise`")
    return found[0]


def _batcher(process: ReplicaProcess) -> Batcher:
    settings = process.stage
    return Batcher(
        settings.max_batch_size,
        settings.max_wait_time,
        settings.pool,
        repeatable=settings.idempotent,
        patience=process.timeout,
    )
