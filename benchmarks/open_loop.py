"""An open-loop load: requests leave when they are due, however the server is doing.

A closed loop sends its next request when it has an answer, so that an overloaded server slows down
the very load that it is measured with. Here the arrivals are a Poisson process, drawn beforehand;
a request that is due takes an idle connection or opens another; and its latency counts from the
moment at which it was due, so that what holds up the generator is in the figures and not lost.

```
python -m benchmarks.open_loop http://127.0.0.1:8000/inference --rate 4000 --seconds 60
```

prints what came back, the latencies of results, and the generator's own CPU share and lateness:
they say whether it was the server that was measured. `--json` prints every single answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import sys
from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from benchmarks.alarm import Alarm
from benchmarks.forms import JSON, Request
from benchmarks.tally import Tally, percentile, report

_MOST = 20_000


@dataclass(frozen=True)
class Pool:
    """The connections of a load.

    Attributes:
        first: opened before the load begins.
        most: open at once at most; a request that finds none idle then waits in the generator,
            which its latency shows.
        spread: take the one that has been idle longest, not shortest, so that all are used.
    """

    first: int = 0
    most: int = _MOST
    spread: bool = False


class Connection(asyncio.Protocol):
    """One connection, with one request under way at most."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: asyncio.Transport | None = None
        self.due: float | None = None
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own are no subclass

    def send(self, due: float) -> None:
        """Send the request that was due at this time."""
        assert self.transport is not None
        self.due = due
        self.transport.write(self.load.request)

    def data_received(self, piece: bytes) -> None:
        """Some of the answer has come."""
        came = self._came + piece if self._came else piece
        head, found, body = came.partition(b"\r\n\r\n")
        if not found or len(body) < int(_header(head, b"content-length: ") or 0):
            self._came = came
            return
        self._came = b""
        due, self.due = self.due, None
        if due is not None:
            self.load.answered(self, due, head)

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self.load.lost(self)


class Load:
    """The requests of one run.

    Args:
        request: what each of them is.
        tally: what is offered, and what comes back of it.
        pool: of connections.
        watch: is entered when all connections are open that are opened first, and left when the
            last answer is there.
    """

    def __init__(
        self, request: Request, tally: Tally, pool: Pool, watch: AbstractContextManager[object]
    ) -> None:
        parts, body = urlsplit(request.url), request.body.encode()
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"Content-Length: {len(body)}", "", ""]
        self.request = "\r\n".join(lines).encode() + body
        self.tally = tally
        self._pool, self._watch = pool, watch
        self._chance = random.Random(1)
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[float] = deque()
        self._late: list[float] = []
        self._begin = 0.0
        self._pending = 0
        self._quiet = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, patience: float) -> Tally:
        """Put the load on, then wait for the last answers, `patience` seconds at most."""
        await self._open_first()
        with self._watch:
            used = _cpu()
            self._begin = monotonic()
            await self._offer()
            took = monotonic() - self._begin
            self.tally.cpu = (_cpu() - used) / took * 100
            if self._pending:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._quiet.wait(), patience)
        self.tally.unanswered = self._pending
        self.tally.lateness = percentile(sorted(self._late), 0.99)
        for connection in list(self._open):
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)
        return self.tally

    async def _open_first(self) -> None:
        for _ in range(0, self._pool.first, 100):  # a server's backlog has an end
            missing = min(100, self._pool.first - len(self._open))
            self._opening += missing
            await asyncio.gather(*(self._connect() for _ in range(missing)))

    async def _offer(self) -> None:
        """Send each request when it is due; returns when the last one was."""
        loop, alarm, over = asyncio.get_running_loop(), Alarm(), asyncio.Event()
        rate, seconds, draw = self.tally.rate, self.tally.seconds, self._chance.expovariate
        due = draw(rate)

        def ring() -> None:
            nonlocal due
            alarm.clear()
            now = monotonic() - self._begin
            while due <= now and due < seconds:
                self._send(due)
                due += draw(rate)
            if now >= seconds:
                over.set()
            else:
                alarm.set(self._begin + min(due, seconds))

        loop.add_reader(alarm.fd, ring)
        try:
            ring()
            await over.wait()
        finally:
            loop.remove_reader(alarm.fd)
            alarm.close()

    def _send(self, due: float) -> None:
        self._pending += 1
        self._quiet.clear()
        if self._idle:
            self._leave(self._idle.popleft() if self._pool.spread else self._idle.pop(), due)
            return
        self._waiting.append(due)
        some = len(self._open) + self._opening
        if self._opening < len(self._waiting) and some < self._pool.most:
            self._opening += 1
            task = asyncio.get_running_loop().create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _leave(self, connection: Connection, due: float) -> None:
        self._late.append(monotonic() - self._begin - due)
        connection.send(due)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self), self.host, self.port
            )
        except OSError:
            self.tally.broken += 1
            return
        finally:
            self._opening -= 1
        self._open.add(connection)
        self.tally.connections = max(self.tally.connections, len(self._open))
        self._next(connection)

    def _next(self, connection: Connection) -> None:
        if self._waiting:
            self._leave(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def answered(self, connection: Connection, due: float, head: bytes) -> None:
        """A connection has brought its answer, and is free for the next."""
        took = monotonic() - self._begin - due
        wait = int(_header(head, b"retry-after: ") or 0)
        self.tally.answers.append((due, took, int(head[9:12]), wait))
        self._over()
        if connection in self._open:
            self._next(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        with suppress(ValueError):
            self._idle.remove(connection)
        if connection.due is not None:
            connection.due = None
            self.tally.broken += 1
            self._over()

    def _over(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._quiet.set()


def _header(head: bytes, name: bytes) -> bytes:
    """The value of a header line, `name` in lower case and with its colon; empty without."""
    _, _, rest = head.lower().partition(b"\r\n" + name)
    return rest.partition(b"\r\n")[0]


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST + 100
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def load(
    request: Request,
    offered: tuple[float, float],
    *,
    pool: Pool = Pool(),
    patience: float = 10.0,
    watch: AbstractContextManager[object] | None = None,
) -> Tally:
    """Put an open-loop load on a server; see the module.

    Args:
        request: what is posted.
        offered: requests per second on average, and for how many seconds.
        pool: of connections.
        patience: seconds to wait for the last answers.
        watch: entered when the first connections are open, left with the last answer.
    """
    _allow_many_connections()
    gc.disable()  # a pause of the generator would look like one of the server
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            one = Load(request, Tally(*offered), pool, watch or nullcontext())
            return runner.run(one.run(patience))
    finally:
        gc.enable()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.open_loop", description="put an open-loop load on a server"
    )
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--body", default='{"x": 1}')
    parser.add_argument("--patience", type=float, default=10.0, help="seconds for the last answers")
    parser.add_argument("--first", type=int, default=0, help="connections opened beforehand")
    parser.add_argument("--most", type=int, default=_MOST, help="connections at once")
    parser.add_argument("--spread", action="store_true", help="use the connections in turn")
    parser.add_argument("--json", action="store_true", help="every answer, as JSON")
    asked: Any = parser.parse_args(arguments)
    pool = Pool(asked.first, asked.most, asked.spread)
    request = Request(asked.url, JSON, asked.body)
    tally = load(request, (asked.rate, asked.seconds), pool=pool, patience=asked.patience)
    sys.stdout.write((json.dumps(asdict(tally)) if asked.json else report(tally)) + "\n")


if __name__ == "__main__":
    main()
