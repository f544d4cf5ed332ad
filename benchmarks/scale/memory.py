"""What replicas and the gateway have in memory, also with thousands of connections."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

from benchmarks import closed_loop, processes, running
from benchmarks.findings import Bound, Finding
from benchmarks.peers import Peer
from benchmarks.rows import ECHO, SMALL
from benchmarks.running import Running
from benchmarks.scale.holder import idle

IDLE, ACTIVE = 10_000, 2000


def memory(peer: Peer, seconds: float) -> list[Finding]:
    """Resident memory of an echo replica and of the gateway, fresh, under load, with many clients.

    An echo worker has nothing of its own, so that all of its replica counts.
    """
    with running.running(peer, ECHO) as server:
        found = [
            Finding("memory", "bare Python, for comparison", _bare(), "MiB"),
            Finding("memory", "replica of echo, fresh", _rss(server, "stage"), "MiB", Bound(45)),
            Finding("memory", "gateway, fresh", _rss(server, "gateway"), "MiB", Bound(70)),
        ]
        closed_loop.load(server, 64, seconds)
        found += [
            Finding(
                "memory", "replica of echo after load", _rss(server, "stage"), "MiB", Bound(45)
            ),
            Finding(
                "memory", "  of it shared with nobody", _rss(server, "stage", "private"), "MiB"
            ),
            Finding("memory", "gateway after load", _rss(server, "gateway"), "MiB", Bound(70)),
        ]
    roomy = replace(peer, flags=(*peer.flags, "--capacity", str(2 * ACTIVE)))  # else it says 429
    with running.running(roomy, ECHO) as server, idle(server.port, SMALL, IDLE):
        time.sleep(1.0)
        held = f"gateway with {IDLE:,} idle connections"
        found.append(Finding("memory", held, _rss(server, "gateway"), "MiB", Bound(110)))
        figures = closed_loop.load(server, ACTIVE, seconds)
        both = f"{IDLE:,} idle and {ACTIVE:,} active connections"
        return [
            *found,
            Finding("memory", f"gateway with {both}", _rss(server, "gateway"), "MiB"),
            Finding("memory", f"{both}: answered", figures.rate, "req/s"),
            Finding("memory", f"{both}: failed", figures.errors, "requests", Bound(0)),
        ]


def _rss(server: Running, label: str, kind: str = "rss") -> float:
    """The most that any process of a kind has."""
    pids = [pid for pid, name in processes.marked(server.mark).items() if name == label]
    return max(processes.memory(pid)[kind] for pid in pids)


def _bare() -> float:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = processes.memory(process.pid)["rss"]
        process.communicate(b"\n")
        return found
