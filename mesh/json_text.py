"""JSON bodies: bytes to values and back, fast where nothing is odd. Pure.

`msgspec` reads and writes what is usual, ten times as fast as the standard library, which has the
last word on everything else: what it alone understands (NaN, UTF-16), and what to say of an error.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

from mesh.errors import DecodingError, EncodingError


class _Encoder(json.JSONEncoder):
    """Compact JSON that says what to do about a type it does not know."""

    def default(self, o: Any) -> NoReturn:
        kind = type(o)
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        advice = "convert it with .tolist()" if hasattr(o, "tolist") else "override `serialize`"
        raise TypeError(f"it holds a {name}; {advice}")


_STRICT = _Encoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode
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
    """Write a value as compact JSON.

    Beside what JSON knows itself, dataclasses, enumerations, sets, dates, times, `UUID` and
    `Decimal` are written, and bytes within such a value as base64.

    Raises:
        EncodingError: JSON cannot express it; the text says why.

    Example:
        >>> write_json({"a": (1, None)})
        b'{"a":[1,null]}'
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return _write_slowly(value)  # a body that is not JSON: say how such a one is made
    try:
        text: bytes = _write(value)
        if b"null" in text:  # NaN would become one, too: the strict writer finds it
            value = msgspec.to_builtins(value)
    except _ODD:
        return _write_slowly(value)
    return _write_slowly(value) if b"null" in text else text


def _write_slowly(value: Any) -> bytes:
    try:
        return _STRICT.encode(value).encode()
    except UnicodeEncodeError:
        raise EncodingError("the result holds text that is not valid Unicode") from None
    except RecursionError:
        raise EncodingError("the result is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise EncodingError(f"the result cannot be written as JSON: {error}") from None
