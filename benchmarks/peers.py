"""The servers that are measured, and the settings they run with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from benchmarks.failure import BenchmarkError

OURS = "meshline"


@dataclass(frozen=True)
class Peer:
    """A server to measure.

    Attributes:
        name: what it is called here.
        vocabulary: the package that its services import.
        distribution: the package that is installed.
        flags: what it is told beyond its defaults.
        script: what is run with these flags, in `benchmarks/`.
    """

    name: str
    vocabulary: str
    distribution: str
    flags: tuple[str, ...] = ()
    script: str = "services.py"

    @property
    def version(self) -> str:
        """The version that is installed; empty where it is not."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return ""

    def command(self, port: int) -> list[str]:
        """What starts it at this port."""
        return [sys.executable, self.script, "--address", "127.0.0.1", "--port", str(port)]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "mesh", "meshline"),
        Peer("mosec", "mosec", "mosec", ("--timeout", "30000", "--capacity", "4096")),
    )
}


def chosen(names: str) -> list[Peer]:
    """The servers that a comma-separated list names.

    Raises:
        BenchmarkError: one is unknown or not installed.
    """
    found = []
    for name in names.split(","):
        if name not in PEERS:
            raise BenchmarkError(f"no server is called {name!r}; there are: {', '.join(PEERS)}")
        if not PEERS[name].version:
            raise BenchmarkError(f"{name} is not installed: pip install -e '.[benchmarks]'")
        found.append(PEERS[name])
    return found


def rotated(peers: Sequence[Peer], number: int) -> list[Peer]:
    """The order of round `number`: nobody always goes first.

    Example:
        >>> rotated(["a", "b", "c"], 1)
        ['b', 'c', 'a']
    """
    start = number % len(peers)
    return [*peers[start:], *peers[:start]]
