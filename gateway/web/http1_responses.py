"""The answering half of a client's connection: what it owes, in which order, and for how long.

Answers may become ready in any order, and leave in the order of their requests. Requests that the
client pipelines are read on only while few are pending and the client takes its answers.

What the connection is reading is its *phase*; the reading half (`gateway/web/http1.py`) moves it:

```
IDLE ─► HEAD ─► BODY ─► IDLE ...                 the ordinary life
   any of them ─► LAST     a request said it was the last one
   any of them ─► DEAF     refused: nothing of what still comes is read
   any of them ─► LAST     the client sends nothing more, and still awaits answers
LAST, DEAF ─► CLOSING      answered; the transport sends what it has and closes
DEAF ─► LINGERING          answered; what the client still sends is thrown away for a while,
                           since a socket closed with unread input resets the answer away
```

No timer belongs to a request or a connection: one sweep over all of them (`tick`) enforces the
times, and only looks at how long a connection has been in its phase.
"""

from __future__ import annotations

import asyncio
from typing import Final

from tornado.httputil import HTTPServerConnectionDelegate

from gateway.web.exchange import CLOSE, Turn
from gateway.web.half_close import HalfClosed
from gateway.web.room import Room
from gateway.web.server_state import CLIENT_GONE, Shared
from gateway.web.tornado_adapter import Origin, Page
from gateway.web.unread import LEAST_RATE, Account, Charged
from gateway.web.websocket_stream import Tunnel
from mesh.protocol.messages import Buffer

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
LAST: Final = 3
DEAF: Final = 4
LINGERING: Final = 5
CLOSING: Final = 6

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
MANY: Final = 1024  # pieces of a body that are kept apart
_SLACK: Final = 64 * 1024
_BYTES_PER_SECOND: Final = 16 * 1024


