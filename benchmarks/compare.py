"""Measure Meshline beside other servers, in one run on one machine: `make bench`.

Each round starts every server once for every service, in an order that changes from round to
round, and ends it completely before the next begins. What is printed are medians over the rounds
and the ratio of Meshline to each peer. All figures go, with commit and machine, into a JSON file
in `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median

from benchmarks import running
from benchmarks.running import BenchmarkError, Figures, Peer

OURS = "meshline"
PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "mesh", "meshline"),
        Peer("mosec", "mosec", "mosec", ("--timeout", "30000", "--capacity", "4096")),
    )
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a service and how many connections load it at once."""

    name: str
    service: str
    connections: int


ROWS = (
    Row("echo, batches of 32 within 5 ms, 64 connections", "echo_batched", 64),
    Row("echo, batches of 32 within 5 ms, 16 connections", "echo_batched", 16),
    Row("echo, batches of 32 within 5 ms, 1 connection", "echo_batched", 1),
    Row("echo, no batching, 64 connections", "echo", 64),
    Row("echo, no batching, 1 connection", "echo", 1),
)


@dataclass(frozen=True)
class Measurement:
    """What one server did in one row of one round."""

    row: str
    peer: str
    round: int
    figures: Figures


@dataclass(frozen=True)
class Median:
    """What one server did in one row: the medians over all rounds, and the sum of the failures."""

    row: str
    peer: str
    rate: float
    p50: float
    p99: float
    errors: int
    cpu: dict[str, float]


def measure(peers: list[Peer], rounds: int, seconds: float) -> list[Measurement]:
    """Run all rounds. Every server that is started is gone before the next one starts."""
    found = []
    for number in range(rounds):
        for service in dict.fromkeys(row.service for row in ROWS):
            for peer in rotated(peers, number):
                found += _serve(peer, service, number, seconds)
    return found


def rotated(peers: list[Peer], number: int) -> list[Peer]:
    """The order of round `number`: nobody always goes first.

    Example:
        >>> rotated(["a", "b", "c"], 1)
        ['b', 'c', 'a']
    """
    start = number % len(peers)
    return peers[start:] + peers[:start]


def _serve(peer: Peer, service: str, number: int, seconds: float) -> list[Measurement]:
    found = []
    with running.running(peer, service) as server:
        for row in ROWS:
            if row.service == service:
                figures = running.load(server, row.connections, seconds)
                found.append(Measurement(row.name, peer.name, number, figures))
                _tell(f"round {number + 1}: {peer.name}: {row.name}: {figures.rate:,.0f} req/s")
    return found


def medians(measurements: Iterable[Measurement]) -> list[Median]:
    """One `Median` for each row and server, in the order of their first measurement."""
    groups: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for one in measurements:
        groups[one.row, one.peer].append(one.figures)
    return [_median(row, peer, group) for (row, peer), group in groups.items()]


def _median(row: str, peer: str, group: list[Figures]) -> Median:
    labels = sorted({label for figures in group for label in figures.cpu})
    return Median(
        row,
        peer,
        rate=median(figures.rate for figures in group),
        p50=median(figures.p50 for figures in group),
        p99=median(figures.p99 for figures in group),
        errors=sum(figures.errors for figures in group),
        cpu={label: median(each.cpu.get(label, 0.0) for each in group) for label in labels},
    )


def table(found: list[Median]) -> str:
    """The medians as text: per row each server's figures, and Meshline's ratio to each peer."""
    ours = {one.row: one for one in found if one.peer == OURS}
    lines = []
    for row in dict.fromkeys(one.row for one in found):
        lines.append(row)
        for one in found:
            if one.row == row:
                lines.append(_line(one, ours.get(row)))
        lines.append("")
    return "\n".join(lines)


def _line(one: Median, ours: Median | None) -> str:
    cpu = ", ".join(f"{label} {share:.0f} %" for label, share in one.cpu.items())
    text = f"  {one.peer:9} {one.rate:9,.0f} req/s   p50 {one.p50 / 1000:7.3f} ms   CPU: {cpu}"
    if one.errors:
        text += f"   {one.errors} FAILED"
    if ours and ours is not one and one.rate and one.p50:
        text += (
            f"\n  {'':9} {ours.rate / one.rate:9.2f} times   p50 {ours.p50 / one.p50:7.3f} times"
        )
        text += f"   meshline to {one.peer}"
    return text


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def commit() -> str:
    """The commit that is measured, with ``+`` where the tree differs from it."""
    name = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return name + ("+" if changed else "")


def _git(*arguments: str) -> str:
    run = subprocess.run(["git", *arguments], cwd=running.HERE, capture_output=True, text=True)
    return run.stdout.strip()


def chosen(names: str) -> list[Peer]:
    """The servers that a comma-separated list names.

    Raises:
        BenchmarkError: one is unknown or not installed.
    """
    found = []
    for name in names.split(","):
        if name not in PEERS:
            raise BenchmarkError(f"no server is called {name!r}; there are: {', '.join(PEERS)}")
        try:
            metadata.version(PEERS[name].distribution)
        except metadata.PackageNotFoundError:
            raise BenchmarkError(
                f"{name} is not installed: pip install -e '.[benchmarks]'"
            ) from None
        found.append(PEERS[name])
    return found


def main(arguments: list[str]) -> int:
    """Measure, print, write; the exit code is 2 where something needed was missing."""
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    parser.add_argument("--servers", default="meshline,mosec", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="per row; default: %(default)s")
    parser.add_argument("--results", type=Path, default=running.HERE / "results")
    options = parser.parse_args(arguments)
    try:
        running.wrk_path()
        peers = chosen(options.servers)
        _warn_of_company()
        facts = _facts(peers, options)
        measurements = measure(peers, options.rounds, options.seconds)
    except BenchmarkError as error:
        _tell(str(error))
        return 2
    found = medians(measurements)
    sys.stdout.write("\n" + table(found))
    path = _write(options.results, facts, measurements, found)
    sys.stdout.write(f"all figures: {path}\n")
    return 0


def _warn_of_company() -> None:
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cores / 4:
        _tell(f"others use this machine (load {load:.1f} on {cores} cores): trust no figure of it")


def _facts(peers: list[Peer], options: argparse.Namespace) -> dict[str, object]:
    return {
        "commit": commit(),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "servers": {
            peer.name: {"version": metadata.version(peer.distribution), "flags": peer.flags}
            for peer in peers
        },
    }


def _write(
    folder: Path, facts: dict[str, object], measurements: list[Measurement], found: list[Median]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{facts['commit']}.json"
    whole = facts | {
        "medians": [asdict(one) for one in found],
        "measurements": [asdict(one) for one in measurements],
    }
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
