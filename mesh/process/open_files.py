"""Estimates how many open files the processes of a service need. Pure.

The numbers were counted on running services, in ``/proc/PID/fd`` of each kind of process. Requests
and a worker's own files come on top, hence `SPARE_DESCRIPTORS`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mesh.config.settings import MeshSettings

SPARE_DESCRIPTORS = (
    12  # for short uses (starting a process, a redial, a probe), and for a few clients
)
# In each process: the streams, and a ZeroMQ context with two epolls and three wake-up descriptors.
_STREAMS, _ZEROMQ = 3, 5


def supervisor(gateways: int, dialled: int, replicas: int) -> int:
    """Return the need of a supervisor, which also dials gateways to report deaths."""
    own = 8  # a lock, the HTTP port, shared counts, its loop, wake-up pipes
    return _STREAMS + _ZEROMQ + own + 4 * gateways + 2 * dialled + 5 * replicas + SPARE_DESCRIPTORS


def gateway(peers: int, processes: int) -> int:
    """Return the need of a gateway with this many peers, among `processes` on its port."""
    own = 20  # pipes to the parent, the event loop, the HTTP port, the mesh's listener and monitor
    return _STREAMS + _ZEROMQ + own + peers + (2 if processes > 1 else 0) + SPARE_DESCRIPTORS


def replica(gateways: int, before: int = 0, after: int = 0) -> int:
    """Return the need of a replica; `before` and `after` count the neighbouring stages'
    replicas."""
    own = 6  # pipes to the parent, the batch record
    return _STREAMS + own + links(gateways, after > 0) + 2 * before + after + SPARE_DESCRIPTORS


def links(gateways: int, feeds: bool) -> int:
    """Return what a replica opens after its worker is constructed: its loop and its first links."""
    loop = 5
    return _ZEROMQ + loop + 2 * gateways + (5 if feeds else 0)


def most_named(free: int) -> int:
    """Return for how many addresses named by peers half of these free files are enough.

    Example:
        >>> most_named(4000), most_named(400), most_named(-1)
        (1000, 100, 0)
    """
    return max(0, free // 4)


def needs(
    settings: MeshSettings, names: Collection[str], with_gateway: bool = True
) -> dict[str, int]:
    """Return the need of each kind of process for these stages, with or without a gateway."""
    here = sum(settings.stages[name].replicas for name in names)
    everywhere = sum(stage.replicas for stage in settings.stages.values())
    processes = settings.gateway.processes
    dialled = processes if with_gateway else len(settings.dialled()) or processes
    found = {"the supervisor": supervisor(processes if with_gateway else 0, dialled, here)}
    if with_gateway:
        found["the gateway"] = gateway(everywhere + 1, processes)
    for name in names:
        before, after = _neighbours(settings, name)
        found[f"a replica of {name}"] = replica(dialled, before, after)
    return found


def _neighbours(settings: MeshSettings, name: str) -> tuple[int, int]:
    """Return how many replicas come directly before and after a stage, on all routes."""
    before: set[str] = set()
    after: set[str] = set()
    for path in settings.routes.values():
        for at, stage in enumerate(path):
            if stage == name:
                before.update(path[max(0, at - 1) : at])
                after.update(path[at + 1 : at + 2])
    count = {one: stage.replicas for one, stage in settings.stages.items()}
    return sum(count[one] for one in before), sum(count[one] for one in after)


def refusal(found: Mapping[str, int], allowed: int) -> str:
    """Return why this many open files are not enough; "" if they are."""
    kind = max(found, key=lambda one: found[one])
    if found[kind] <= allowed:
        return ""
    need = f"{kind} needs about {found[kind]}"
    return f"a process may have {allowed} open files, and {need}; {ADVICE}"


ADVICE = (
    "allow more: `ulimit -n 4096`, LimitNOFILE= in a systemd unit, "
    "or --ulimit nofile=4096 for a container"
)
