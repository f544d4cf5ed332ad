"""The answers that an HTTP/1.1 connection owes its client, in the order of the requests.

Answers may become ready in any order, and leave in the order of their requests. Requests that the
client pipelines are read on only while few are pending and the client takes its answers.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

from tornado.httputil import HTTPServerConnectionDelegate

from gateway.web.byte_budget import ByteBudget
from gateway.web.exchange import AnyInference, RefusedRequest
from gateway.web.http_request import CLOSE, HttpRequest
from gateway.web.server_state import CLIENT_GONE, ServerState
from gateway.web.tornado_adapter import ClientAddress
from gateway.web.unread import LEAST_RATE, Charged, UnreadLedger
from gateway.web.websocket_stream import WebSocketStream

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SLACK_BYTES: Final = 64 * 1024  # of bodies, beyond the largest, before no more is read


class QueueOwner(Protocol):
    """The connection that a queue belongs to."""

    def crowded(self) -> None:
        """As much is pending as may be: read no more."""

    def answered(self) -> bool:
        """Less is pending: read on, if nothing speaks against it; says if reading is paused."""

    def answered_last(self) -> None:
        """The last answer is written: end the connection."""

    def failed(self, reason: BaseException) -> None:
        """What a request set off has failed, and nothing follows it."""

    def cut_off(self, cause: str) -> None:
        """The client costs too much: no answer would reach it."""

    def hand_over(self) -> WebSocketStream:
        """Give the connection away; RuntimeError if no upgrade was asked for."""


class ResponseQueue:
    """The requests of one connection that are whole, until each has been answered.

    Args:
        server: what all connections have in common.
        owner: the connection.

    Attributes:
        pending: what awaits its answer, oldest first.
        special: True while an answer must go through `release`.
        inference: who answers inference requests.
        transport: where answers are written.
        choked: True while the client does not take what was written.
    """

    __slots__ = (
        "_leaving",
        "_ledger",
        "_owes_continue",
        "_owner",
        "_page_called",
        "_server",
        "_stuck",
        "choked",
        "inference",
        "pending",
        "special",
        "transport",
    )

    def __init__(self, server: ServerState, owner: QueueOwner) -> None:
        self._server = server
        self._owner = owner
        self.inference: AnyInference = server.inference
        self.transport: asyncio.Transport
        self.pending: list[HttpRequest] = []
        self.special = server.access is not None
        self.choked = False
        self._owes_continue = False
        self._page_called = False  # `_start_page` is going to be called
        self._leaving: Charged | None = None  # the route of the answer that was written last
        self._ledger = UnreadLedger(server.unread, owner.cut_off)
        self._stuck = 0.0  # seconds without the client taking anything

    def open(self, transport: asyncio.Transport) -> None:
        """The client is there."""
        self.transport = transport

    # ---- what requests ask of it

    @property
    def application(self) -> HTTPServerConnectionDelegate:
        """Who answers what is not inference."""
        return self._server.application

    @property
    def client_address(self) -> ClientAddress:
        """Who asks."""
        peer = self.transport.get_extra_info("peername")
        return ClientAddress(peer[0] if isinstance(peer, tuple) else "0.0.0.0", "http")

    @property
    def room(self) -> ByteBudget:
        """For the bodies of pages' requests."""
        return self._server.room

    @property
    def vary(self) -> bytes:
        """Header lines of pages that no browser asks for."""
        return self._server.browsers.vary

    def name(self) -> bytes:
        """An id for a request that came without one."""
        return self._server.name()

    def hand_over(self) -> WebSocketStream:
        """Give the connection away; RuntimeError if no upgrade was asked for."""
        return self._owner.hand_over()

    # ---- what enters

    def enter(self, request: HttpRequest) -> None:
        """A request is whole: enter it in the order of answers, and start it if it may be."""
        pending = self.pending
        pending.append(request)
        if len(pending) > 1:
            if self.is_full:
                self._owner.crowded()
            if request.awaits_turn:
                return
        try:
            request.start()
        except Exception as error:  # noqa: BLE001 - logged; whatever it is, its client is answered
            self._fail(request, error)

    def refuse(self, method: bytes, target: bytes, answer: bytes) -> None:
        """A request is answered before it was whole; it is the last one."""
        self._owes_continue = False
        request = RefusedRequest(self, None, target, monotonic(), CLOSE, asked_method=method)
        self.pending.append(request)
        request.respond(answer)

    def owe_continue(self) -> None:
        """Ask for a body as soon as all that was asked before is answered."""
        self._owes_continue = self.special = True
        self._continue()

    def _continue(self) -> None:
        if self._owes_continue and not self.pending:
            self._owes_continue = False
            self.transport.write(_CONTINUE)

    def _fail(self, request: HttpRequest, reason: BaseException) -> None:
        """What a request set off has failed: in its place that is said."""
        at = self.pending.index(request)
        later = self.pending[at:]
        del self.pending[at:]
        for each in later:
            each.lost()
        self._owner.failed(reason)

    @property
    def is_full(self) -> bool:
        """Whether as much is pending as may be, or the client does not take its answers."""
        limits = self._server.limits
        if self.choked or len(self.pending) > limits.pipelined:
            return True
        held = 0
        for request in self.pending:
            held += len(request.body)
        return held > limits.max_body + _SLACK_BYTES

    @property
    def has_room(self) -> bool:
        """Whether so little is pending that more may be read."""
        limits = self._server.limits
        if self.choked or len(self.pending) > limits.pipelined // 2:
            return False
        held = 0
        for request in self.pending:
            held += len(request.body)
        return held <= limits.max_body

    # ---- what leaves

    def release(self) -> None:
        """Write what the oldest of `pending` have ready, in order, as far as the client reads."""
        pending, access = self.pending, self._server.access
        is_behind = True  # a ready one waits behind one that is not
        while pending and not self.choked and pending[0].flush(self.transport):
            is_behind = False
            request = pending.pop(0)
            self._leaving = request.route
            if access is not None:
                access(request, self.client_address.remote_ip)
            if request.connection is CLOSE:
                self._owner.answered_last()
                break
            if pending and pending[0].awaits_turn:
                self._call_page()
        else:
            if self.special:
                self.settle()
        if is_behind or self.choked or self._ledger.is_open:
            self._account()

    def settle(self) -> None:
        """Less is pending, or less is left to be read: go on with what waited for that."""
        self._continue()
        is_paused = self._owner.answered()
        self.special = is_paused or self._owes_continue or self._server.access is not None

    def watch(self) -> None:
        """Reading is paused: each answer that leaves may let it go on."""
        self.special = True

    def _call_page(self) -> None:
        """Have the page started whose turn it is, after whatever else the loop has to do."""
        if not self._page_called:
            self._page_called = True
            asyncio.get_running_loop().call_soon(self._start_page)

    def _start_page(self) -> None:
        self._page_called = False
        if self.pending and self.pending[0].awaits_turn:
            page = self.pending[0]
            try:
                page.start()
            except Exception as error:  # noqa: BLE001 - logged; its client is answered
                self._fail(page, error)

    # ---- a client that does not read

    def choke(self) -> None:
        """The client does not take its answers."""
        self.choked = self.special = True
        self._stuck = 0.0

    def unchoke(self) -> None:
        """It does again."""
        self.choked = False
        self.release()

    def _account(self) -> None:
        """Account for what the client has not taken: answers in their turn, and what is written.

        What is written and chokes nobody is looked at by the sweep, and from then on.
        """
        ledger = self._ledger
        is_watched = self.choked or ledger.is_open
        unsent = self.transport.get_write_buffer_size() if is_watched else 0
        self._keep(unsent, ledger.taken(unsent) if self.choked else LEAST_RATE)

    def _keep(self, unsent: int, taken: int) -> None:
        kept: list[tuple[Charged | None, int]] = [
            (request.route, request.sent)
            for request in self.pending
            if request.route is not None and request.sent
        ]
        if unsent:
            kept.append((self._leaving, unsent))
        self._ledger.settle(kept, unsent, taken)

    def tick(self, step: float) -> bool:
        """`step` seconds have passed.

        Returns:
            Whether the client is choked and not a byte has gone for too long.
        """
        if not self.choked:
            self._tick_unchoked(step)
            return False
        before = self._ledger.unsent
        self._account()
        self._stuck = self._stuck + step if self._ledger.unsent == before else 0.0
        self._ledger.tick(step)
        return self._stuck >= self._server.limits.write_timeout

    def _tick_unchoked(self, step: float) -> None:
        """Charge what the client has not taken and is too little to choke it."""
        ledger, unsent = self._ledger, self.transport.get_write_buffer_size()
        if unsent or ledger.is_open:
            self._keep(unsent, ledger.moved(unsent))
            if unsent:
                ledger.tick(step)

    def probe(self) -> None:
        """Send what makes the kernel of a client that has closed its connection say so.

        An interim answer stands between two answers, never inside one.
        """
        pending = self.pending
        if pending and not (self.choked or pending[0].status):
            self.transport.write(_CONTINUE)

    # ---- the end

    def end_input(self) -> bool:
        """Nothing more will be asked: the newest answer is the last. False if none is owed."""
        self._owes_continue = False
        if not self.pending:
            return False
        self.pending[-1].connection = CLOSE
        return True

    def forsake(self) -> None:
        """Nothing that is still pending will be answered."""
        pending, self.pending = self.pending, []
        for request in pending:
            if self._server.access is not None:
                self._server.access(request, self.client_address.remote_ip, CLIENT_GONE)
            request.lost()

    def close(self) -> None:
        """The connection is no more; it is not referred to any more."""
        self._ledger.close()
        self._owner = _NOBODY


class _Nobody:
    """Stands for a connection that is no more."""

    def crowded(self) -> None:
        """Nothing is read."""

    def answered(self) -> bool:
        """Nothing is read."""
        return True

    def answered_last(self) -> None:
        """It has ended."""

    def failed(self, reason: BaseException) -> None:
        """No client can be told."""

    def cut_off(self, cause: str) -> None:
        """It has ended."""

    def hand_over(self) -> WebSocketStream:
        """Refused."""
        raise RuntimeError("the connection has ended")


_NOBODY: Final = _Nobody()
