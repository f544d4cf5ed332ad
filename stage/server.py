"""A replica's life: load, construct, warm up, announce, serve, drain."""

from __future__ import annotations

import gc
import json
import os
import secrets
import socket
from collections.abc import Iterable
from time import monotonic

from mesh.board import Board
from mesh.discovery import Discovery, is_numeric, local_address, resolve
from mesh.errors import StartError
from mesh.instructions import Identity
from mesh.lifeline import Lifeline
from mesh.links import Links
from mesh.loading import explain, load
from mesh.log import get_logger
from mesh.memory import keep_freed
from mesh.messages import Role, StageFacts
from mesh.process import open_files
from mesh.process.fork import end_if_forked
from mesh.process.limits import demand_free_files
from mesh.process.streams import open_missing_streams
from mesh.process_settings import ReplicaProcess
from mesh.security import Keys
from mesh.sockets import ZmqNetwork
from mesh.worker import Worker
from stage.batcher import Batcher
from stage.loop import Loop
from stage.replica import Replica
from stage.runner import Runner

_log = get_logger()


def serve(process: ReplicaProcess, lifeline: Lifeline, board: Board | None = None) -> None:
    """Run one replica until it is told to stop and has drained.

    Raises:
        StartError: the worker cannot be imported, constructed or warmed up, or the feed address
            cannot be bound.
    """
    started = monotonic()
    settings = process.stage
    worker = construct(process)
    runner = Runner(worker, batching=settings.max_batch_size > 1, log=_log, board=board)
    runner.warm_up()
    _check_after_worker(process)
    gc.collect()
    gc.freeze()  # model and libraries live for ever: no collection need look at them again
    keep_freed()
    loop = Loop(runner, _log, process.timeout, settings.kill_grace)
    network = ZmqNetwork(monotonic, loop.watch, loop.unwatch, _keys(process))
    discovery = None
    try:
        identity = _identity(process, worker)
        links = Links(identity, secrets.SystemRandom().random, admits=network.objection)
        feed = _feed(process, network)
        identity.feed = placed(feed, process.gateways)
        if feed and not identity.feed:
            _log.warning("no gateway's name is known yet, nor the address that leads here from it")

        def found(addresses: set[str], now: float) -> None:
            identity.feed = identity.feed or placed(feed, addresses)
            network.gateways = addresses
            replica.know_gateways(addresses, now)

        discovery = Discovery(process.gateways, lambda new: loop.post(lambda now: found(new, now)))
        network.gateways = discovery.known
        replica = Replica(links, _facts(identity), _batcher(process), discovery.known, monotonic())
        lifeline.leaving = lambda: replica.draining
        discovery.start()
        lifeline.ready(identity.incarnation)
        _log.info(
            "replica %d of stage %s is ready after %.2f s: %x",
            process.worker_id,
            settings.name,
            monotonic() - started,
            identity.incarnation,
        )
        loop.run(replica, network, process.grace)
    finally:
        if discovery is not None:
            discovery.stop()
        network.close()
        loop.close()
        runner.close()
    _log.info("replica %d of stage %s has stopped", process.worker_id, settings.name)


def _check_after_worker(process: ReplicaProcess) -> None:
    """Look at what the worker's own code may have done to this process, before it listens."""
    end_if_forked()  # it would take its parent's place
    open_missing_streams()
    demand_free_files(open_files.links(len(process.gateways), bool(process.feed)), "the worker")


def construct(process: ReplicaProcess) -> Worker:
    """Import the user's class and make its one object.

    Raises:
        StartError: with what it raised, where, and nothing of our own frames.
    """
    cls = load(process.worker)
    try:
        worker: Worker = cls.__new__(cls)
        worker.worker_id = process.worker_id
        worker.stage = process.stage.name
        worker.max_batch_size = process.stage.max_batch_size
        worker.__init__()  # type: ignore[misc]  # its attributes above must be there before
    except Exception as error:
        raise StartError(explain(error, process.worker)) from error
    return worker


def _facts(identity: Identity) -> StageFacts:
    assert identity.stage is not None
    return identity.stage


def _identity(process: ReplicaProcess, worker: Worker) -> Identity:
    settings = process.stage
    facts = StageFacts(
        name=settings.name,
        revision=process.revision,
        batch=settings.max_batch_size,
        timeout=process.timeout,
        pool=settings.pool,
        repeatable=settings.idempotent,
        wants_meta=bool(worker.wants_meta),
        mime=worker.resp_mime_type,
        schema=_schema(worker),
        version=process.version,
        routes=process.routes_name,
    )
    return Identity(
        incarnation=secrets.randbits(63) | 1,
        role=Role.REPLICA,
        mesh=process.mesh,
        stage=facts,
        host=socket.gethostname(),
        pid=os.getpid(),
        parent=os.getppid(),
        pool=settings.pool,
    )


def _keys(process: ReplicaProcess) -> Keys | None:
    if not process.keys:
        return None
    return Keys(process.keys, [f"stage-{process.stage.name}", "stage"], "feed")


def _schema(worker: Worker) -> str:
    template = "#/components/schemas/{name}"
    schemas = [worker.get_forward_json_schema(t, template) for t in ("INPUT", "RETURN")]
    return json.dumps(schemas) if any(schema for schema, _ in schemas) else ""


def _feed(process: ReplicaProcess, network: ZmqNetwork) -> str:
    """Listen for consumers of the outputs, if there may be any.

    Returns:
        Where they shall dial; its host is ``*`` where that depends on where they are, see `placed`.
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
    """The feed address with this host's own in place of ``*``: the one that gateways see.

    Returns:
        "" while none of these gateways is known by name and in reach.
    """
    if not feed.startswith("tcp://*:"):
        return feed
    seen = next(filter(None, map(local_address, gateways)), "")
    host = f"[{seen}]" if ":" in seen else seen
    return feed.replace("*", host, 1) if seen else ""


def _numeric(address: str) -> str:
    """What a name stands for: consumers are told numbers, so that libzmq has nothing to look up."""
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
