"""What the HTTP server allows its clients. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# A body must come at least this fast once its `body_timeout` is over.
BODY_BYTES_PER_S: Final = 16 * 1024
# Bytes by which the room for a body of unknown length grows.
BODY_STEP_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What the HTTP wire allows a client. Sizes in bytes, times in seconds.

    Attributes:
        max_body: of one request's body.
        max_header: of request line and header lines together.
        head_bytes: of heads that are not complete, on all connections together.
        pipelined: requests of one HTTP/1.1 connection in flight before no more is read from it.
        streams: requests of one HTTP/2 connection in flight; one more is refused.
        connections: open at a time; one more is answered 503.
        idle_timeout: between two requests of a connection.
        header_timeout: from a request's first byte to the end of its headers.
        body_timeout: for the body; each `BODY_BYTES_PER_S` that arrive allow a second more.
        write_timeout: without the client taking any byte of its answer.
        linger: for reading on after an early refusal, so that the client can read the answer:
            as long without anything coming, and `linger_most` altogether.
        page_bytes: of the bodies of all requests together that are not inference.
        unread_bytes: of answers that clients have not taken, all connections together; a quarter
            of it on one.
        uploads_per_address: bodies that one client address may have which come slowly.
    """

    max_body: int = 10 * 1024 * 1024
    max_header: int = 64 * 1024
    head_bytes: int = 64 * 1024 * 1024
    pipelined: int = 16
    streams: int = 100
    connections: int = 20_000
    idle_timeout: float = 75.0
    header_timeout: float = 10.0
    body_timeout: float = 20.0
    write_timeout: float = 30.0
    linger: float = 2.0
    linger_most: float = 30.0
    page_bytes: int = 64 * 1024 * 1024
    unread_bytes: int = 256 * 1024 * 1024
    uploads_per_address: int = 256
