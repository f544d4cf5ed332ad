"""Measure what the table does not show: `make bench-scale`.

Prints each figure beside what it should be, and writes all of them as JSON. Nothing fails by them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import closed_loop, findings, results
from benchmarks.failure import BenchmarkError
from benchmarks.findings import Finding
from benchmarks.keys import keys
from benchmarks.peers import OURS, chosen
from benchmarks.results import tell
from benchmarks.rows import ROWS
from benchmarks.scale import costs
from benchmarks.scale.arrays import arrays
from benchmarks.scale.batches import batches
from benchmarks.scale.memory import memory
from benchmarks.scale.placement import placement
from benchmarks.scale.starts import starts
from benchmarks.scale.tails import tails

NAMES = "tails batches placement replicas stages connections arrays keys starts memory".split()


def main(arguments: list[str]) -> int:
    """Measure, print, write; the exit code is 2 where something needed was missing."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--only", default=",".join(NAMES), help="default: %(default)s")
    parser.add_argument("--peer", default="mosec", help="to compare with; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="per load; default: %(default)s")
    parser.add_argument("--times", type=int, default=5, help="of each start; default: %(default)s")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args(arguments)
    try:
        closed_loop.wrk_path()
        peers = chosen(f"{OURS},{options.peer}")
        results.warn_of_company()
        facts = results.facts(peers, 1, options.seconds)
        found = measure(options.only, options.peer, options.seconds, options.times)
    except BenchmarkError as error:
        tell(str(error))
        return 2
    sys.stdout.write(f"\n{findings.text(found)}\n")
    whole = facts | {"findings": [asdict(one) for one in found]}
    sys.stdout.write(f"all figures: {results.write(options.results, 'scale', whole)}\n")
    return 0


def measure(only: str, peer: str, seconds: float, times: int = 5) -> list[Finding]:
    """Run the measurements that a comma-separated list names.

    Raises:
        BenchmarkError: there is no such measurement.
    """
    both = chosen(f"{OURS},{peer}")
    ours = both[0]
    measures: dict[str, Callable[[], list[Finding]]] = {
        "tails": lambda: tails(both, seconds),
        "batches": lambda: batches(both, seconds),
        "placement": lambda: placement(seconds),
        "replicas": lambda: costs.replicas(ours, seconds),
        "stages": lambda: costs.stages(ours, seconds),
        "connections": lambda: costs.connections(ours, seconds),
        "arrays": lambda: arrays(both, seconds),
        "keys": lambda: keys(ours, ROWS, seconds),
        "starts": lambda: starts(times),
        "memory": lambda: memory(ours, seconds),
    }
    wanted = only.split(",")
    for name in wanted:
        if name not in measures:
            raise BenchmarkError(f"there is no measurement {name!r}, only {', '.join(measures)}")
    found = []
    for name in wanted:
        tell(f"measuring {name} ...")
        with results.forgiving(name):
            found += measures[name]()
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
