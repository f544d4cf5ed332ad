"""A TCP proxy that harms what passes through it."""

import asyncio
import contextlib
import random
import socket
import threading

from fleet import RESET

from benchmarks.ports import free_port

CHUNK = 65536


class Pipe:
    """One connection through the proxy: the two sockets, and the tasks that pump."""

    def __init__(self, near, far):
        self.near, self.far = near, far  # writers towards who dialled, and whom it dialled
        self.deaf = False  # half open: who dialled is not told that the other end is gone


class Proxy:
    """Passes on to one port of this host, as well as it is let.

    Args:
        port: where to.

    Attributes:
        port: where it listens.
        delay: seconds that each piece takes longer.
        rate: bytes a second in each direction, 0 for any.
        holes: directions, of `up` and `down`, in which nothing passes for now.
        fuse: bytes going up after which a connection is cut, drawn anew for each; 0 for never.
        cuts: connections that were cut.
        record: what went up, while somebody wants to know.
    """

    def __init__(self, port):
        self.port = free_port()
        self.delay, self.rate, self.fuse, self.cuts = 0.0, 0, 0, 0
        self.holes = set()
        self.record = None
        self._target = port
        self._pipes = set()
        self._chance = random.Random(port)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10.0)
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def cut(self):
        """RST of every connection, both ways."""
        self._call(self._cut_all)

    def half_open(self):
        """Cut every connection on the far side only: who dialled hears nothing of it."""
        self._call(self._cut_far)

    def _call(self, action):
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (action(), done.set()))
        assert done.wait(10.0)

    def _cut_all(self):
        for pipe in list(self._pipes):
            self._cut(pipe)

    def _cut_far(self):
        for pipe in list(self._pipes):
            pipe.deaf = True
            _reset(pipe.far)

    def _cut(self, pipe):
        self.cuts += 1
        self._pipes.discard(pipe)
        _reset(pipe.far)
        _reset(pipe.near)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self):
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self._ready.set()
        await self._end.wait()
        server.close()
        self._cut_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.05)  # until the transports are closed, too

    async def _accept(self, reader, writer):
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        pipe = Pipe(writer, far)
        self._pipes.add(pipe)
        fuse = self._chance.randrange(1, 2 * self.fuse) if self.fuse else 0
        pumps = (
            self._pump(pipe, reader, far, "up", fuse),
            self._pump(pipe, far_reader, writer, "down", 0),
        )
        with contextlib.suppress(asyncio.CancelledError):  # the end of everything
            await asyncio.gather(*pumps)
        self._pipes.discard(pipe)
        for end in (writer, far):
            _reset(end)

    async def _pump(self, pipe, reader, writer, direction, fuse):
        try:
            while piece := await reader.read(CHUNK):
                await self._let(len(piece), direction)
                if self.record is not None and direction == "up":
                    self.record += piece
                if pipe.deaf:
                    continue
                if fuse and len(piece) >= fuse:
                    writer.write(piece[:fuse])
                    await writer.drain()
                    self._cut(pipe)
                    return
                fuse -= len(piece) if fuse else 0
                writer.write(piece)
                await writer.drain()
        except (OSError, RuntimeError):
            pass
        if not pipe.deaf:
            writer.close()

    async def _let(self, size, direction):
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.rate:
            await asyncio.sleep(size / self.rate)
        while direction in self.holes:  # noqa: ASYNC110 - another thread fills them
            await asyncio.sleep(0.01)


def _reset(writer):
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
