"""Converts JSON bodies to values and back, with a fast path for the usual ones. Pure.

`msgspec` is ten times as fast as the standard library. If it cannot read a body, the standard
library
does: it accepts more (NaN, UTF-16), and its errors name the place. `mesh/worker/json_values.py`
decides how values without a JSON type are written.
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
    """Parse a JSON text.

    Raises:
        DecodingError: the body is not JSON; the text says where.

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
    """Write a value as compact JSON; `docs/values.md` lists the conversions.

    NaN and infinity, which JSON does not have, become null.

    Raises:
        EncodingError: JSON cannot express it; the text says which part, and what to do.

    Example:
        >>> write_json({"a": (1, None), "b": float("nan")})
        b'{"a":[1,null],"b":null}'
    """
    try:
        body = _write(value)
        # Floats of these kinds are null already. Searching for one byte is much faster than for
        # several.
        if (_N in body and b"NaN" in body) or (_I in body and b"Infinity" in body):
            return _write(_without_nan(msgspec.to_builtins(value, **_UP_TO_DECIMALS)))
        return body
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a user's object may raise anything
        raise refusal(value, _write, error) from None


def _without_nan(value: Any) -> Any:
    """Replace each `Decimal` that is NaN or infinite, in lists and dicts, by None."""
    kind = type(value)
    if kind is Decimal:
        return value if value.is_finite() else None
    if kind is dict:
        return {key: _without_nan(part) for key, part in value.items()}
    if kind in (list, tuple, set, frozenset):
        return [_without_nan(part) for part in value]
    return value


def write_body(value: str | Buffer, content_type: str) -> Buffer:
    """Write a text or bytes as a body of a content type.

    For a JSON type, a text is written as JSON. For any other, a text is written as UTF-8, and bytes
    are the body.

    Raises:
        EncodingError: bytes with a JSON type, a text that is not valid Unicode, or a content type
            that is not a text.

    Example:
        >>> write_body("gr\u00fcn", "text/plain"), write_body("gr\u00fcn", "application/json")
        (b'gr\xc3\xbcn', b'"gr\xc3\xbcn"')
    """
    if not isinstance(content_type, str):  # a worker may set it to any value at any time
        raise EncodingError(f"resp_mime_type is {content_type!r:.80}; it must be a text")
    if is_json(content_type):
        if isinstance(value, str):
            return write_json(value)
        raise EncodingError(_NO_JSON)
    return _as_text(value) if isinstance(value, str) else value


def is_json(content_type: str) -> bool:
    """Return whether a body of this type is JSON.

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
