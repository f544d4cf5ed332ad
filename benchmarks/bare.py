"""What `floor.py` measures: a server and an echo that do nothing but pass bytes on.

``bare.py PORT`` answers every HTTP request at once with the same body; ``bare.py --echo ADDRESS``
sends every ZeroMQ message back. Both run until they are ended.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
import zmq

BODY = b'{"text": "the quick brown fox", "numbers": [1, 2, 3, 4]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


class Answer(asyncio.Protocol):
    """Answers whatever comes, without reading it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Know where to write."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(ANSWER)


async def serve(port: int) -> None:
    """Answer HTTP at this port."""
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", port)
    await server.serve_forever()


def echo(address: str) -> None:
    """Dial a ROUTER and send back what it sends, as a replica without any work would."""
    socket = zmq.Context().socket(zmq.DEALER)
    socket.connect(address)
    socket.send(b"")
    while True:
        socket.send_multipart(socket.recv_multipart(copy=False), copy=False)


if __name__ == "__main__":
    if sys.argv[1] == "--echo":
        echo(sys.argv[2])
    else:
        uvloop.run(serve(int(sys.argv[1])))
