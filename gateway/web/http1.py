"""An HTTP/1.1 connection: it owns a reader of requests and a queue of answers.

```
transport ─► RequestReader ─► HttpRequest ─► ResponseQueue ─► transport
             (http1_reader)                  (http1_responses)
```

The transport passes received bytes to the reader itself. The connection decides when to end:

```
open ─► CLOSING      all is answered; the transport sends what it has and closes
open ─► LINGERING    answered before the request was read; input is discarded for a while, since
                     closing a socket with unread input would reset the answer away
```

No request or connection has a timer: one sweep over all connections (`tick`) enforces the limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from gateway.web import uploads
from gateway.web.half_close import HalfClosed
from gateway.web.http1_reader import BODY, DEAF, IDLE, RequestReader
from gateway.web.http1_responses import ResponseQueue
from gateway.web.server_state import ServerState
from gateway.web.websocket_stream import WebSocketStream

_OPEN: Final = 0
_LINGERING: Final = 1
_CLOSING: Final = 2


class Http1Connection(asyncio.BaseProtocol):
    """One client's connection.

    Attributes:
        reader: parses the requests.
        responses: the queue of answers.
        data_received: the reader's `receive`, which the transport calls.
    """

    __slots__ = (
        "_ending",
        "_half_closed",
        "_lingered",
        "_server",
        "data_received",
        "reader",
        "responses",
    )

    data_received: Callable[[bytes], None]

    def __init__(self, server: ServerState) -> None:
        """Prepare for `connection_made`, which asyncio calls next."""
        self._server = server
        self.responses = ResponseQueue(server, self)
        self.reader = RequestReader(server, self.responses)
        self.data_received = self.reader.receive
        self._ending = _OPEN
        self._lingered = 0.0  # seconds for which input has been thrown away
        self._half_closed: HalfClosed | None = None  # the client sends nothing more

    # ---- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count a client that connected, or refuse it if there are too many."""
        self.responses.open(cast(asyncio.Transport, transport))  # uvloop's is one in all but name
        self._server.connections.add(self)
        if self._server.excess > 0:
            self.reader.refuse("too_many_connections", "too many connections are open")

    def connection_lost(self, exc: BaseException | None) -> None:
        """Notify the reader and all pending requests that the connection is gone."""
        self._ending = _CLOSING
        self._forsake()
        if self._half_closed is not None:
            self._half_closed.stop()
            self._half_closed = None  # it refers to us, as the others do: no cycle may stay
        self.reader.close()
        self.responses.close()
        self._server.leave(self)

    def pause_writing(self) -> None:
        """Stop reading requests: the client does not read its answers."""
        self.responses.choke()
        self.reader.pacing.pause()

    def resume_writing(self) -> None:
        """Write what waited: the client reads again."""
        self.responses.unchoke()

    def eof_received(self) -> bool:
        """Answer what is pending and then close: the client will send nothing more.

        Returns:
            Whether the transport stays open, for those answers.
        """
        reader, transport = self.reader, self.responses.transport
        reader.stop()
        is_owed = self.responses.end_input()
        if not is_owed or reader.websocket is not None or transport.is_closing():
            self._ending = _CLOSING
            self._forsake()
            return False
        self._half_closed = HalfClosed(transport, self._probe, self._vanished)
        return True

    def _probe(self) -> None:
        if self.reader.takes_interim:
            self.responses.probe()

    def _vanished(self) -> None:
        """End at once: the client has closed the connection in both directions."""
        self._ending = _CLOSING
        self._forsake()
        self.abort()

    # ---- the queue's side

    def crowded(self) -> None:
        """Stop reading: the limit of pending requests is reached."""
        self.reader.pacing.pause()

    def answered(self) -> bool:
        """Resume reading if possible: fewer requests are pending. Return whether it is paused."""
        return self.reader.pacing.resume()

    def failed(self, reason: BaseException) -> None:
        """Close after an answer failed by an internal error."""
        self.reader.fail(reason)

    def cut_off(self, cause: str) -> None:
        """Close at once: the client reads its answers too slowly."""
        self._server.drop(cause)
        self._ending = _CLOSING
        self.abort()

    def answered_last(self) -> None:
        """Close after the last answer, so that the client can still read it."""
        transport = self.responses.transport
        sends_more = self.reader.state == DEAF and self._half_closed is None
        self._forsake()
        if sends_more and transport.can_write_eof():
            self._ending = _LINGERING
            self.reader.pacing.unpause()
            transport.write_eof()
        else:
            self._close()

    def hand_over(self) -> WebSocketStream:
        """Pass the connection to the upgraded protocol; RuntimeError if none was requested."""
        websocket = self.reader.websocket
        if websocket is None or self._ending == _CLOSING:
            raise RuntimeError("no upgrade of this connection was asked for")
        self._ending = _CLOSING
        self._server.connections.discard(self)
        websocket.open()
        return websocket

    # ---- the end

    def _forsake(self) -> None:
        """Drop all pending requests and stop reading."""
        self.reader.stop()
        self.responses.forsake()

    def _close(self) -> None:
        self._ending = _CLOSING
        self.responses.transport.close()

    def tick(self, step: float) -> None:
        """Enforce the time limits after `step` more seconds. Called by the server's sweep."""
        responses = self.responses
        is_stuck = responses.tick(step)
        if responses.choked:
            if is_stuck:
                self.abort()
        elif responses.pending:
            self.reader.rest()
            if self._half_closed is not None:
                self._half_closed.look()
        elif self._ending:
            self._tick_ending(step)
        else:
            self._tick_reading(step)

    def _tick_ending(self, step: float) -> None:
        """Wait for the client to read its answer and stop sending, but not for ever."""
        limits, age = self._server.limits, self.reader.grow_older(step)
        if self._ending == _LINGERING:
            self._lingered += step
        most = limits.linger if self._ending == _LINGERING else limits.write_timeout
        if age >= most or self._lingered >= limits.linger_most:
            self.abort()

    def _tick_reading(self, step: float) -> None:
        """Close if the client does not send a request, or the rest of one, in time."""
        reader, limits, age = self.reader, self._server.limits, self.reader.grow_older(step)
        if reader.state == IDLE:
            if age >= limits.idle_timeout:
                reader.stop()
                self._close()
            return
        is_body = reader.state == BODY
        address = self.responses.client_address.remote_ip
        if is_body and age >= uploads.SLOW_S and not reader.body.count_slow(address):
            reader.refuse("overloaded", uploads.TOO_MANY)
        elif age >= (reader.body.time_s if is_body else limits.header_timeout):
            reader.refuse("request_timeout", "the request did not arrive in time")

    def retire(self) -> None:
        """Answer all requests that have begun, accept no further one, then close."""
        self.reader.retire()
        if self.reader.state == IDLE:
            self.reader.stop()
            if not self.responses.end_input():
                self._close()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self.responses.transport.abort()

    def __repr__(self) -> str:
        """Show the state and the number of pending answers."""
        pending = len(self.responses.pending)
        return f"<Http1Connection state {self.reader.state}, {pending} pending>"