class Refused(Exception):
    """A request that is answered before it was read to its end; ends the connection."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class Stop(Exception):
    """Nothing more is to be parsed on this connection."""


class Lane(asyncio.Protocol):
    """What a connection owes its client.

    Attributes:
        pending: what awaits its answer, oldest first.
        transport: where answers are written.
        special: True while an answer must go through `release`.
        inference: who answers inference requests.
        choked: True while the client does not take what was written.
    """

    __slots__ = (
        "_account",
        "_age",
        "_called",
        "_calls",
        "_half_closed",
        "_leaving",
        "_lingered",
        "_owes_continue",
        "_paused",
        "_phase",
        "_received",
        "_shared",
        "_tail",
        "_tunnel",
        "_unsent",
        "choked",
        "inference",
        "pending",
        "special",
        "transport",
    )

    def __init__(self, shared: Shared) -> None:
        """Nothing is connected yet; asyncio calls `connection_made` next."""
        self._shared = shared
        self.inference = shared.inference
        self.transport: asyncio.Transport
        self.pending: list[Turn] = []
        self.special = shared.access is not None
        self.choked = False
        self._phase = IDLE
        self._lingered = 0.0  # seconds for which input has been thrown away
        self._age = 0.0  # seconds in this phase, as the sweep counts them
        self._received = 0  # bytes of a body that comes in pieces
        self._owes_continue = False
        self._paused = False
        self._unsent = 0  # bytes that the transport had not sent when that was last looked at
        self._leaving: Charged | None = None  # the route of the answer that was written last
        self._account: Account | None = None  # of answers that the client has not taken
        self._tail = b""  # what came and is not parsed yet; reading is paused while there is any
        self._calls = 0  # pieces of bodies that were taken since others had their turn
        self._called = False  # `_go_on` is going to be called
        self._half_closed: HalfClosed | None = None  # the client sends nothing more
        self._tunnel: Tunnel | None = None  # where the connection goes after an upgrade

    @property
    def application(self) -> HTTPServerConnectionDelegate:
        """Who answers what is not inference."""
        return self._shared.application

    @property
    def origin(self) -> Origin:
        """Who asks."""
        peer = self.transport.get_extra_info("peername")
        return Origin(peer[0] if isinstance(peer, tuple) else "0.0.0.0", "http")

    @property
    def room(self) -> Room:
        """For the bodies of pages' requests."""
        return self._shared.room

    def name(self) -> bytes:
        """An id for a request that came without one."""
        return self._shared.name()

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""
        self.transport.abort()

    # ---- answers

    def hand_over(self) -> Tunnel:
        """Give the connection away, as the answer says; RuntimeError if nobody asked for it."""
        tunnel = self._tunnel
        if tunnel is None or self._phase == CLOSING:
            raise RuntimeError("nobody asked for an upgrade of this connection")
        self._phase = CLOSING
        self._shared.guests.discard(self)
        tunnel.open()
        return tunnel

    def release(self) -> None:
        """Write what the oldest of `pending` have ready, in order, as far as the client reads."""
        pending = self.pending
        while pending and not self.choked and pending[0].flush(self.transport):
            turn = pending.pop(0)
            self._leaving = turn.route
            if self._shared.access is not None:
                self._shared.access(turn, self.origin.remote_ip)
            if turn.connection is CLOSE:
                self._farewell()
                break
            if pending and isinstance(pending[0], Page):
                self._call_on()
        else:
            self._continue()
            self._resume()
        if self.choked or pending or self._account is not None:
            self._reckon()

    def _reckon(self) -> None:
        """Account for what the client has not taken: answers in their turn, and what is written.

        What is written and chokes nobody is looked at by the sweep, and from then on.
        """
        is_watched = self.choked or self._account is not None
        unsent = self.transport.get_write_buffer_size() if is_watched else 0
        self._settle(unsent, max(0, self._unsent - unsent) if self.choked else LEAST_RATE)

    def _settle(self, unsent: int, taken: int) -> None:
        kept: list[tuple[Charged | None, int]] = [
            (turn.route, turn.sent) for turn in self.pending if turn.route is not None and turn.sent
        ]
        if unsent:
            kept.append((self._leaving, unsent))
        self._unsent = unsent
        account = self._account
        if account is None:
            if not kept:
                return
            account = self._account = Account(self._shared.unread, self._cut_off)
        account.settle(kept, taken)
        if not kept:
            self._account = None

    def _cut_off(self, cause: str) -> None:
        """The client costs too much: no answer would reach it."""
        self._shared.drop(cause)
        self._phase = CLOSING
        self.transport.abort()

    def _farewell(self) -> None:
        """The last answer is written: close, so that the client can still read it."""
        self._forsake()
        self._tail = b""
        if self._phase == DEAF and self.transport.can_write_eof():
            self._phase = LINGERING
            self._age = 0.0
            self._unpause()
            self.transport.write_eof()
        else:
            self._close()

    def _close(self) -> None:
        self._phase = CLOSING
        self._age = 0.0
        self.transport.close()

    def _forsake(self) -> None:
        """Nothing that is still pending will be answered, or read."""
        self._drop()
        pending, self.pending = self.pending, []
        for turn in pending:
            if self._shared.access is not None:
                self._shared.access(turn, self.origin.remote_ip, CLIENT_GONE)
            turn.lost()

    def _drop(self) -> None:
        """Whatever is being read will not be whole; the reading half knows what it is."""
        raise NotImplementedError

    def _continue(self) -> None:
        """Ask for the body, as soon as all that was asked before is answered."""
        if self._owes_continue and not self.pending:
            self._owes_continue = False
            self.transport.write(_CONTINUE)

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more requests from it."""
        self.choked = self.special = True
        self._pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self.choked = False
        self.release()

    # ---- the end of input

    def eof_received(self) -> bool:
        """The client will send nothing more; what it has asked for is answered, then it is over.

        Returns:
            Whether the transport stays open, for those answers.
        """
        self._drop()
        self._tail = b""
        self._owes_continue = False
        if not self.pending or self._tunnel is not None or self.transport.is_closing():
            self._phase = CLOSING
            self._forsake()
            return False
        self._phase = LAST
        self.pending[-1].connection = CLOSE
        self._half_closed = HalfClosed(self.transport, self._probe, self._vanished)
        return True

    def _probe(self) -> None:
        """Send what makes the kernel of a client that has closed its connection say so.

        An interim answer is for HTTP/1.1 only, and stands between two answers, never inside one.
        """
        pending = self.pending
        if pending and not (self.choked or pending[0].status) and self._takes_interim():
            self.transport.write(_CONTINUE)

    def _takes_interim(self) -> bool:
        """Whether the client must understand an interim answer; the reading half knows."""
        raise NotImplementedError

    def _vanished(self) -> None:
        """The client has closed its connection: nobody wants the answers."""
        self._phase = CLOSING
        self._forsake()
        self.transport.abort()

    # ---- how much is read

    def _crowd(self) -> None:
        """Read no more while much is pending."""
        if self._is_full():
            self._pause()

    def _is_full(self) -> bool:
        """Whether as much is pending as may be, or the client does not take its answers."""
        limits = self._shared.limits
        pending = self.pending
        if self.choked or len(pending) > limits.pipelined:
            return True
        return _held(pending) > limits.max_body + _SLACK

    def _keep(self, rest: bytes) -> None:
        """Leave this for later, when less is pending or others have had their turn."""
        self._tail = rest
        self._pause()
        if not self._is_full():
            self._call_on()

    def _call_on(self) -> None:
        """Have `_go_on` called, after whatever else the loop has to do."""
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Set off the page whose turn it is; parse on."""
        self._called = False
        self._calls = 0
        pending = self.pending
        if pending and isinstance(pending[0], Page) and not pending[0].started:
            self._set_off(pending[0])
        if self._tail and self._phase < LAST and not self._is_full():
            tail, self._tail = self._tail, b""
            self._read(tail)
            if not self._tail:
                self._resume()
        elif not self._tail:
            self._resume()

    def _set_off(self, page: Page) -> None:
        try:
            page.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            self._failed(page, error)

    def _failed(self, turn: Turn, reason: BaseException) -> None:
        """What a request set off has failed; the reading half knows what to say."""
        raise NotImplementedError

    def _read(self, segment: bytes) -> None:
        """Read what came; that is for the reading half."""
        raise NotImplementedError

    def _pause(self) -> None:
        if not self._paused and self._phase < LAST and not self.transport.is_closing():
            self._paused = self.special = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        """Read on, if the client takes its answers and little is pending."""
        limits = self._shared.limits
        few = len(self.pending) <= limits.pipelined // 2
        if self._paused and not self.choked and few and _held(self.pending) <= limits.max_body:
            if self._tail:
                self._call_on()
            else:
                self._unpause()
        self.special = self._paused or self._owes_continue or self._shared.access is not None

    def _unpause(self) -> None:
        if self._paused:
            self._paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    # ---- time

    def tick(self, step: float) -> None:
        """`step` seconds have passed: end what takes too long. Called by the server's sweep."""
        if self.choked:
            self._watch_writing(step)
            if self._account is not None:
                self._account.tick(step)
            return
        self._watch_rest(step)
        if self.pending:
            self._age = 0.0
            if self._half_closed is not None:
                self._half_closed.look()
        else:
            self._age += step
            if self._phase == LINGERING:
                self._lingered += step
            elif self._phase == BODY:
                self._watch_body()
            most = self._shared.limits.linger_most
            if self._age >= self._allowed() or self._lingered >= most:
                self._expire()

    def _watch_writing(self, step: float) -> None:
        """The client does not take its answer: give up once not a byte has gone for long."""
        before = self._unsent
        self._reckon()
        self._age = self._age + step if self._unsent == before else 0.0
        if self._age >= self._shared.limits.write_timeout:
            self.transport.abort()

    def _watch_rest(self, step: float) -> None:
        """Charge what the client has not taken and is too little to choke it.

        How fast it takes that cannot be told while more is written; it is late if nothing moves.
        """
        unsent = self.transport.get_write_buffer_size()
        if unsent or self._account is not None:
            self._settle(unsent, LEAST_RATE if unsent != self._unsent else 0)
            if unsent and self._account is not None:
                self._account.tick(step)

    def _allowed(self) -> float:
        """Seconds that the present phase may last."""
        limits = self._shared.limits
        if self._phase == BODY:
            return limits.body_timeout + self._received / _BYTES_PER_SECOND
        if self._phase == CLOSING:
            return limits.write_timeout
        return {
            IDLE: limits.idle_timeout,
            HEAD: limits.header_timeout,
            LINGERING: limits.linger,
        }.get(self._phase, limits.idle_timeout)

    def _watch_body(self) -> None:
        """A body is not whole; the reading half knows how long that may be."""
        raise NotImplementedError

    def _expire(self) -> None:
        """The phase has lasted too long; the reading half knows what to say where it matters."""
        raise NotImplementedError


def fold(pieces: list[Buffer]) -> None:
    """Make one of many pieces: a piece of a few bytes costs far more memory than it holds.

    The one grows in place, so that folding again and again copies each byte only once.
    """
    first = pieces[0]
    whole = first if isinstance(first, bytearray) else bytearray(first)
    whole += b"".join(pieces[1:])
    pieces[:] = [whole]


def _held(turns: list[Turn]) -> int:
    """Bytes of the bodies of these requests."""
    return sum([len(turn.body) for turn in turns])
