"""The body of an HTTP/1.1 request while it is being read: its pieces, room and speed."""

from __future__ import annotations

from time import monotonic
from typing import Final

from gateway.web import headers
from gateway.web.headers import HeaderLayout, RequestHead
from gateway.web.http_request import CLOSE, HttpRequest
from gateway.web.limits import BODY_BYTES_PER_S, BODY_STEP_BYTES
from gateway.web.patience import TINY_BYTES, Patience
from gateway.web.request_checks import (
    RequestRefused,
    check_expectation,
    check_length,
    check_transfer_coding,
)
from gateway.web.server_state import LARGE_BODY_BYTES, ServerState
from mesh.protocol.messages import Buffer

MOST_PIECES: Final = 1024  # of a body that are kept apart


class RequestBody:
    """Collects the bodies of a connection's requests, one after the other.

    Attributes:
        request: the request whose body is being read, None between two requests.
        declared: the body's length by the head; 0 for chunks.
        left: how many of these bytes are missing.
        received: bytes received so far of a body in several pieces.
        turn_pieces: pieces received since other connections had their turn.
    """

    __slots__ = (
        "_admitted",
        "_framing_bytes",
        "_patience",
        "_pieces",
        "_server",
        "_slow_client",
        "_tiny",
        "declared",
        "left",
        "received",
        "request",
        "turn_pieces",
    )

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self.request: HttpRequest | None = None
        self.declared = 0
        self.left = 0
        self.received = 0
        self.turn_pieces = 0
        self._admitted = -1  # reserved bytes
        self._pieces: list[Buffer] | None = None  # of a body in several pieces
        self._framing_bytes = 0  # bytes of chunks and trailers since the last piece
        self._tiny = 0  # tiny pieces that were not joined yet
        self._patience: Patience | None = None  # with them
        self._slow_client = ""  # the client that is counted as sending this body slowly

    def begin(self, request: HttpRequest, declared: int) -> None:
        """Start the body of a request whose head is complete."""
        self.request = request
        self.declared = self.left = declared
        self._admitted = -1
        self._framing_bytes = 0

    def weigh(self, layout: HeaderLayout, head: RequestHead) -> bool:
        """Check a body that is large, of unknown size, or sent only after our consent.

        Returns:
            Whether the client expects an interim answer before it sends the body.

        Raises:
            RequestRefused: the body is too large, of unknown framing, or there is no room.
        """
        assert self.request is not None
        values, declared = head.values, self.declared
        codings = [values[index] for kind, index in layout.framing if kind == headers.ENCODING]
        if codings:
            check_transfer_coding(codings)
            self._pieces = []
            if head.version == "1.0":  # HTTP/1.0 has no chunks: the last request here
                self.request.connection = CLOSE
        if declared > self._server.limits.max_body:
            check_length(declared, self._server)
        expected: list[bytes] = []
        if len(layout.framing) > len(codings):
            expected = [values[index] for kind, index in layout.framing if kind == headers.EXPECT]
        if codings or declared >= LARGE_BODY_BYTES or expected:
            self.admit(BODY_STEP_BYTES if codings else declared)
        if not expected or not (codings or declared) or head.version != "1.1":
            return False
        check_expectation(expected[-1])
        return True

    def begin_turn(self) -> None:
        """Count pieces anew: other connections have had their turn."""
        self.turn_pieces = 0

    def take(self, piece: bytes) -> None:
        """Add a piece. Mostly it is the only one, and is kept without a copy.

        Raises:
            RequestRefused: the body is too large, or there is no room for it.
        """
        request = self.request
        assert request is not None
        self.left -= len(piece)
        self._framing_bytes = 0
        if self._pieces is None:
            if not request.body:
                request.body = piece
                return
            self._pieces = [request.body]
            self.received = len(request.body)
        self._pieces.append(piece)
        self.received += len(piece)
        self.turn_pieces += 1
        self._tiny += len(piece) < TINY_BYTES
        if len(self._pieces) >= MOST_PIECES:
            fold(self._pieces)
        if self.received > self._server.limits.max_body:
            check_length(self.received, self._server)
        if self.received > self._admitted:
            self.admit(self.received + BODY_STEP_BYTES)

    def admit(self, nbytes: int) -> None:
        """Reserve room for `nbytes` bytes; raise `RequestRefused` if there is none."""
        assert self.request is not None
        answer = self.request.admit(nbytes)
        if answer is not None:
            self._admitted = -1
            raise RequestRefused(answer=answer)
        self._admitted = nbytes

    def await_rest(self) -> None:
        """Reserve room for the missing rest, unless that was done before."""
        if self._admitted < 0:
            self.admit(self.declared)

    def measure(self, nbytes: int, trailers: bool) -> None:
        """Limit the framing of a chunked body that is not complete.

        Args:
            nbytes: bytes of chunks that were parsed since the last call.
            trailers: whether there are too many trailer lines.

        Raises:
            RequestRefused: there is too much framing, or too many tiny pieces.
        """
        self._framing_bytes += nbytes
        if trailers or self._framing_bytes > self._server.limits.max_header:
            text = "the body's framing or trailers are too long"
            raise RequestRefused("headers_too_large", text)
        if self._tiny:
            self._pay()

    def _pay(self) -> None:
        """Refuse a body that arrives in a great many tiny pieces."""
        tiny, self._tiny = self._tiny, 0
        now = monotonic()
        if self._patience is None:
            self._patience = Patience(now)
        if not self._patience.bears(tiny, now):
            self._server.drop("tiny_pieces")
            text = f"the body comes in too many pieces of less than {TINY_BYTES} bytes"
            raise RequestRefused("bad_request", f"{text}; send larger chunks")

    def finish(self) -> HttpRequest | None:
        """Return the request, whose body is complete; None if there was none."""
        request, self.request = self.request, None
        if self._slow_client:
            self._end_slow()
        if self._pieces is not None:
            if request is not None:
                request.body = b"".join(self._pieces)
            self._pieces = None
            self.received = 0
        return request

    def drop(self) -> None:
        """Drop the body and release its room: it will not be complete."""
        self._end_slow()
        request, self.request = self.request, None
        self._pieces = None
        self.left = self.received = 0
        if request is not None and self._admitted >= 0:
            request.lost()

    # ---- time

    @property
    def time_s(self) -> float:
        """The seconds that the client may take for the bytes received so far."""
        return self._server.limits.body_timeout + self.received / BODY_BYTES_PER_S

    def count_slow(self, address: str) -> bool:
        """Count the body as a slow one, once; return False if its client has too many."""
        self._slow_client = self._slow_client or self._server.uploads.count(address)
        return bool(self._slow_client)

    def _end_slow(self) -> None:
        client, self._slow_client = self._slow_client, ""
        if client:
            self._server.uploads.end(client)


def fold(pieces: list[Buffer]) -> None:
    """Join the pieces: a piece of a few bytes costs far more memory than it holds.

    The result grows in place, so that repeated calls copy each byte only once.
    """
    first = pieces[0]
    whole = first if isinstance(first, bytearray) else bytearray(first)
    whole += b"".join(pieces[1:])
    pieces[:] = [whole]
