"""Large arrays between two stages on one host: how fast, and how often copied."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import closed_loop, counts, running
from benchmarks.findings import Finding
from benchmarks.peers import Peer
from benchmarks.rows import Service
from benchmarks.running import answers

SIZES = ((1, 8), (10, 4), (50, 2))  # megabytes, and connections
FLOATS = 1 << 18  # of a megabyte
HALF = "0.5"  # what the arrays are full of


def arrays(peers: Sequence[Peer], seconds: float) -> list[Finding]:
    """GB/s from stage to stage, and the arrays that Python had at once to send and receive one."""
    found = []
    for megabytes, connections in SIZES:
        for peer in peers:
            found.append(_speed(peer, megabytes, connections, seconds))
        for peer in peers:
            found += _copies(peer, megabytes)
    return found


def _service(name: str, megabytes: int) -> Service:
    return Service(f"{name}:{megabytes}", HALF, str(float(HALF) * megabytes * FLOATS))


def _speed(peer: Peer, megabytes: int, connections: int, seconds: float) -> Finding:
    with running.running(peer, _service("array", megabytes)) as server:
        figures = closed_loop.load(server, connections, seconds)
    failed = f"; {figures.errors} FAILED" if figures.errors else ""
    return Finding(
        "arrays",
        f"{peer.name}: {megabytes} MB, {connections} connections",
        figures.rate * megabytes * (1 << 20) / 1e9,
        f"GB/s, {figures.rate:,.1f} req/s{failed}",
    )


def _copies(peer: Peer, megabytes: int) -> list[Finding]:
    """What Python took at once, in arrays, while one request at a time went through.

    A sender that copies nothing takes none; a receiver at least the one that it hands over.
    """
    service = _service("array_counted", megabytes)
    with (
        tempfile.TemporaryDirectory() as folder,
        running.running(peer, service, {counts.FOLDER: folder}) as server,
    ):
        for _ in range(3):
            answers(server)
        sender, receiver = counts.read(Path(folder)).values()
    size = megabytes << 20
    what = f"{peer.name}: {megabytes} MB, arrays in Python's memory at once"
    return [
        Finding("arrays", f"{what} to send one", round(sender.taken / size, 2), ""),
        Finding("arrays", f"{what} to receive one", round(receiver.taken / size, 2), ""),
    ]
