"""What an HTTP answer looks like: the one table of codes, and the bytes of results and failures.

Pure.

Every error of the product, wherever it arises, ends as a `code` word. This table alone says which
status it becomes and whether sending the same request again may help. The HTTP wire and the pages
that tornado serves both take it from here, so that a client meets one form of error:

```json
{"error": {"code": "overloaded", "message": "...", "stage": null, "request_id": "...",
           "retryable": true}}
```

Results are made from one bytes template, since this is the hottest code of the gateway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

from mesh.errors import EncodingError
from mesh.logs.control_characters import in_json
from mesh.protocol.messages import Buffer
from mesh.release import VERSION
from mesh.worker.request_info import check_header

Headers = Iterable[tuple[str, str]]

# What every answer says of who made it.
SERVER: Final = f"meshline/{VERSION}"

# Up to this many bytes a body is copied behind its head and leaves in one write; a longer one is
# worth a second write instead of a copy.
INLINE_BYTES: Final = 64 * 1024


class Row(NamedTuple):
    """What a code means over HTTP.

    Attributes:
        status: the status code.
        retryable: whether the same request may succeed if it is retransmitted.
        wait: whether the answer must say when (``Retry-After``).
    """

    status: int
    retryable: bool = False
    wait: bool = False


TABLE: Final[dict[str, Row]] = {
    # the request is at fault
    "bad_request": Row(400),
    "decoding_error": Row(400),
    "cross_site": Row(403),
    "not_found": Row(404),
    "method_not_allowed": Row(405),
    "request_timeout": Row(408, retryable=True),
    "body_too_large": Row(413),
    "unsupported_encoding": Row(415),
    "expectation_failed": Row(417),
    "host_not_served": Row(421),
    "validation_error": Row(422),
    "headers_too_large": Row(431),
    "coding_not_implemented": Row(501),
    "version_not_supported": Row(505),
    # not admitted
    "overloaded": Row(429, retryable=True, wait=True),
    "cannot_meet_deadline": Row(429, retryable=True, wait=True),
    "no_replica": Row(503, retryable=True, wait=True),
    "draining": Row(503, retryable=True, wait=True),
    "too_many_connections": Row(503, retryable=True, wait=True),
    # the service is at fault
    "server_error": Row(500),
    "encoding_error": Row(500),
    "poison_request": Row(500),
    "lost": Row(502, retryable=True),
    "deadline_exceeded": Row(504, retryable=True),
    "forward_timeout": Row(504, retryable=True),
    # never sent, only counted
    "client_gone": Row(499),
}

# The word for an error of which nothing but its status is known (tornado's own errors).
_BY_STATUS: Final = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_encoding",
    422: "validation_error",
    429: "overloaded",
    431: "headers_too_large",
    503: "draining",
}

_RESULT: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: %b\r\n"
    b"Content-Length: %d\r\n"
    b"X-Request-ID: %b\r\n"
    b"Server-Timing: %b\r\n"
    b"Server: " + SERVER.encode() + b"\r\n"
    b"\r\n%b"
)

_HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
)
_BREAKS: Final = re.compile(rb"[\r\n\0]")
_BODILESS: Final = frozenset({204, 304})
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

_TIMINGS: dict[tuple[str, ...], bytes] = {}
_MAX_TIMINGS: Final = 256
# Times under 10 ms as texts in milliseconds, by hundredths: formatting a float takes longer.
_SHORT_US: Final = 10_000
_MS_TEXTS: Final = [b"%.2f" % (hundredth / 100) for hundredth in range(_SHORT_US // 10)]


def row(code: str) -> Row:
    """The table's row for `code`; a word that it does not know counts as ``server_error``.

    Example:
        >>> row("overloaded").status
        429
    """
    return TABLE.get(code) or TABLE["server_error"]


def meaning(code: str, status: int) -> tuple[str, Row]:
    """The code that the client is told, and what it means, where a worker may have chosen them.

    Args:
        code: the outcome's, which may be a word of the worker's own.
        status: the worker's, 0 where it left that to the table.

    Example:
        >>> meaning("quota_exceeded", 429)
        ('quota_exceeded', Row(status=429, retryable=True, wait=True))
        >>> meaning("quota_exceeded", 0)
        ('server_error', Row(status=500, retryable=False, wait=False))
    """
    known = TABLE.get(code)
    if not 400 <= status <= 599 or (known is not None and known.status == status):
        return (code, known) if known else ("server_error", TABLE["server_error"])
    return code, Row(status, retryable=status in _PASSING, wait=status in _WAITING)


_WAITING: Final = frozenset({429, 503})
_PASSING: Final = frozenset({408, 429, 502, 503, 504})


def code_for(status: int) -> str:
    """The code for an error of which only the HTTP status is known.

    Example:
        >>> code_for(404), code_for(418), code_for(599)
        ('not_found', 'bad_request', 'server_error')
    """
    return _BY_STATUS.get(status) or ("bad_request" if status < 500 else "server_error")


def result(request_id: bytes, content_type: bytes, server_timing: bytes, body: Buffer) -> bytes:
    """A whole 200 answer, head and body in one bytes object.

    Meant for bodies up to `INLINE_BYTES` bytes, since the body is copied; a longer one goes as
    ``exchange.respond(result_head(...), body)``. None of the arguments is checked: the id and the
    timing are the gateway's own, the content type was checked when the replica registered.
    """
    return _RESULT % (content_type, len(body), request_id, server_timing, body)


def result_head(request_id: bytes, content_type: bytes, server_timing: bytes, length: int) -> bytes:
    """The head of a 200 answer whose body of `length` bytes is written after it, uncopied."""
    return _RESULT % (content_type, length, request_id, server_timing, b"")


def special_head(
    status: int,
    request_id: bytes,
    content_type: bytes,
    headers: Headers,
    server_timing: bytes,
    length: int,
) -> bytes:
    """The head of an answer whose worker chose the status or set headers of its own.

    Args:
        status: what the worker chose, 0 for the usual 200.
        request_id: goes into ``X-Request-ID``.
        content_type: of the body.
        headers: the worker's; one that names ``Content-Type`` replaces `content_type`, one that
            names ``Server`` replaces ours.
        server_timing: goes into ``Server-Timing``.
        length: bytes of the body. The caller must not write a body where `has_body` says no.

    Raises:
        EncodingError: a status that cannot end a request, or a header that is malformed or would
            change the framing of the answer.
    """
    status = _checked_status(status or 200)
    lines = []
    server = SERVER
    kind = content_type.decode("latin-1")
    for name, value in headers:
        check_header(name, value)
        if name.lower() == "content-type":
            kind = value
        elif name.lower() == "server":
            server = value
        else:
            lines.append((name, value))
    if has_body(status):
        check_header("Content-Type", kind)
        lines[:0] = [("Content-Type", kind), ("Content-Length", str(length))]
    lines.append(("X-Request-ID", request_id.decode("latin-1")))
    lines.append(("Server-Timing", server_timing.decode("latin-1")))
    lines.append(("Server", server))
    return head(status, lines)


def has_body(status: int) -> bool:
    """Whether an answer with this status carries a body at all."""
    return status >= 200 and status not in _BODILESS


def head(status: int, headers: Headers) -> bytes:
    """Status line and header lines, with the empty line that ends them; nothing is checked.

    Example:
        >>> head(204, [("X-Request-ID", "7")])
        b'HTTP/1.1 204 No Content\\r\\nX-Request-ID: 7\\r\\n\\r\\n'
    """
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")


def parted(head: bytes) -> list[tuple[bytes, bytes]]:
    """A head as HTTP/2 has it: ``:status`` first, names in lower case, no hop-by-hop lines.

    Raises:
        ValueError: a line of it breaks out of its line.

    Example:
        >>> parted(b"HTTP/1.1 204 No Content\\r\\nX-Request-ID: 7\\r\\nConnection: close")
        [(b':status', b'204'), (b'x-request-id', b'7')]
    """
    first, *lines = head.split(b"\r\n")
    if any(_BREAKS.search(line) for line in lines):
        raise ValueError("a header line of the answer contains CR, LF or NUL")
    headers = [(b":status", first[9:12])]
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _HOP_BY_HOP:
            headers.append((name, value.strip()))
    return headers


def failure_body(
    code: str,
    message: str,
    stage: str | None,
    request_id: bytes,
    status: int = 0,
    traceback: str = "",
) -> bytes:
    """The JSON that every error answer carries, UTF-8; a traceback only where debugging is on."""
    told, means = meaning(code, status)
    error = {
        "code": told,
        "message": message,
        "stage": stage,
        "request_id": request_id.decode("latin-1"),
        "retryable": means.retryable,
    }
    if traceback:
        error["traceback"] = traceback
    text = json.dumps({"error": error}, ensure_ascii=False, separators=(",", ":"))
    return in_json(text.encode("utf-8", "replace"))


def failure(  # noqa: PLR0913 - all that an error answer may say
    code: str,
    message: str,
    stage: str | None,
    request_id: bytes,
    retry_after: int | None = None,
    headers: Headers = (),
    status: int = 0,
    traceback: str = "",
) -> bytes:
    """A whole error answer.

    Args:
        code: a word of `TABLE`, or one of the worker's own.
        message: for people; never a path or a line number, unless debugging is on.
        stage: the stage at fault, or None.
        request_id: goes into ``X-Request-ID`` and the body.
        retry_after: seconds; where the table demands one, the default is 1.
        headers: further ones, such as ``Allow`` or ``Server-Timing``; not checked.
        status: the worker's choice, 0 for the table's.
        traceback: of the worker's exception, where debugging is on.

    Example:
        >>> failure("draining", "this gateway is stopping", None, b"7").split(b"\\r\\n")[0]
        b'HTTP/1.1 503 Service Unavailable'
    """
    body = failure_body(code, message, stage, request_id, status, traceback)
    _, means = meaning(code, status)
    lines = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("X-Request-ID", request_id.decode("latin-1")),
        ("Server", SERVER),
        *headers,
    ]
    if means.wait and not any(name == "Retry-After" for name, _ in lines):
        lines.append(("Retry-After", str(retry_after or 1)))
    return head(means.status, lines) + body


def server_timing(stages: tuple[str, ...], timings: tuple[int, ...]) -> bytes:
    """The value of ``Server-Timing``: for each stage how long it queued and computed, in ms.

    Args:
        stages: names of the route's stages, in order.
        timings: microseconds, flat: queue, compute, queue, compute, ...; may end early.

    Example:
        >>> server_timing(("decode",), (100, 12300))
        b'decode-queue;dur=0.10, decode;dur=12.30'
    """
    template = _TIMINGS.get(stages)
    if template is None or len(timings) != 2 * len(stages):
        reached = stages[: len(timings) // 2]
        timings = timings[: 2 * len(reached)]
        template = _TIMINGS.get(reached) or _timing_template(reached)
    if len(timings) == 2:
        queue, compute = timings
        return template % (
            _MS_TEXTS[queue // 10] if queue < _SHORT_US else b"%.2f" % (queue / 1000),
            _MS_TEXTS[compute // 10] if compute < _SHORT_US else b"%.2f" % (compute / 1000),
        )
    return template % tuple([b"%.2f" % (microseconds / 1000) for microseconds in timings])


def _timing_template(stages: tuple[str, ...]) -> bytes:
    """Make and keep the template for these stages; a stage's name becomes an HTTP token."""
    if len(_TIMINGS) >= _MAX_TIMINGS:
        _TIMINGS.clear()
    names = [re.sub(r"[^0-9A-Za-z._-]", "-", stage) for stage in stages]
    text = ", ".join(f"{name}-queue;dur=%b, {name};dur=%b" for name in names)
    template = text.encode("ascii")
    _TIMINGS[stages] = template
    return template


def _checked_status(status: int) -> int:
    if not 200 <= status <= 599:
        raise EncodingError(f"a worker chose the status {status}; choose one from 200 to 599")
    return status
