"""A gateway's HTTP server without a mesh behind it, for clients of every kind to meet."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import uvloop
from fake_view import View
from tornado.web import Application

from gateway.admin.pages import make_app
from gateway.web import responses as answers
from gateway.web.exchange import Exchange, Limits
from gateway.web.http_server import HttpServer

MAX_BODY = 1_000_000


class Way:
    endpoint = "/echo"
    wants_meta = False

    def hold(self, nbytes: int) -> None:
        """Nobody is charged."""


class Echo:
    """Answers with the body, a loop turn later."""

    def __init__(self) -> None:
        self.routes = {b"/inference": Way()}

    def admit(self, exchange: Exchange, nbytes: int) -> bytes | None:
        return None

    def submit(self, exchange: Exchange) -> None:
        name = exchange.request_id or b"ours"
        if exchange.fault is not None:
            exchange.respond(answers.failure(*exchange.fault, None, name))
            return
        answer = answers.result(name, b"text/plain", b"echo;dur=1", exchange.body)
        asyncio.get_running_loop().call_soon(exchange.respond, answer)

    def gone(self, exchange: Exchange) -> None:
        """Nothing is kept that would have to be forgotten."""


@dataclass
class Running:
    """A server in a thread of its own."""

    port: int
    scratch: Path

    def curl(self, path: str, *options: str) -> list[tuple[int, dict[str, str], bytes]]:
        """Every answer that curl received: status, headers (names in lower case), body."""
        url = f"http://127.0.0.1:{self.port}{path}"
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--include", "--max-time", "20", *options, url],
            capture_output=True,
            check=True,
        )
        found = []
        rest = done.stdout
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            length = int(headers.get("content-length", 0))
            if "--head" in options or (" 100 " in status):
                length = 0
            found.append((int(status.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found

    def file(self, size: int) -> str:
        """A file of that many bytes, as curl's --data-binary takes it."""
        path = self.scratch / f"body-{size}"
        path.write_bytes(b"x" * size)
        return f"@{path}"


async def _serve(application: Application, started: Future[int], stop: asyncio.Event) -> None:
    server = HttpServer(Echo(), application, Limits(max_body=MAX_BODY))
    started.set_result((await server.start("127.0.0.1", 0))[1])
    await stop.wait()
    await server.drain(1.0)


@contextmanager
def serving(scratch: Path, application: Application | None = None) -> Iterator[Running]:
    """A server that runs meanwhile, and is drained in the end."""
    pages = application or make_app(View())
    started: Future[int] = Future()
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()
    thread = Thread(target=loop.run_until_complete, args=(_serve(pages, started, stop),))
    thread.start()
    yield Running(started.result(10), scratch)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)
    loop.close()
