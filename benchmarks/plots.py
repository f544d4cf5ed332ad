"""What pictures show, out of the records of a result. Nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.peers import OURS
from benchmarks.rows import ROWS

Record = Mapping[str, Any]
Line = list[tuple[float, float, float]]


def bars(medians: Sequence[Record]) -> tuple[list[str], dict[str, list[float]]]:
    """The rows that were measured, and per server its requests per second in each; 0 without.

    Args:
        medians: the records of a result's ``medians``.

    Example:
        >>> bars([{"row": "echo-1", "peer": "mosec", "rate": 5.0}])
        (['echo-1'], {'mosec': [5.0]})
    """
    keys = [row.key for row in ROWS if any(one["row"] == row.key for one in medians)]
    rates = {(one["row"], one["peer"]): float(one["rate"]) for one in medians}
    return keys, {peer: [rates.get((key, peer), 0.0) for key in keys] for peer in _ordered(medians)}


def lines(points: Sequence[Record]) -> dict[str, dict[str, Line]]:
    """Per service and server: offered load, p50 and p99, by load.

    Args:
        points: the records of a result's ``points``.
    """
    found: dict[str, dict[str, Line]] = {}
    for service in dict.fromkeys(one["service"] for one in points):
        for peer in _ordered(points):
            line = [
                (one["offered"], one["p50"], one["p99"])
                for one in points
                if one["service"] == service and one["peer"] == peer
            ]
            if line:
                found.setdefault(service, {})[peer] = sorted(line)
    return found


def caption(whole: Record) -> str:
    """What was measured on what, and whether others used the machine meanwhile."""
    machine = whole["machine"]
    text = f"commit {whole['commit']}, {machine['cores']} × {machine['cpu']}"
    if busy(machine["load_before"], machine["cores"]):
        text += f", which others used as well (load {machine['load_before']:.1f})"
    return text


def busy(load: float, cores: int) -> bool:
    """Whether a machine's load says that others use it."""
    return load > cores / 4


def _ordered(records: Sequence[Record]) -> list[str]:
    """The servers that records are of: Meshline first, then in the records' order."""
    peers = dict.fromkeys(str(one["peer"]) for one in records)
    return sorted(peers, key=lambda peer: peer != OURS)
