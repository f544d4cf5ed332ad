"""What is measured: the services with their requests, and the lines of the table with their goals.

Nothing here starts or measures anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.failure import BenchmarkError


class Against(Enum):
    """What a goal compares."""

    RATE = "requests/s, as a multiple of the peer's"
    P50 = "median latency, as a multiple of the peer's"
    IDEAL = "requests/s, as a share of the ideal"


@dataclass(frozen=True)
class Goal:
    """What is to be reached: at least so much of a rate, at most so much of a latency."""

    against: Against
    bound: float

    def met(self, figure: float) -> bool:
        """Whether `figure`, a ratio of the goal's kind, is good enough.

        Example:
            >>> Goal(Against.P50, 1.15).met(1.2)
            False
        """
        return figure <= self.bound if self.against is Against.P50 else figure >= self.bound


@dataclass(frozen=True)
class Service:
    """A service of `services.py`: the JSON that is posted to it, and the JSON that it answers."""

    name: str
    body: str
    answer: str


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        key: names it on the command line and in the results.
        name: says what it is.
        service: what is served.
        connections: how many load it at once.
        goal: what is to be reached beside the first peer; none where a row only explains another.
        ideal: requests per second that a server without any cost would reach; 0 if unknown.
    """

    key: str
    name: str
    service: Service
    connections: int
    goal: Goal | None = None
    ideal: float = 0.0


SMALL = '{"text": "the quick brown fox", "numbers": [1, 2, 3, 4]}'
TEN_KB = json.dumps({"text": "x" * (10_000 - len('{"text": ""}'))})

BATCHED = Service("echo_batched", SMALL, SMALL)
COMPACT = Service("echo_compact", SMALL, SMALL)
ECHO = Service("echo", SMALL, SMALL)
TWO_STAGES = Service("echo:2", TEN_KB, TEN_KB)
ARRAY = Service("array:1", "0.5", "131072.0")
SLEEP = Service("sleep:1", SMALL, SMALL)
SLEEP_16 = Service("sleep:16", SMALL, SMALL)

RATE, P50, IDEAL = Against.RATE, Against.P50, Against.IDEAL
ROWS = (
    Row(
        "batched-64",
        "echo, batches of 32 within 5 ms, 64 connections",
        BATCHED,
        64,
        Goal(RATE, 1.5),
    ),
    Row("batched-16", "the same, 16 connections", BATCHED, 16, Goal(RATE, 12)),
    Row("batched-1", "the same, 1 connection", BATCHED, 1, Goal(P50, 1 / 30)),
    Row("compact-64", "the same with compact JSON from both, 64 connections", COMPACT, 64),
    Row("echo-64", "echo, no batching, 64 connections", ECHO, 64, Goal(RATE, 4)),
    Row("echo-1", "the same, 1 connection", ECHO, 1, Goal(P50, 1.15)),
    Row(
        "stages-64",
        "two stages, 10 KB echo, no batching, 64 connections",
        TWO_STAGES,
        64,
        Goal(RATE, 2),
    ),
    Row("stages-1", "the same, 1 connection", TWO_STAGES, 1, Goal(P50, 1.3)),
    Row(
        "array-8",
        "two stages, 1 MB float32 array made and summed, 8 connections",
        ARRAY,
        8,
        Goal(RATE, 4),
    ),
    Row(
        "sleep-32",
        "sleep 10 ms per batch of 8, 1 replica, 32 connections",
        SLEEP,
        32,
        Goal(IDEAL, 0.97),
        800,
    ),
    Row(
        "sleep-512",
        "the same, 16 replicas, 512 connections",
        SLEEP_16,
        512,
        Goal(IDEAL, 0.93),
        12_800,
    ),
)


def selected(keys: str) -> tuple[Row, ...]:
    """The rows that a comma-separated list names, in the table's order; all for an empty one.

    Raises:
        BenchmarkError: there is no such row.
    """
    wanted = [key for key in keys.split(",") if key]
    known = [row.key for row in ROWS]
    for key in wanted:
        if key not in known:
            raise BenchmarkError(f"no row is called {key!r}; there are: {', '.join(known)}")
    return tuple(row for row in ROWS if not wanted or row.key in wanted)


def services(rows: Sequence[Row]) -> list[Service]:
    """The services of these rows, each once."""
    return list(dict.fromkeys(row.service for row in rows))
