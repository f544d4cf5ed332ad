"""The servers that are measured, and the settings they run with."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType

from benchmarks import environments
from benchmarks.failure import BenchmarkError
from benchmarks.forms import Form

OURS = "meshline"


@dataclass(frozen=True)
class Peer:
    """A server to measure.

    Attributes:
        name: what it is called here; also its environment, where it has one.
        distribution: the package that is installed.
        script: what is run, in `benchmarks/`.
        flags: what it is told beyond its defaults; ``{port}`` is the port.
        variables: of its environment.
        requirement: what its own environment is made of; empty where it runs in ours.
        form: how its HTTP speaks.
        lacks: the services that it cannot offer, by the name before the colon, or whole.
    """

    name: str
    distribution: str
    script: str = "services.py"
    flags: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    requirement: str = ""
    form: Form = Form.PLAIN
    lacks: frozenset[str] = frozenset()

    @property
    def version(self) -> str:
        """The version that is installed; empty where it is not."""
        if self.requirement:
            return environments.version(self.name, self.distribution)
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return ""

    def command(self, port: int) -> list[str]:
        """What starts it at this port."""
        python = str(environments.python(self.name)) if self.requirement else sys.executable
        return [python, self.script, *(flag.format(port=port) for flag in self.flags)]

    def offers(self, service: str) -> bool:
        """Whether a service is within what it can do."""
        return not self.lacks & {service, service.partition(":")[0]}


_SCRIPT = ("--address", "127.0.0.1", "--port", "{port}")
PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "meshline", flags=_SCRIPT, variables={"BENCHMARK_VOCABULARY": "mesh"}),
        Peer(
            "mosec",
            "mosec",
            flags=(*_SCRIPT, "--timeout", "30000", "--capacity", "4096"),
            variables={"BENCHMARK_VOCABULARY": "mosec"},
        ),
        Peer(
            "litserve",
            "litserve",
            "others/litserve_service.py",
            ("{port}",),
            requirement="litserve>=0.2.19,<0.3",
            lacks=frozenset({"echo:2", "array", "echo_compact"}),
        ),
        Peer(
            "ray",
            "ray",
            "others/ray_service.py",
            ("{port}",),
            variables={"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"},
            requirement="ray[serve]>=2.60,<2.61",
            lacks=frozenset({"echo_compact"}),
        ),
        Peer(
            "triton",
            "nvidia-pytriton",
            "others/triton_service.py",
            ("{port}",),
            requirement="nvidia-pytriton==0.7.0",
            form=Form.KSERVE,
            lacks=frozenset({"echo_compact"}),
        ),
    )
}
ALL = ",".join(name for name in PEERS if name != OURS)


def chosen(names: str) -> list[Peer]:
    """The servers that a comma-separated list names; ``all`` stands for every peer.

    Raises:
        BenchmarkError: one is unknown or not installed, and cannot be.
    """
    found = []
    for name in ",".join(ALL if name == "all" else name for name in names.split(",")).split(","):
        if name not in PEERS:
            raise BenchmarkError(f"no server is called {name!r}; there are: {', '.join(PEERS)}")
        peer = PEERS[name]
        if peer.requirement:
            environments.make(name, peer.requirement)
        elif not peer.version:
            raise BenchmarkError(f"{name} is not installed: pip install -e '.[benchmarks]'")
        found.append(peer)
    return found


def rotated(peers: Sequence[Peer], number: int) -> list[Peer]:
    """The order of round `number`: nobody always goes first.

    Example:
        >>> rotated(["a", "b", "c"], 1)
        ['b', 'c', 'a']
    """
    start = number % len(peers)
    return [*peers[start:], *peers[:start]]
