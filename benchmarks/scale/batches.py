"""How large batches become, and whether a device ever waits while there is something to do."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import closed_loop, latency, running
from benchmarks.counts import FOLDER
from benchmarks.findings import Bound, Finding
from benchmarks.peers import OURS, Peer
from benchmarks.rows import SLEEP
from benchmarks.running import Running
from benchmarks.scale.window import counted

ABLE = 800  # items per second that one sleeping worker can do
SHARES = (0.5, 0.8)
WARM = 0.5


def batches(peers: Sequence[Peer], seconds: float) -> list[Finding]:
    """Mean batch size at half, four fifths and all of the load; the device's share of work then."""
    found = []
    for peer in peers:
        with (
            tempfile.TemporaryDirectory() as folder,
            running.running(peer, SLEEP, {FOLDER: folder}) as server,
        ):
            found += _batches(server, Path(folder), seconds)
    return found


def _batches(server: Running, folder: Path, seconds: float) -> list[Finding]:
    name, whole = server.peer.name, seconds + 2 * WARM
    found = []
    for share in SHARES:
        load = partial(latency.at, server, 32, share, share * ABLE, whole)
        seen = counted(load, folder, WARM, seconds)
        found.append(
            Finding("batches", f"{name}: mean size at {share:.0%} load", seen.mean, "of 8")
        )
    full = counted(partial(closed_loop.burst, server, 32, whole), folder, WARM, seconds)
    busy = full.busy / full.seconds
    bound = Bound(0.97, at_most=False) if name == OURS else None
    return [
        *found,
        Finding("batches", f"{name}: mean size at 100 % load", full.mean, "of 8"),
        Finding("batches", f"{name}: device's share of work at 100 % load", busy, "", bound),
    ]
