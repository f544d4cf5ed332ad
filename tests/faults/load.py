"""A steady load from outside, over HTTP, that knows the right answer to everything it asks."""

import asyncio
import contextlib
import itertools
import json
import threading
from dataclasses import dataclass, field
from time import monotonic

from fleet import answer

WINDOW = 0.25  # seconds of which the rate of answers is looked at


@dataclass
class Tally:
    """What became of the requests of a load.

    Attributes:
        sent: how many were.
        answers: when each right answer came, and how long it took.
        failed: what those were told that were answered otherwise, or not at all.
        wrong: right in form only.
        duplicates: bytes that came and nobody had asked for.
    """

    sent: int = 0
    answers: list = field(default_factory=list)
    failed: list = field(default_factory=list)
    wrong: list = field(default_factory=list)
    duplicates: list = field(default_factory=list)

    def slowest(self):
        return max((took for _, took in self.answers), default=0.0)

    def rate(self, begin, end):
        return sum(begin <= at < end for at, _ in self.answers) / max(end - begin, 1e-9)

    def full_after(self, fault, before):
        """Seconds from the fault until the rate was at least half of that before, for good."""
        times = [at for at, _ in self.answers]
        end, at, since = max(times, default=fault), fault, fault
        while at + WINDOW <= end:
            if self.rate(at, at + WINDOW) < before / 2:
                since = at + WINDOW
            at += WINDOW / 5
        return since - fault


class Load:
    """Connections that each ask again as soon as they were answered.

    Args:
        ports: of the gateways that they are spread over.
        connections: how many.
        extra: more members of each request's body.
        pause: seconds between an answer and the next request.

    Example:
        ```python
        with Load([fleet.port]) as load:
            load.warm()
            harm()
            load.run(2.0)
        assert not load.tally.failed
        ```
    """

    def __init__(self, ports, connections=8, extra=None, pause=0.0):
        self.tally = Tally()
        self.fault = 0.0
        self.before = 0.0
        self._ports, self._connections = ports, connections
        self._extra, self._pause = extra or {}, pause
        self._numbers = itertools.count(1)
        self._over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.stop()

    def run(self, seconds):
        threading.Event().wait(seconds)

    def warm(self, seconds=1.0):
        """Run until the service is at its pace, and remember it: the fault comes now."""
        self.run(0.5)
        begin = monotonic()
        self.run(seconds)
        self.fault = monotonic()
        self.before = self.tally.rate(begin, self.fault)
        assert self.before > 0, self.tally

    def stop(self):
        """Wait for what is under way; nothing new is asked."""
        self._over = True
        self._thread.join()

    async def _all(self):
        ports = itertools.islice(itertools.cycle(self._ports), self._connections)
        await asyncio.gather(*[self._one(port) for port in ports])

    async def _one(self, port):
        reader = writer = None
        while not self._over:
            number, began = next(self._numbers), monotonic()
            self.tally.sent += 1
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                status, text = await asyncio.wait_for(self._ask(reader, writer, number), 60.0)
            except (OSError, EOFError, TimeoutError) as error:
                self.tally.failed.append(repr(error))
                if writer is not None:
                    writer.transport.abort()
                reader = writer = None
                await asyncio.sleep(0.05)
                continue
            self._judge(number, began, status, text)
            if reader._buffer:  # nothing else tells of bytes that nobody awaits
                self.tally.duplicates.append(bytes(reader._buffer))
            await asyncio.sleep(self._pause)
        if writer is not None:
            writer.close()

    async def _ask(self, reader, writer, number):
        body = json.dumps({"n": number, **self._extra}).encode()
        head = b"POST /inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        writer.write(head + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        length = next(int(line.split(b":")[1]) for line in lines if line[:15] == b"content-length:")
        return int(lines[0].split()[1]), await reader.readexactly(length)

    def _judge(self, number, began, status, text):
        if status != 200:
            self.tally.failed.append(f"{status} {text[:200]!r}")
            return
        got = json.loads(text)
        if got["n"] != answer(number):
            self.tally.wrong.append((number, got))
            return
        now = monotonic()
        self.tally.answers.append((now, now - began))


@contextlib.contextmanager
def under_load(made, unharmed, what, **load_settings):
    """A load at its pace while a test does harm; then all is whole, and everybody was answered.

    Args:
        made: the fleet, whose first gateway is asked.
        unharmed: the judge.
        what: the fault, for the table.
        load_settings: see `Load`.
    """
    with Load([made.port], **load_settings) as load:
        load.warm()
        yield load
        made.until_whole()
        load.run(0.5)
    unharmed(what, made, load)
