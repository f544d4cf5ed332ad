"""The answers that an HTTP/1.1 connection owes its client, in the order of the requests.

Answers may become ready in any order, and are written in the order of their requests. Pipelined
requests are read only while few are pending and the client reads its answers.
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
_SLACK_BYTES: Final = 64 * 1024  # bytes of bodies, beyond the largest, at which reading stops


class QueueOwner(Protocol):
    """The connection that a queue belongs to."""

    def crowded(self) -> None:
        """Stop reading: the limit of pending requests is reached."""

    def answered(self) -> bool:
        """Resume reading if possible: fewer requests are pending. Return whether it is paused."""

    def answered_last(self) -> None:
        """Close the connection: the last answer is written."""

    def failed(self, reason: BaseException) -> None:
        """Close after an answer failed by an internal error."""

    def cut_off(self, cause: str) -> None:
        """Close at once: the client reads its answers too slowly."""

    def hand_over(self) -> WebSocketStream:
        """Give the connection away; RuntimeError if no upgrade was asked for."""


class ResponseQueue:
    """The complete requests of one connection, until each has been answered.

    Args:
        server: the state that all connections share.
        owner: the connection.

    Attributes:
        pending: the requests without an answer, oldest first.
        special: True while answers must be written by `release`.
        inference: the service that answers inference requests.
        transport: where answers are written.
        choked: True while the client does not read what was written.
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
        self._page_called = False  # whether a call of `_start_page` is scheduled
        self._leaving: Charged | None = None  # the route of the last written answer
        self._ledger = UnreadLedger(server.unread, owner.cut_off)
        self._stuck = 0.0  # seconds in which the client read nothing

    def open(self, transport: asyncio.Transport) -> None:
        """Start serving a client that connected."""
        self.transport = transport

    # ---- what requests ask of it

    @property
    def application(self) -> HTTPServerConnectionDelegate:
        """The tornado application that answers what is not inference."""
        return self._server.application

    @property
    def client_address(self) -> ClientAddress:
        """The client's address."""
        peer = self.transport.get_extra_info("peername")
        return ClientAddress(peer[0] if isinstance(peer, tuple) else "0.0.0.0", "http")

    @property
    def room(self) -> ByteBudget:
        """The room for the bodies of pages' requests."""
        return self._server.room

    @property
    def vary(self) -> bytes:
        """The header lines of pages for clients that are no browsers."""
        return self._server.browsers.vary

    def name(self) -> bytes:
        """Return an id for a request without one."""
        return self._server.name()

    def hand_over(self) -> WebSocketStream:
        """Give the connection away; RuntimeError if no upgrade was asked for."""
        return self._owner.hand_over()

    # ---- what enters

    def enter(self, request: HttpRequest) -> None:
        """Add a complete request to the queue, and start it unless it must wait."""
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
        """Add the answer of a refused request; it is the connection's last."""
        self._owes_continue = False
        request = RefusedRequest(self, None, target, monotonic(), CLOSE, asked_method=method)
        self.pending.append(request)
        request.respond(answer)

    def owe_continue(self) -> None:
        """Send the interim answer that asks for a body, when all earlier requests are answered."""
        self._owes_continue = self.special = True
        self._continue()

    def _continue(self) -> None:
        if self._owes_continue and not self.pending:
            self._owes_continue = False
            self.transport.write(_CONTINUE)

    def _fail(self, request: HttpRequest, reason: BaseException) -> None:
        """Answer a request that failed by an internal error, in its place in the queue."""
        at = self.pending.index(request)
        later = self.pending[at:]
        del self.pending[at:]
        for each in later:
            each.lost()
        self._owner.failed(reason)

    @property
    def is_full(self) -> bool:
        """Whether the limit of pending requests is reached, or the client does not read."""
        limits = self._server.limits
        if self.choked or len(self.pending) > limits.pipelined:
            return True
        held = 0
        for request in self.pending:
            held += len(request.body)
        return held > limits.max_body + _SLACK_BYTES

    @property
    def has_room(self) -> bool:
        """Whether so few requests are pending that more may be read."""
        limits = self._server.limits
        if self.choked or len(self.pending) > limits.pipelined // 2:
            return False
        held = 0
        for request in self.pending:
            held += len(request.body)
        return held <= limits.max_body

    # ---- what leaves

    def release(self) -> None:
        """Write the ready answers at the front of the queue, as far as the client reads."""
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
        """Continue what waited for fewer pending requests, or for input to be read."""
        self._continue()
        is_paused = self._owner.answered()
        self.special = is_paused or self._owes_continue or self._server.access is not None

    def watch(self) -> None:
        """Check after each written answer whether reading, which is paused, may resume."""
        self.special = True

    def _call_page(self) -> None:
        """Schedule the start of the page at the front, after the loop's other events."""
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
        """Stop writing: the client does not read its answers."""
        self.choked = self.special = True
        self._stuck = 0.0

    def unchoke(self) -> None:
        """Write on: the client reads again."""
        self.choked = False
        self.release()

    def _account(self) -> None:
        """Account for unread bytes: answers that wait in the queue, and those that are written.

        Written bytes that choke nothing are counted only from the next sweep on.
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
        """Account for `step` more seconds.

        Returns:
            Whether the client is choked and has read nothing for too long.
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
        """Charge unread bytes that are too few to choke the connection."""
        ledger, unsent = self._ledger, self.transport.get_write_buffer_size()
        if unsent or ledger.is_open:
            self._keep(unsent, ledger.moved(unsent))
            if unsent:
                ledger.tick(step)

    def probe(self) -> None:
        """Send an interim answer, which the kernel of a client that is gone answers by a reset.

        An interim answer may stand between two answers, never inside one.
        """
        pending = self.pending
        if pending and not (self.choked or pending[0].status):
            self.transport.write(_CONTINUE)

    # ---- the end

    def end_input(self) -> bool:
        """Let the newest pending answer be the last; return False if none is pending."""
        self._owes_continue = False
        if not self.pending:
            return False
        self.pending[-1].connection = CLOSE
        return True

    def forsake(self) -> None:
        """Drop all pending requests."""
        pending, self.pending = self.pending, []
        for request in pending:
            if self._server.access is not None:
                self._server.access(request, self.client_address.remote_ip, CLIENT_GONE)
            request.lost()

    def close(self) -> None:
        """Drop the references to a connection that is gone."""
        self._ledger.close()
        self._owner = _NOBODY


class _Nobody:
    """Stands in for a connection that is gone; each method does nothing."""

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
