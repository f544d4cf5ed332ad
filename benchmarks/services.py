"""The services that are measured, written once for every server that shares their vocabulary.

`BENCHMARK_VOCABULARY` names the package to import (``mesh`` or ``mosec``), `BENCHMARK_SERVICE`
one of `SERVICES`; the server's own flags follow on the command line.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

vocabulary = importlib.import_module(os.environ["BENCHMARK_VOCABULARY"])


class Echo(vocabulary.Worker):  # type: ignore[name-defined, misc]
    """Answers with what was sent: one item, or a list of them where the stage batches."""

    def forward(self, data: Any) -> Any:
        """Return the input."""
        return data


def echo_batched(server: Any) -> None:
    """One stage, batches of up to 32, for which it waits up to 5 ms."""
    server.append_worker(Echo, num=1, max_batch_size=32, max_wait_time=5)


def echo(server: Any) -> None:
    """One stage without batching."""
    server.append_worker(Echo, num=1)


SERVICES: dict[str, Callable[[Any], None]] = {"echo_batched": echo_batched, "echo": echo}

if __name__ == "__main__":
    service = vocabulary.Server()
    SERVICES[os.environ["BENCHMARK_SERVICE"]](service)
    service.run()
