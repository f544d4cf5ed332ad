"""The state that all client connections of one gateway share."""

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

# The limits of remembered heads and of the bytes of each: 2 MB in all.
_KNOWN_HEADS: Final = 1024
_KNOWN_HEAD_BYTES: Final = 2048
_KNOWN_HOSTS: Final = 64
_KNOWN_HOST_BYTES: Final = 256
CLIENT_GONE: Final = responses.row("client_gone").status
# A body declared to be at least this long needs a reservation before it is read.
LARGE_BODY_BYTES: Final = 64 * 1024


class KnownHead(NamedTuple):
    """The meaning of a head that was parsed once: plain inference, with nothing unusual.

    Attributes:
        route: the route of its path.
        target: the request target.
        length: the length of the body in bytes.
    """

    route: Route
    target: bytes
    length: int


class OpenConnection(Protocol):
    """The interface of an open client connection to the server."""

    def tick(self, step: float) -> None:
        """`step` seconds have passed."""

    def retire(self) -> None:
        """Accept no new request, and close once everything is answered."""

    def abort(self) -> None:
        """Close at once."""


class LogAccess(Protocol):
    """Writes the access log."""

    def __call__(self, turn: HttpRequest, client: str, status: int = 0) -> None:
        """Log a request that was answered or lost."""


@dataclass(slots=True)
class ServerState:
    """One object for all connections of a server, so that each of them stays small.

    Attributes:
        inference: the service that answers inference requests.
        application: tornado's application, or a stand-in, for all other requests.
        limits: the limits of clients.
        names: makes the id of a request without one from a number.
        coded: whether clients may compress: the inference then looks at `Exchange.codings`.
        access: called with every request that was answered or lost, its client's address and the
            status if it is not the answer's, if there is an access log.
        refused: called with code, message and id of each request that a connection itself refused.
        browsers: which requests of browsers are served.
        parted: called when a connection is gone.
        dropped: called with the reason, a word, when a client that costs too much is cut off.
        connections: the connections that are open.
        leaving: whether the server stops: a client that connects now is answered once.
        numbers: counts these ids.
        known: the meaning of heads of plain inference requests that were parsed once.
        hosts: host names that were checked to be ours; clients repeat them.
        small: bytes of a body that needs no check before it is read.
        room: room for the bodies of pages' requests.
        heads: room for incomplete heads.
        unread: answers that clients have not read.
        uploads: counts the clients whose bodies come slowly.
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
        """How many connections are open above the limit; negative while there is room."""
        return len(self.connections) - self.limits.connections

    def learn(self, head: bytes, meaning: KnownHead) -> None:
        """Remember the meaning of a head. Bounded: when the table is full, it is cleared."""
        if len(head) <= _KNOWN_HEAD_BYTES:
            if len(self.known) >= _KNOWN_HEADS:
                self.known.clear()
            self.known[head] = meaning

    def drop(self, cause: str) -> None:
        """Count a connection that is closed because its client costs too much."""
        if self.dropped is not None:
            self.dropped(cause)

    def learn_host(self, host: bytes) -> None:
        """Remember a host name of ours. Bounded like the heads."""
        if len(self.hosts) >= _KNOWN_HOSTS:
            self.hosts.clear()
        if len(host) <= _KNOWN_HOST_BYTES:
            self.hosts.add(host)

    def leave(self, connection: OpenConnection) -> None:
        """Remove a connection that is gone."""
        self.connections.discard(connection)
        if self.parted is not None:
            self.parted()

    def failure(
        self, code: str, message: str, request_id: bytes | None, headers: responses.Headers = ()
    ) -> bytes:
        """Count a request that a connection itself refuses, and return the answer."""
        name = request_id or self.name()
        if self.refused is not None:
            self.refused(code, message, name)
        return responses.failure(code, message, None, name, headers=headers)

    def name(self) -> bytes:
        """Return an id for a request that has none and is not in flight."""
        return self.names(next(self.numbers))
