"""What a gateway reports about itself: the page of ``mesh status``, and numbers for the metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from operator import itemgetter
from typing import Any

from gateway.admin.metrics import Levels, Metrics
from gateway.requests.core import GatewayCore
from gateway.requests.in_flight import Request
from gateway.requests.route import InferenceRoute
from mesh.links.session import Session
from mesh.protocol import incarnations
from mesh.protocol.messages import Hop


def status(core: GatewayCore, now: float) -> dict[str, Any]:
    """Routes, stages and replicas, as JSON has it."""
    return {
        "gateway": incarnations.shown(core.links.me),
        "mesh": core.links.identity.mesh,
        "version": version("meshline"),
        "in_flight": len(core.in_flight),
        "hub_hops": core.counts.hub_hops,
        "deaths": sum(core.counts.deaths.values()),
        "missing": [stage for stage, _ in core.replicas.missing()],
        "serves": core.replicas.version or "-",
        "routes": {
            path: {"stages": [stage for stage, _ in hops]}
            for path, hops in core.replicas.routes.items()
        },
        "stages": {
            hop[0]: {
                "replicas": len(core.dispatchers[hop].sessions),
                "waiting": core.dispatchers[hop].waiting.count,
                "revision": hop[1],
            }
            for hop in _present(core)
        },
        "replicas": [
            _replica(core, session, now)
            for session in sorted(core.replicas.sessions.values(), key=_place)
        ],
    }


# What only those need to know who look after the hosts.
_PRIVATE = frozenset({"gateway", "replica", "host", "pid", "feed"})


def public(shown: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the names, numbers and addresses of processes and hosts.

    Example:
        >>> public({"gateway": "ff", "replicas": [{"stage": "embed", "pid": 7}]})
        {'replicas': [{'stage': 'embed'}]}
    """
    return {
        key: [public(row) for row in value] if key in ("replicas", "processes") else value
        for key, value in shown.items()
        if key not in _PRIVATE
    }


def _present(core: GatewayCore) -> list[Hop]:
    """The stages that the routes lead through, each once."""
    return list(dict.fromkeys(hop for path in core.replicas.routes.values() for hop in path))


def row(
    core: GatewayCore, number: int, now: float, *, is_open: bool, draining: bool
) -> dict[str, Any]:
    """One gateway process among those that share a port; `is_open` if it takes connections."""
    return {
        "process": number,
        "gateway": incarnations.shown(core.links.me),
        "pid": core.links.identity.pid,
        "in_flight": len(core.in_flight),
        "ready": core.is_ready(now) and is_open and not draining,
        "draining": draining,
    }


def rows(own: dict[str, Any], told: Mapping[int, bytes | None]) -> list[dict[str, Any]]:
    """All processes that share a port, in order.

    Args:
        own: the `row` of the one that is asked.
        told: the others' rows as JSON, by number; None of one that does not answer.
    """
    others = [
        {"process": number, "ready": False, "answers": False}
        if text is None
        else {**json.loads(text), "answers": True}
        for number, text in told.items()
    ]
    return sorted([{**own, "answers": True}, *others], key=itemgetter("process"))


def _place(session: Session) -> tuple[str, str, int]:
    return (session.stage.name if session.stage else "", session.host, session.pid)


def _replica(core: GatewayCore, session: Session, now: float) -> dict[str, Any]:
    facts = session.stage
    assert facts is not None
    feeding = core.replicas.feeding(session)
    direct = sum(one.peer in session.owners for one in feeding)
    return {
        "stage": facts.name,
        "replica": incarnations.shown(session.peer),
        "host": session.host,
        "pid": session.pid,
        "version": facts.version or "-",
        "revision": facts.revision,
        "batch": facts.batch,
        "connected": session.link is not None,
        "draining": session.draining,
        "credit": session.stream.granted.free_tasks,
        "queued": session.vitals.queued,
        "batch_ms": round(session.stream.granted.batch_s * 1000, 3),
        # Of how many replicas before it the outputs come straight; the others' by a gateway.
        "direct": f"{direct} of {len(feeding)}" if feeding else "-",
        # A socket's path is of use to its own process alone.
        "feed": "ipc" if session.feed.startswith("ipc://") else session.feed or "-",
        "silent_s": round(now - session.stream.heard, 3),
        "round_trip_ms": round(session.vitals.round_trip * 1000, 3),
    }


def levels(core: GatewayCore) -> Levels:
    """How much of everything there is now."""
    inflight: Counter[str] = Counter({path: 0 for path in core.replicas.routes})
    nbytes: Counter[str] = Counter(inflight)
    for request in core.in_flight.requests.values():
        endpoint = _endpoint(request)
        inflight[endpoint] += 1
        nbytes[endpoint] += request.nbytes
    depth: Counter[str] = Counter()  # also of what waits for replicas of a former version
    for (stage, _), dispatcher in core.dispatchers.items():
        depth[stage] += len(dispatcher.waiting)
    present = _present(core)
    ready: Counter[str] = Counter({stage: 0 for stage, _ in present})
    for session in core.replicas.sessions.values():
        hop = core.replicas.hop_of(session)
        if hop in present and session.link is not None:
            ready[hop[0]] += 1
    return Levels(len(core.in_flight), inflight, nbytes, depth, ready)


def _endpoint(request: Request) -> str:
    route = request.route
    return route.endpoint if isinstance(route, InferenceRoute) else ""


class CountsExporter:
    """Hands the core's running totals to the metrics, each once.

    Args:
        metrics: where they are shown.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: Counter[tuple[str, tuple[str, ...]]] = Counter()

    def settle(self, core: GatewayCore) -> None:
        """Bring the metrics up to what the core has counted since the last time."""
        for key, total in _totals(core).items():
            new = total - self._told[key]
            if new:
                self._metrics.count(*key, new)
                self._told[key] = total


def _totals(core: GatewayCore) -> dict[tuple[str, tuple[str, ...]], int]:
    counts, links = core.counts, core.links
    plain = {
        "hub_hops": counts.hub_hops,
        "hedges": counts.hedges,
        "late_outcomes": core.in_flight.late,
        "protocol_errors": links.protocol_errors,
        "breaches": links.breaches,
        "link_resumes": links.resumes,
    }
    totals: dict[tuple[str, tuple[str, ...]], int] = {
        (name, ()): number for name, number in plain.items()
    }
    totals["expired", ("gateway",)] = counts.expired
    totals["cancelled", ("gateway",)] = counts.cancelled
    totals |= {("retries", (cause,)): number for cause, number in counts.retries.items()}
    totals |= {("deaths", (cause,)): number for cause, number in counts.deaths.items()}
    return totals
