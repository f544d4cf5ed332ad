"""Connections that others hold meanwhile: busy ones, and ones that do nothing."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.closed_loop import posting, wrk_path
from benchmarks.failure import BenchmarkError
from benchmarks.forms import Request
from benchmarks.running import HERE

ROOT = HERE.parent
AT_ONCE = 100  # opening together; a server's backlog has an end


@contextmanager
def busy(request: Request, connections: int) -> Iterator[None]:
    """So many connections send one request after the other, for a minute at most."""
    command = [wrk_path(), "-t1", f"-c{connections}", "-d60s", "-s", str(HERE / "post.lua")]
    process = subprocess.Popen(
        [*command, request.url],
        env=os.environ | posting(request),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def idle(port: int, body: str, connections: int) -> Iterator[None]:
    """So many connections are open, each after one request, held by a process of their own.

    Raises:
        BenchmarkError: not all could be opened.
    """
    command = [sys.executable, "-m", "benchmarks.scale.holder", str(port), body, str(connections)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"all open":
            raise BenchmarkError(f"{connections} connections could not be opened")
        yield
        process.communicate()  # which ends its input, and with it the process


async def _hold(port: int, body: bytes, connections: int) -> None:
    head = b"POST /inference HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    async def one() -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(answer.decode(errors="replace"))
        return writer

    held: list[asyncio.StreamWriter] = []
    while len(held) < connections:
        some = min(AT_ONCE, connections - len(held))
        held += await asyncio.gather(*(one() for _ in range(some)))
    sys.stdout.write("all open\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for writer in held:
        writer.transport.abort()


def main() -> None:
    """Hold connections until the input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _, port, body, connections = sys.argv
    asyncio.run(_hold(int(port), body.encode(), int(connections)))


if __name__ == "__main__":
    main()
