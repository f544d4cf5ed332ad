"""What happens in a window of time while a load lasts: what workers count, what processes use."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks import counts

Given = TypeVar("Given")


@dataclass(frozen=True)
class Counted:
    """What workers did in a window of so many seconds."""

    seconds: float
    batches: float
    items: float
    busy: float

    @property
    def mean(self) -> float:
        """Items per batch."""
        return self.items / self.batches if self.batches else 0.0


def counted(load: Callable[[], Given], folder: Path, warm: float, seconds: float) -> Counted:
    """Put a load on, wait until it has settled, and see what workers count from then on.

    Args:
        load: lasts for `warm` and `seconds` at least.
        folder: where workers count.
        warm: seconds until the window begins.
        seconds: how long it is.
    """
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(load)
        time.sleep(warm)
        began, before = time.monotonic(), counts.total(counts.read(folder))
        time.sleep(seconds)
        ended, after = time.monotonic(), counts.total(counts.read(folder))
        under_way.result()
    return Counted(
        ended - began,
        after.batches - before.batches,
        after.items - before.items,
        after.busy - before.busy,
    )
