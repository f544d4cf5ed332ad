"""The loop of a replica over a network that is not there."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stage.batching.batcher import Batch
from stage.loop import STOP_SIGNALS, Loop
from stage.runner import Runner

FORWARDS = 500  # of a millisecond each, at most: many times what it may be until it looks


class Quiet:
    """A network on which nothing is ever pending or due; remembers which descriptors it is told."""

    def __init__(self) -> None:
        self.told: set[int] = set()

    def receive(self, ready: Iterable[int] = ()) -> list[Any]:
        self.told.update(ready)
        return []

    def is_pending(self) -> bool:
        return False

    def next_due(self) -> float:
        return float("inf")


class Restless:
    """A replica that always has a batch, until somebody is heard or it has had enough."""

    def __init__(self, network: Quiet, voice: int) -> None:
        self.network = network
        self.voice = voice
        self.left = FORWARDS
        self.running: Batch | None = None
        self.batcher = SimpleNamespace(predict=lambda size: 0.001, line=SimpleNamespace(count=1))
        self.links = SimpleNamespace(
            touched={},
            due=float("inf"),
            news=deque(),
            out=[],
            sessions={},
        )

    @property
    def draining(self) -> bool:
        return bool(self.network.told) or not self.left

    def is_done(self) -> bool:
        return True

    def next_batch(self, now: float) -> Batch:
        self.left -= 1
        if self.left == FORWARDS - 100:  # the second thread, awake at first, has no more to do
            os.write(self.voice, b"x")
        self.running = Batch([], "size", 0.0, single=False)
        return self.running

    def advance(self, now: float) -> None:
        pass

    def next_due(self) -> float:
        return float("inf")

    def is_pressed(self) -> bool:
        return False

    def finished(self, results: object, seconds: float) -> None:
        pass

    def part(self, now: float) -> None:
        pass


@pytest.fixture
def loop() -> Iterator[Loop]:
    numbers = (*STOP_SIGNALS, signal.SIGUSR1)
    former = {number: signal.getsignal(number) for number in numbers}
    nap = SimpleNamespace(
        run=lambda tasks: [Event().wait(0.001)][1:],  # nothing comes of it
        todo=(),
        clear=lambda: None,
        tasks=(),
    )
    made = Loop(cast(Runner, nap), logging.getLogger("stage"), 10.0, 1.0)
    yield made
    made.close()
    for number, handler in former.items():
        signal.signal(number, handler)


def test_one_that_never_rests_looks_at_all_its_descriptors(loop: Loop) -> None:
    speaking, voice = os.pipe()
    loop.watch(speaking)
    network = Quiet()
    replica = Restless(network, voice)
    loop.run(cast(Any, replica), cast(Any, network), 1.0)
    assert network.told == {speaking}
    assert replica.left > 0
    os.close(voice)
    os.close(speaking)
