"""Builds requests and interprets answers, without I/O. Pure.

`build` makes a `ClientRequest` of the caller's arguments, `Response` parses an answer, and
`error_of` converts an error answer to an exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from mesh.errors import (
    ClientError,
    DecodingError,
    EncodingError,
    MeshError,
    ServerError,
    SettingsError,
    ValidationError,
)

JSON = "application/json"
BINARY = "application/octet-stream"

# Only the codes whose class does not follow from the status.
_CLASSES: dict[str, type[MeshError]] = {
    "decoding_error": DecodingError,
    "validation_error": ValidationError,
    "encoding_error": EncodingError,
    "overloaded": ServerError,  # 429 is a client error by number, but the service is at fault
    "cannot_meet_deadline": ServerError,
}

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_QUOTED = re.compile(r'"[^"]*"')


class ServiceOrigin(NamedTuple):
    """Where a service listens, and the prefix of its paths.

    `socket` is the path of a Unix socket, "" if the service has host and port.
    """

    host: str
    port: int
    prefix: str
    socket: str = ""


class ClientRequest(NamedTuple):
    """One HTTP request, independent of a connection."""

    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer.

    Attributes:
        status: the HTTP status.
        headers: the headers by lower-case name; the values of a repeated one are joined by commas.
        body: the body as received.

    Example:
        >>> response = client.post("/inference", image_bytes)
        >>> response.json()["lines"], response.timings["detect"]
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300

    @property
    def request_id(self) -> str:
        """The id of the request in the service's logs and traces, "" if the answer has none."""
        return self.headers.get("x-request-id", "")

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds by name, as the ``Server-Timing`` header lists them: queue and compute."""
        return parse_timings(self.headers.get("server-timing", ""))

    def json(self) -> Any:
        """Read the body as JSON.

        Raises:
            ServerError: the body is not JSON.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            kind = self.headers.get("content-type", "no content type")
            raise ServerError(
                f"the answer (status {self.status}, {kind}) is not JSON; read it from `.body`"
            ) from None

    def raise_for_status(self) -> None:
        """Raise the exception for an answer that reports an error."""
        if not self.ok:
            raise error_of(self)


def parse_url(url: str) -> ServiceOrigin:
    """Read a service's URL, such as ``http://127.0.0.1:8000`` or ``http://host/behind/a/proxy``.

    A Unix socket is named ``unix:`` and its absolute path.

    Raises:
        SettingsError: it is not an ``http://`` URL with a host.
    """
    if url.startswith("unix:/"):
        return ServiceOrigin("localhost", 0, "", url.removeprefix("unix:"))
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        raise SettingsError(f"the port in {url!r} is not a number from 1 to 65535") from None
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError(f"{url!r} is not the URL of a service; write http://HOST:PORT")
    if parts.query or parts.fragment:
        raise SettingsError(f"{url!r}: leave out everything from '?' or '#' on")
    return ServiceOrigin(parts.hostname, port, parts.path.rstrip("/"))


def build(
    origin: ServiceOrigin,
    path: str,
    body: object,
    content_type: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> ClientRequest:
    """Make a POST request of a body: bytes go as they are, everything else as JSON.

    Raises:
        ClientError: the body is not bytes, and cannot be written as JSON.
    """
    if isinstance(body, bytes | bytearray | memoryview):
        payload, kind = bytes(body), BINARY
    else:
        payload, kind = _to_json(body), JSON
    named = {"Content-Type": content_type or kind, **(headers or {})}
    return ClientRequest("POST", origin.prefix + path, payload, named)


def _to_json(value: object) -> bytes:
    """Write a value as compact JSON."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ClientError(f"the body cannot be sent as JSON: {error}; send bytes instead") from None


def fold_headers(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Collect headers by lower-case name; the values of a repeated name are joined by commas."""
    folded: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        folded[key] = f"{folded[key]}, {value}" if key in folded else value
    return folded


def parse_timings(header: str) -> dict[str, float]:
    """Read a ``Server-Timing`` header into milliseconds by name.

    Entries without a numeric duration are left out.

    Example:
        >>> parse_timings("decode-queue;dur=0.1, decode;dur=12.3")
        {'decode-queue': 0.1, 'decode': 12.3}
    """
    timings: dict[str, float] = {}
    for metric in _QUOTED.sub("", header).split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        duration = next((p[4:] for p in parameters if p.lower().startswith("dur=")), "")
        if name and _NUMBER.fullmatch(duration):
            timings[name] = float(duration)
    return timings


def error_of(response: Response) -> MeshError:
    """Convert an answer that reports an error to an exception.

    The code of the error decides the class or, if the code is unknown, the status: 4xx is a
    `ClientError`, the rest a `ServerError`. Answers of a proxy in front are handled as well.
    """
    found = _error_object(response)
    code = _text(found, "code")
    fallback = ClientError if 400 <= response.status < 500 else ServerError
    message = _text(found, "message") or f"the service answered with status {response.status}"
    error = _CLASSES.get(code, fallback)(message)
    error.code = code or error.code
    error.status = response.status
    error.stage = _text(found, "stage")
    error.request_id = _text(found, "request_id") or response.request_id
    error.retryable = found.get("retryable") is True
    error.traceback = _text(found, "traceback")
    if error.traceback:
        error.add_note(f"In the service, where debug is on:\n{error.traceback}")
    error.retry_after = _seconds(response.headers.get("retry-after", ""))
    return error


def _error_object(response: Response) -> dict[str, Any]:
    """Return the error object in an answer's body; empty if there is none."""
    try:
        body = response.json()
    except ServerError:
        return {}
    found = body.get("error") if isinstance(body, dict) else None
    return found if isinstance(found, dict) else {}


def _text(found: dict[str, Any], key: str) -> str:
    """Return a text of an error object; "" if it is missing or not a text."""
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _seconds(value: str) -> float | None:
    """Parse ``Retry-After`` in seconds; its other form, a date, is ignored."""
    return float(value) if value.isascii() and value.isdigit() else None


def unreachable(url: str, why: str) -> ServerError:
    """Make the error for a service that was not reached or did not answer."""
    error = ServerError(f"no answer from {url}: {why}")
    error.code = "unreachable"
    error.retryable = True
    return error
