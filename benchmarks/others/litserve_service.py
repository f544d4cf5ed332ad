"""The services of the benchmarks for LitServe, which has no pipelines of processes.

`BENCHMARK_SERVICE` names one; the port follows on the command line.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import litserve

NAME, _, _NUMBER = os.environ["BENCHMARK_SERVICE"].partition(":")
NUMBER = int(_NUMBER or 1)


class Echo(litserve.LitAPI):  # type: ignore[misc]
    """Answers with what was sent: one item, or a list of them where it batches."""

    def setup(self, device: Any) -> None:
        """Nothing to prepare."""

    def predict(self, data: Any) -> Any:
        """Return the input."""
        return data

    def unbatch(self, output: Any) -> Any:
        """The items of a batch."""
        return output


class Sleep(Echo):
    """A device that takes 10 ms for a batch, however large."""

    def predict(self, data: Any) -> Any:
        """Sleep, and return the input."""
        time.sleep(0.010)
        return data


APIS = {
    "echo": lambda: Echo(api_path="/inference"),
    "echo_batched": lambda: Echo(max_batch_size=32, batch_timeout=0.005, api_path="/inference"),
    "sleep": lambda: Sleep(max_batch_size=8, batch_timeout=0.005, api_path="/inference"),
}

if __name__ == "__main__":
    server = litserve.LitServer(
        APIS[NAME](),
        accelerator="cpu",
        workers_per_device=NUMBER if NAME == "sleep" else 1,
        timeout=30,
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning"
    )
