"""The services of the benchmarks for Ray Serve.

`BENCHMARK_SERVICE` names one; the port follows on the command line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

NAME, _, _NUMBER = os.environ["BENCHMARK_SERVICE"].partition(":")
NUMBER = int(_NUMBER or 1)
FLOATS_PER_MEGABYTE = 1 << 18
SMALL = {"num_cpus": 0.01}  # of what Ray reserves, so that 16 replicas fit beside the rest
AT_ONCE = 1024


async def _read(request: Request) -> Any:
    return json.loads(await request.body())


def _answer(value: Any) -> Response:
    return Response(json.dumps(value), media_type="application/json")


@serve.deployment(max_ongoing_requests=AT_ONCE, ray_actor_options=SMALL)
class Echo:
    """Answers with what was sent."""

    async def __call__(self, request: Request) -> Response:
        """One request."""
        return _answer(await _read(request))


@serve.deployment(max_ongoing_requests=AT_ONCE, ray_actor_options=SMALL)
class EchoBatched:
    """The same, 32 at a time."""

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def forward(self, items: list[Any]) -> list[Any]:
        """Return the input."""
        return items

    async def __call__(self, request: Request) -> Response:
        """One request."""
        return _answer(await self.forward(await _read(request)))


@serve.deployment(max_ongoing_requests=AT_ONCE, ray_actor_options=SMALL)
class Sleep:
    """A device that takes 10 ms for a batch of up to 8, one batch after the other."""

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def forward(self, items: list[Any]) -> list[Any]:
        """Sleep, and return the input."""
        await asyncio.sleep(0.010)
        return items

    async def __call__(self, request: Request) -> Response:
        """One request."""
        return _answer(await self.forward(await _read(request)))


@serve.deployment(max_ongoing_requests=AT_ONCE, ray_actor_options=SMALL)
class Second:
    """The last of two stages: returns what it is given, or its sum."""

    async def forward(self, data: Any) -> Any:
        """One item."""
        return float(data.sum(dtype="float64")) if NAME == "array" else data


@serve.deployment(max_ongoing_requests=AT_ONCE, ray_actor_options=SMALL)
class First:
    """The first of two stages: passes on what it is given, or an array full of it."""

    def __init__(self, second: Any) -> None:
        self.second = second

    async def __call__(self, request: Request) -> Response:
        """One request."""
        data = await _read(request)
        if NAME == "array":
            import numpy

            data = numpy.full(NUMBER * FLOATS_PER_MEGABYTE, data, numpy.float32)
        return _answer(await self.second.forward.remote(data))


def application() -> Any:
    """The deployments of the service that is asked for."""
    one: dict[str, Any] = {"echo": Echo, "echo_batched": EchoBatched, "sleep": Sleep}
    first: Any = First
    second: Any = Second
    if NAME == "sleep":
        return one[NAME].options(num_replicas=NUMBER).bind()
    if NAME == "array" or NUMBER == 2:
        return first.bind(second.bind())
    return one[NAME].bind()


if __name__ == "__main__":
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 << 20,
        _temp_dir=tempfile.mkdtemp(),
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "request_timeout_s": 30},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    serve.run(
        application(),
        route_prefix="/inference",
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    threading.Event().wait()
