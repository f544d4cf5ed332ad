"""What all client connections of one gateway have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, Protocol

from tornado.httputil import HTTPServerConnectionDelegate

from gateway.web import responses
from gateway.web.browser_policy import ANYBODY, BrowserPolicy
from gateway.web.byte_budget import ByteBudget
from gateway.web.exchange import AnyInference
from gateway.web.http_request import HttpRequest, Route
from gateway.web.limits import Limits
from gateway.web.unread import Unread
from gateway.web.uploads import Uploads

# Heads remembered at most, and bytes of each: 2 MB in all.
_KNOWN_HEADS: Final = 1024
_KNOWN_HEAD_BYTES: Final = 2048
_KNOWN_HOSTS: Final = 64
_KNOWN_HOST_BYTES: Final = 256
CLIENT_GONE: Final = responses.row("client_gone").status
# A body that is declared to be at least this long needs room before any of it is looked at.
LARGE_BODY_BYTES: Final = 64 * 1024


class KnownHead(NamedTuple):
    """What a head meant that was parsed once: inference, and nothing that needs another look.

    Attributes:
        route: what its path led to.
        target: the request target.
        length: bytes of the body.
    """

    route: Route
    target: bytes
    length: int


class OpenConnection(Protocol):
    """An open client connection, as the server sees it."""

    def tick(self, step: float) -> None:
        """`step` seconds have passed."""

    def retire(self) -> None:
        """Take nothing new, and close once everything is answered."""

    def abort(self) -> None:
        """Close at once."""


class LogAccess(Protocol):
    """Writes the access log."""

    def __call__(self, turn: HttpRequest, client: str, status: int = 0) -> None:
        """A request is over."""


@dataclass(slots=True)
class ServerState:
    """One object for all connections of a server, so that each of them stays small.

    Attributes:
        inference: who answers inference requests.
        application: tornado's, or a stand-in, for all others.
        limits: what clients may do.
        names: makes the ids that the wire gives, of a number each.
        coded: whether clients may compress: the inference then looks at `Exchange.codings`.
        access: called with every request that was answered or lost, its client's address and the
            status if it is not the answer's, if there is an access log.
        refused: called with code, message and id of each request that the wire itself refused.
        browsers: which requests of browsers are served.
        parted: called when a connection has gone.
        dropped: called with a word for why a connection is closed on a client that costs too much.
        connections: the connections that are open.
        leaving: the server stops: a client that connects now is answered once.
        numbers: counts these ids.
        known: heads of plain inference requests that were parsed once, to what they meant.
        hosts: those that were found to be names of ours: clients repeat them.
        small: bytes that a body may have without being worth a look before it comes.
        room: for the bodies of pages' requests.
        heads: room for heads that are not complete.
        unread: answers that clients have not taken.
        uploads: whose bodies come slowly.
    """

    inference: AnyInference
    application: HTTPServerConnectionDelegate
    limits: Limits
    names: Callable[[int], bytes]
    coded: bool = False
    access: LogAccess | None = None
    refused: Callable[[str, str, bytes], None] | None = None
    parted: Callable[[], None] | None = None
    dropped: Callable[[str], None] | None = None
    browsers: BrowserPolicy = ANYBODY
    connections: set[OpenConnection] = field(default_factory=set)
    leaving: bool = False
    numbers: count[int] = field(default_factory=count)
    known: dict[bytes, KnownHead] = field(default_factory=dict)
    small: int = 0
    hosts: set[bytes] = field(default_factory=set)
    room: ByteBudget = field(init=False)
    heads: ByteBudget = field(init=False)
    unread: Unread = field(init=False)
    uploads: Uploads = field(init=False)

    def __post_init__(self) -> None:
        """Derive the rest from the limits."""
        self.room = ByteBudget(max(self.limits.page_bytes, self.limits.max_body))
        self.heads = ByteBudget(self.limits.head_bytes)
        self.small = min(LARGE_BODY_BYTES - 1, self.limits.max_body)
        self.uploads = Uploads(self.limits.uploads_per_address)
        self.unread = Unread(self.limits.unread_bytes, self.limits.write_timeout)

    @property
    def excess(self) -> int:
        """How many more connections are open than may be; negative while there is room."""
        return len(self.connections) - self.limits.connections

    def learn(self, head: bytes, meaning: KnownHead) -> None:
        """Remember what a head meant. Bounded: when it is full, everything is forgotten."""
        if len(head) <= _KNOWN_HEAD_BYTES:
            if len(self.known) >= _KNOWN_HEADS:
                self.known.clear()
            self.known[head] = meaning

    def drop(self, cause: str) -> None:
        """A connection is being closed because its client costs too much: have it counted."""
        if self.dropped is not None:
            self.dropped(cause)

    def learn_host(self, host: bytes) -> None:
        """Remember a name of ours. Bounded like the heads."""
        if len(self.hosts) >= _KNOWN_HOSTS:
            self.hosts.clear()
        if len(host) <= _KNOWN_HOST_BYTES:
            self.hosts.add(host)

    def leave(self, connection: OpenConnection) -> None:
        """A connection is no more."""
        self.connections.discard(connection)
        if self.parted is not None:
            self.parted()

    def failure(
        self, code: str, message: str, request_id: bytes | None, headers: responses.Headers = ()
    ) -> bytes:
        """The answer to a request that the wire itself refuses; it is counted."""
        name = request_id or self.name()
        if self.refused is not None:
            self.refused(code, message, name)
        return responses.failure(code, message, None, name, headers=headers)

    def name(self) -> bytes:
        """Make an id for a request without a client's id that is not in flight."""
        return self.names(next(self.numbers))
