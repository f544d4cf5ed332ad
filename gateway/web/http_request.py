"""The interface of every HTTP request to its connection, inference or not. Pure."""

from __future__ import annotations

from typing import Final, Protocol

from mesh.protocol.messages import Buffer

# The values of an answer's Connection header, where it needs one.
CLOSE: Final = b"close"
KEEP: Final = b"keep-alive"


def with_connection(answer: bytes, value: bytes) -> bytes:
    """Return the answer with a ``Connection`` header after its status line.

    Example:
        >>> with_connection(b"HTTP/1.1 200 OK\\r\\n\\r\\n", CLOSE)
        b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n'
    """
    return answer.replace(b"\r\n", b"\r\nConnection: " + value + b"\r\n", 1)


class Route(Protocol):
    """What a connection needs to know of an inference route."""

    @property
    def endpoint(self) -> str:
        """The path itself, as metrics and the access log name it."""

    @property
    def wants_meta(self) -> bool:
        """Whether a worker of the route asked for the request's method, query and headers."""

    def hold(self, nbytes: int) -> None:
        """Charge `nbytes` more bytes of answers that clients have not read; fewer if negative."""


class ResponseWriter(Protocol):
    """The methods of a transport that answers use."""

    def write(self, piece: Buffer, /) -> object:
        """Send `piece`, or buffer it until it can be sent; it must not change any more."""

    def abort(self) -> None:
        """Close at once; what was not sent is lost."""


class HttpRequest(Protocol):
    """A request on a connection: an exchange, or the request of a page.

    The attributes are those of `Exchange`; `status` and `sent` (bytes) are the answer's.
    """

    target: bytes
    body: bytes
    request_id: bytes | None
    arrived: float
    connection: bytes

    @property
    def awaits_turn(self) -> bool:
        """Whether it must start only when it is the oldest of its connection."""

    @property
    def method(self) -> bytes:
        """The method, such as ``b"POST"``."""

    @property
    def route(self) -> Route | None:
        """The route, if the request is inference."""

    @property
    def status(self) -> int:
        """The status of the answer, 0 before there is one."""

    @property
    def sent(self) -> int:
        """The bytes written of the answer."""

    def take_header(self, kind: int, value: bytes) -> None:
        """Read a header line of one of the kinds of `gateway.web.headers`."""

    def sent_header(self, name: bytes) -> bytes:
        """The value of a header of the answer, empty if it has none."""

    def admit(self, nbytes: int) -> bytes | None:
        """Reserve room for a body of `nbytes` bytes; return the answer that refuses it, or None.

        The room is released when the request is answered, or `lost`.
        """

    def start(self) -> None:
        """Start the answer: the request is complete."""

    def flush(self, transport: ResponseWriter) -> bool:
        """Write what is ready of the answer, as the oldest request; return whether that was all."""

    def writable(self) -> None:
        """Continue the answer: the client reads again."""

    def lost(self) -> None:
        """End the request: its connection is gone, or reads no more of it."""
