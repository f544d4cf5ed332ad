"""What every HTTP request is to the connection that brought it, inference or not. Pure."""

from __future__ import annotations

from typing import Final, Protocol

from mesh.protocol.messages import Buffer

# What an answer's Connection header must say, where it must say something.
CLOSE: Final = b"close"
KEEP: Final = b"keep-alive"


def with_connection(answer: bytes, value: bytes) -> bytes:
    """The same answer with a ``Connection`` header after its status line.

    Example:
        >>> with_connection(b"HTTP/1.1 200 OK\\r\\n\\r\\n", CLOSE)
        b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n'
    """
    return answer.replace(b"\r\n", b"\r\nConnection: " + value + b"\r\n", 1)


class Route(Protocol):
    """What the wire needs to know of an HTTP path that leads to stages."""

    @property
    def endpoint(self) -> str:
        """The path itself, as metrics and the access log name it."""

    @property
    def wants_meta(self) -> bool:
        """Whether a worker of the route asked for the request's method, query and headers."""

    def hold(self, nbytes: int) -> None:
        """Charge so many bytes of answers that clients have not taken yet; less where negative."""


class ResponseWriter(Protocol):
    """The part of a transport that answers need."""

    def write(self, piece: Buffer, /) -> object:
        """Send, or keep until it can be sent; `piece` must not change any more."""

    def abort(self) -> None:
        """Close at once."""


class HttpRequest(Protocol):
    """Whatever awaits an answer on a connection: an exchange, or a page.

    Attributes are those of `Exchange`; `status` and `sent` (bytes) are of the answer.
    """

    target: bytes
    body: bytes
    request_id: bytes | None
    arrived: float
    connection: bytes

    @property
    def awaits_turn(self) -> bool:
        """Whether it must not be started before it is the oldest of its connection."""

    @property
    def method(self) -> bytes:
        """Such as ``b"POST"``."""

    @property
    def route(self) -> Route | None:
        """What the path led to, if that is inference."""

    @property
    def status(self) -> int:
        """Of the answer, 0 before there is one."""

    @property
    def sent(self) -> int:
        """Bytes of the answer."""

    def take_header(self, kind: int, value: bytes) -> None:
        """Take in a header line of one of the kinds of `gateway.web.headers`."""

    def sent_header(self, name: bytes) -> bytes:
        """A header of an answer by `gateway.web.responses`, empty where it has none."""

    def admit(self, nbytes: int) -> bytes | None:
        """Find room for a body of `nbytes` bytes that is still to come, or say why there is none.

        What was found is given back when it is answered, or `lost`.
        """

    def start(self) -> None:
        """The request is complete: start making the answer."""

    def flush(self, transport: ResponseWriter) -> bool:
        """It is the oldest now: write what there is; True when that was all of it."""

    def writable(self) -> None:
        """The client has room for more of the answer."""

    def lost(self) -> None:
        """The connection is no more, or reads no more of the request."""
