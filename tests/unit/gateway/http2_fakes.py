"""A client of HTTP/2 without a network: h2's client half against a connection of ours."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from http_fakes import FakeTransport

from gateway.web.http2 import Http2Connection
from gateway.web.server_state import ServerState

_GOAWAY = 7


@dataclass
class Answer:
    """What the client got on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    informed: list[str] = field(default_factory=list)
    body: bytes = b""
    pieces: int = 0
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.headers.get(":status", 0))


class Peer:
    """A client: what it sends arrives at once, what it is sent when it looks (`hear`)."""

    def __init__(self, common: ServerState, greet: bool = True, window: int = 0) -> None:
        """With `window` it takes that many bytes of each answer until it grants more."""
        self.connection = Http2Connection(common)
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)
        self.wire = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.answers: dict[int, Answer] = {}
        self.goodbye: int | None = None
        self.grants = not window
        self.sent = bytearray()
        if greet:
            if window:
                self.wire.local_settings.initial_window_size = window
                self.wire.local_settings.acknowledge()
            self.wire.initiate_connection()
            self.tell()
            self.hear()

    def tell(self, raw: bytes = b"") -> None:
        """Deliver what was said."""
        piece = self.wire.data_to_send() + raw
        self.sent += piece
        if piece:
            self.connection.data_received(piece)

    def hear(self) -> None:
        """Look at what came, and answer what HTTP/2 itself wants answered."""
        rest = self.transport.take()
        while rest:
            end = 9 + int.from_bytes(rest[:3], "big")
            frame, rest = rest[:end], rest[end:]
            if frame[3] == _GOAWAY:  # h2 would hear nothing after it
                self.goodbye = int.from_bytes(frame[13:17], "big")
                continue
            for event in self.wire.receive_data(frame):
                self._note(event)
        self.tell()

    def _note(self, event: events.Event) -> None:
        answer = self.answers.setdefault(getattr(event, "stream_id", None) or 0, Answer())
        if isinstance(event, events.ResponseReceived):
            answer.headers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, events.InformationalResponseReceived):
            answer.informed += [str(value) for name, value in event.headers if name == ":status"]
        elif isinstance(event, events.DataReceived):
            answer.body += event.data
            answer.pieces += 1
            if self.grants and event.flow_controlled_length:
                self.wire.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            answer.ended = True
        elif isinstance(event, events.StreamReset):
            answer.reset = int(event.error_code)

    def ask(
        self,
        body: bytes | None = b"",
        path: str = "/inference",
        method: str = "POST",
        lines: tuple[tuple[str, str], ...] = (),
        length: bool = True,
    ) -> int:
        """Send a request, without the end of its body if that is None; returns its stream."""
        number = self.wire.get_next_available_stream_id()
        head = [(":method", method), (":authority", "h")]
        if method != "CONNECT":
            head += [(":scheme", "http"), (":path", path)]
        if body is not None and length:
            head.append(("content-length", str(len(body))))
        self.wire.send_headers(number, [*head, *lines], end_stream=body == b"")
        if body:
            self.send(number, body, end=True)
        self.tell()
        return number

    def send(self, number: int, body: bytes, end: bool = False) -> None:
        """Go on with a body, as far as the windows go."""
        rest = memoryview(body)
        while rest:
            room = min(self.wire.local_flow_control_window(number), 16_384, len(rest))
            assert room > 0, "the window is closed"
            self.wire.send_data(number, rest[:room], end_stream=end and room == len(rest))
            rest = rest[room:]
            self.tell()
            self.hear()

    async def settle(self) -> None:
        """Let the loop turn until nothing more is sent."""
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            quiet = 0 if self.transport.written else quiet + 1
            self.hear()

    async def answer(self, number: int) -> Answer:
        """The answer on a stream, so far."""
        await self.settle()
        return self.answers.get(number, Answer())
