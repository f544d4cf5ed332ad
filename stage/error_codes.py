"""Maps exceptions of a worker to the code, status and headers for the client. Pure."""

from __future__ import annotations

import math
import operator
import re
from typing import NamedTuple

from mesh.errors import CODES, ClientError, MeshError, ServerError, ValidationError

_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
# The codes that a replica itself gives to a forward; tasks of such a batch may run again.
_RESERVED = frozenset({"forward_timeout"})
# The status of the nearest of these bases, if a subclass sets none.
_STATUSES: tuple[tuple[type[MeshError], int], ...] = (
    (ValidationError, 422),
    (ClientError, 400),
    (ServerError, 500),
)


class ErrorAnswer(NamedTuple):
    """What the client gets for an exception.

    Attributes:
        code: the code of the error.
        status: the HTTP status, 0 for the gateway's own status of the code.
        headers: further HTTP headers.
        fault: which attributes of the error are invalid and were left out; for the log.
    """

    code: str
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    fault: str = ""


def answer_of(error: ClientError | ServerError) -> ErrorAnswer:
    """Return the answer for an error; an invalid code or status is left out.

    Example:
        >>> class QuotaExceeded(ClientError):
        ...     code, status, retry_after = "quota_exceeded", 429, 60
        >>> answer_of(QuotaExceeded())
        ErrorAnswer(code='quota_exceeded', status=429, headers=(('Retry-After', '60'),), fault='')
    """
    base = next(kind for kind in type(error).__mro__ if kind.__module__ == MeshError.__module__)
    code, fault = _code(error, base.code)  # type: ignore[attr-defined]  # one of our errors
    status, more = _status(error)
    if not status and code not in CODES:
        status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    return ErrorAnswer(code, status, _headers(error), fault or more)


def _code(error: MeshError, otherwise: str) -> tuple[str, str]:
    code: object = error.code
    if isinstance(code, str) and _WORD.fullmatch(code) and code not in _RESERVED:
        return str(code), ""
    text = f"its code must be a word such as {otherwise!r} that is not the mesh's own, not {code!r}"
    return otherwise, f"{type(error).__qualname__}: {text:.200}"


def _status(error: MeshError) -> tuple[int, str]:
    status: object = error.status
    if not status:
        return 0, ""
    least = 400 if isinstance(error, ClientError) else 500
    try:
        number = operator.index(status)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if least <= number < least + 100:
        return number, ""
    text = f"its status must be a number from {least} to {least + 99}, not {status!r:.40}"
    return 0, f"{type(error).__qualname__}: {text}"


def _headers(error: MeshError) -> tuple[tuple[str, str], ...]:
    seconds: object = error.retry_after
    if isinstance(seconds, int | float) and 0 <= seconds < math.inf:
        return (("Retry-After", str(math.ceil(seconds))),)
    return ()
