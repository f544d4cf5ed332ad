"""The services that are measured, written once for every server that shares their vocabulary.

`BENCHMARK_VOCABULARY` names the package to import (``mesh`` or ``mosec``), `BENCHMARK_SERVICE`
one of `SERVICES` and, after a colon, its number: of stages, of replicas, of megabytes. The
server's own flags follow on the command line.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Callable
from typing import Any

NAME, _, _NUMBER = os.environ["BENCHMARK_SERVICE"].partition(":")
NUMBER = int(_NUMBER or 1)
FLOATS_PER_MEGABYTE = 1 << 18  # of four bytes

counts: Any = importlib.import_module("counts")  # beside this file, which is run as a script
vocabulary: Any = importlib.import_module(os.environ["BENCHMARK_VOCABULARY"])


class Echo(vocabulary.Worker):  # type: ignore[misc]
    """Answers with what was sent: one item, or a list of them where the stage batches."""

    def forward(self, data: Any) -> Any:
        """Return the input."""
        return data


class Compact(Echo):
    """The same; its answer is JSON without white space, whatever the server's own habit."""

    def serialize(self, data: Any) -> bytes:
        """Turn a result into the body of an answer."""
        return json.dumps(data, separators=(",", ":")).encode()


class Sleep(vocabulary.Worker):  # type: ignore[misc]
    """A device that takes so long for a batch, however large, and nothing of the processor."""

    seconds = 0.010

    def __init__(self) -> None:
        self.counts = counts.Counts()
        self.counts.constructed()

    def forward(self, data: Any) -> Any:
        """Sleep, and return the input."""
        begin = time.monotonic()
        time.sleep(self.seconds)
        self.counts.batch(len(data), begin, time.monotonic())
        return data


class Share(Sleep):
    """The same; all replicas together do as much as one alone would: 3,200 items a second."""

    seconds = NUMBER * 8 / 3200


class Make(vocabulary.Worker):  # type: ignore[misc]
    """Makes an array of float32 out of a number; `NUMBER` megabytes of it."""

    def __init__(self) -> None:
        self.numpy = importlib.import_module("numpy")

    def forward(self, data: float) -> Any:
        """Return a new array that holds nothing but this number."""
        return self.numpy.full(NUMBER * FLOATS_PER_MEGABYTE, data, self.numpy.float32)


class Sum(vocabulary.Worker):  # type: ignore[misc]
    """Adds up an array."""

    def forward(self, data: Any) -> float:
        """Return the sum."""
        return float(data.sum(dtype="float64"))


class MakeCounted(Make):
    """The same; counts how much memory is taken between two of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = counts.Counts()
        self.counts.trace()

    def forward(self, data: float) -> Any:
        """Return a new array; what is taken from now on, is taken to send it."""
        self.counts.peak()
        made = super().forward(data)
        self.counts.trace()
        return made


class SumCounted(Sum):
    """The same; counts how much memory its array took to arrive."""

    def __init__(self) -> None:
        importlib.import_module("numpy")  # else unpickling does, and its memory would count
        self.counts = counts.Counts()
        self.counts.trace()

    def forward(self, data: Any) -> float:
        """Return the sum."""
        self.counts.peak()
        return super().forward(data)


def echo_batched(server: Any) -> None:
    """One stage, batches of up to 32, for which it waits up to 5 ms."""
    server.append_worker(Echo, num=1, max_batch_size=32, max_wait_time=5)


def echo_compact(server: Any) -> None:
    """The same with compact JSON."""
    server.append_worker(Compact, num=1, max_batch_size=32, max_wait_time=5)


def echo(server: Any) -> None:
    """`NUMBER` stages without batching."""
    for _ in range(NUMBER):
        server.append_worker(Echo, num=1)


def array(server: Any) -> None:
    """Two stages: the first makes an array, the second adds it up."""
    server.append_worker(Make, num=1)
    server.append_worker(Sum, num=1)


def array_counted(server: Any) -> None:
    """The same, counting copies."""
    server.append_worker(MakeCounted, num=1)
    server.append_worker(SumCounted, num=1)


def sleep(server: Any) -> None:
    """`NUMBER` replicas of one stage, batches of up to 8, for which it waits up to 5 ms."""
    server.append_worker(Sleep, num=NUMBER, max_batch_size=8, max_wait_time=5)


def share(server: Any) -> None:
    """The same; more replicas do no more, each is slower."""
    server.append_worker(Share, num=NUMBER, max_batch_size=8, max_wait_time=5)


SERVICES: dict[str, Callable[[Any], None]] = {
    each.__name__: each
    for each in (echo_batched, echo_compact, echo, array, array_counted, sleep, share)
}

if __name__ == "__main__":
    service = vocabulary.Server()
    SERVICES[NAME](service)
    service.run()
