"""Measure Meshline beside other servers, in one run on one machine: `make bench`.

Each round starts every server once for every service, in an order that changes from round to
round, and ends it completely before the next begins. What is printed are medians over the rounds
and the ratio of Meshline to each peer, next to what is to be reached. Then an open loop shows how
latency grows with the load, what keys cost is measured, and what a lone request cannot go below on
this machine. All figures go, with commit and machine, into a JSON file in
`benchmarks/measured/`, and pictures of them beside it. Nothing here fails by a time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

from benchmarks import closed_loop, findings, latency, pictures, results, running, tables
from benchmarks.failure import BenchmarkError
from benchmarks.findings import Finding
from benchmarks.floor import floor
from benchmarks.keys import keys
from benchmarks.latency import Point
from benchmarks.peers import OURS, Peer, chosen, rotated
from benchmarks.results import tell
from benchmarks.rows import BATCHED, ECHO, ROWS, SLEEP, Row, Service, selected, services
from benchmarks.tables import Measurement

CURVES = ((BATCHED, 64), (ECHO, 64), (SLEEP, 32))  # and how many connections are open at first


def measure(
    peers: Sequence[Peer], rows: Sequence[Row], rounds: int, seconds: float
) -> list[Measurement]:
    """Run all rounds. Every server that is started is gone before the next one starts.

    Raises:
        BenchmarkError: Meshline or mosec failed; of the others it is only told.
    """
    found: list[Measurement] = []
    for number in range(rounds):
        for service in services(rows):
            for peer in rotated(peers, number):
                with _forgiving(peer):
                    if peer.offers(service.name):
                        found += _serve(peer, service, rows, number, seconds)
    return found


def _forgiving(peer: Peer) -> AbstractContextManager[None]:
    """A peer with an environment of its own may fail, and does not end the run."""
    return results.forgiving(peer.name) if peer.requirement else nullcontext()


def _serve(
    peer: Peer, service: Service, rows: Sequence[Row], number: int, seconds: float
) -> list[Measurement]:
    found = []
    with running.running(peer, service) as server:
        for row in rows:
            if row.service == service:
                figures = closed_loop.load(server, row.connections, seconds)
                found.append(Measurement(row.key, peer.name, number, figures))
                tell(
                    f"round {number + 1}: {row.key:11} {peer.name:9} {figures.rate:9,.0f} req/s"
                    f"   p50 {figures.p50 / 1000:8.3f} ms"
                )
    return found


def curves(
    peers: Sequence[Peer], rows: Sequence[Row], shares: Sequence[float], seconds: float
) -> list[Point]:
    """Latency over offered load of each server, for those services that these rows measure."""
    found = []
    for service, connections in CURVES:
        if service in services(rows):
            for peer in peers:
                with _forgiving(peer), running.running(peer, service) as server:
                    found += latency.curve(server, connections, shares, seconds)
    return found


def asides(peers: Sequence[Peer], rows: Sequence[Row], seconds: float) -> list[Finding]:
    """What helps to read the rows: Meshline with keys, and the floor under lone requests."""
    found = []
    ours = [peer for peer in peers if peer.name == OURS]
    if ours:
        found += keys(ours[0], rows, seconds)
    if any(row.connections == 1 for row in rows):
        found += floor(seconds)
    return found


def main(arguments: list[str]) -> int:
    """Measure, print, write; the exit code is 2 where something needed was missing."""
    parser = argparse.ArgumentParser(prog="compare", description=__doc__)
    parser.add_argument("--servers", default="meshline,mosec", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=3.0, help="per row; default: %(default)s")
    keys = ", ".join(row.key for row in ROWS)
    parser.add_argument("--rows", default="", help=f"of these: {keys}; default: all")
    parser.add_argument(
        "--shares",
        default="0.2,0.4,0.6,0.8,0.9",
        help="of the highest rate, at which latency is measured; empty for none: %(default)s",
    )
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(arguments)
    try:
        closed_loop.wrk_path()
        peers, rows = chosen(options.servers), selected(options.rows)
        results.warn_of_company()
        facts = results.facts(peers, options.rounds, options.seconds)
        measurements = measure(peers, rows, options.rounds, options.seconds)
        shares = [float(share) for share in options.shares.split(",") if share]
        points = curves(peers, rows, shares, options.seconds) if shares else []
        beside = asides(peers, rows, options.seconds)
    except BenchmarkError as error:
        tell(str(error))
        return 2
    found = tables.medians(measurements)
    sys.stdout.write(f"\n{tables.table(rows, found)}\n{findings.lines(beside)}\n")
    sys.stdout.write(f"{tables.summary(rows, found)}\n")
    whole = facts | {
        "medians": [asdict(one) for one in found],
        "points": [asdict(one) for one in points],
        "findings": [asdict(one) for one in beside],
        "measurements": [asdict(one) for one in measurements],
    }
    path = results.write(options.results, "compare", whole)
    drawn = pictures.draw(whole, path.with_suffix(""))
    sys.stdout.write("all figures: " + "\n".join(map(str, [path, *drawn])) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
