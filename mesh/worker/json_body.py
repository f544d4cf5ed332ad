"""JSON bodies: bytes to values and back, fast where nothing is odd. Pure.

`msgspec` reads and writes what is usual, ten times as fast as the standard library, which has the
last word on what is read otherwise: what it alone understands (NaN, UTF-16), and what to say of an
error. What is written beside JSON's own types is decided in `mesh/worker/json_values.py`.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from mesh.errors import DecodingError, EncodingError
from mesh.protocol.messages import Buffer
from mesh.worker.json_values import plain, refusal

_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder(enc_hook=plain).encode
_N, _I = b"NI"
_UP_TO_DECIMALS: Any = {"builtin_types": (Decimal,), "enc_hook": plain}
_ODD = (TypeError, ValueError, RecursionError)


def read_json(body: bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        DecodingError: it is none; the text says where.

    Example:
        >>> read_json(b'{"a": [1, 2.5]}')
        {'a': [1, 2.5]}
    """
    try:
        return _read(body)
    except _ODD:
        return _read_slowly(body)


def _read_slowly(body: bytes) -> Any:
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        place = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise DecodingError(f"the body is not JSON: {place}") from None
    except UnicodeDecodeError:
        raise DecodingError("the body is not JSON: it is not UTF-8 text") from None
    except RecursionError:
        raise DecodingError("the body is nested too deeply") from None
    except ValueError:
        raise DecodingError("the body contains a number that is too long") from None


def write_json(value: Any) -> bytes:
    """Write a value as compact JSON; `docs/values.md` says what becomes what.

    NaN and infinity, for which JSON has no word, become null.

    Raises:
        EncodingError: JSON cannot express it; the text says which part, and what to do.

    Example:
        >>> write_json({"a": (1, None), "b": float("nan")})
        b'{"a":[1,null],"b":null}'
    """
    try:
        body = _write(value)
        # Of floats these are null already. One byte is found much faster than several.
        if (_N in body and b"NaN" in body) or (_I in body and b"Infinity" in body):
            return _write(_without_nan(msgspec.to_builtins(value, **_UP_TO_DECIMALS)))
        return body
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's object may raise what it likes
        raise refusal(value, _write, error) from None


def _without_nan(value: Any) -> Any:
    """What consists of lists, dicts and plain values, with None for each `Decimal` that is none."""
    kind = type(value)
    if kind is Decimal:
        return value if value.is_finite() else None
    if kind is dict:
        return {key: _without_nan(part) for key, part in value.items()}
    if kind in (list, tuple, set, frozenset):
        return [_without_nan(part) for part in value]
    return value


def write_body(value: str | Buffer, content_type: str) -> Buffer:
    """A body made of a text or of bytes, as its content type demands.

    JSON is written where the type is JSON's. Under any other, a text is UTF-8, and bytes are what
    they are.

    Raises:
        EncodingError: bytes, and the content type is JSON's; a text that is not Unicode; or a
            content type that is no text.

    Example:
        >>> write_body("gr\u00fcn", "text/plain"), write_body("gr\u00fcn", "application/json")
        (b'gr\xc3\xbcn', b'"gr\xc3\xbcn"')
    """
    if not isinstance(content_type, str):  # a worker may set it to anything at any time
        raise EncodingError(f"resp_mime_type is {content_type!r:.80}; it must be a text")
    if is_json(content_type):
        if isinstance(value, str):
            return write_json(value)
        raise EncodingError(_NO_JSON)
    return _as_text(value) if isinstance(value, str) else value


def is_json(content_type: str) -> bool:
    """Whether a body of this type is JSON.

    Example:
        >>> is_json("application/json; charset=utf-8"), is_json("image/png")
        (True, False)
    """
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


_NO_JSON = (
    "the result is bytes, which are no JSON; say what they are with resp_mime_type or "
    "Reply(..., content_type=...), or put them into a dict or list to have them sent as base64"
)


def _as_text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise EncodingError("the result is text that is not valid Unicode") from None
