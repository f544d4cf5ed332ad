"""Converts values without a JSON type, and explains which values are refused. Pure.

`msgspec` writes None, numbers, texts, lists, dicts, dataclasses, enumerations, sets, dates, times,
durations, `UUID`, `Decimal`, structs and bytes by itself. It passes all other values to `plain`,
including keys of dicts. `refusal` is only called after a failure.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set, ValuesView
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesh.errors import EncodingError

MAX_DEPTH = 200  # levels that are searched for the part that could not be written
MAX_VALUES = 100_000  # parts of one value that are searched
_MAX_PLACE_CHARS = 200  # characters

Write = Callable[[Any], bytes]

# The most frequent types in results, and their conversions to plain values.
_SCALARS: dict[type, Callable[[Any], object]] = {
    np.bool_: bool,
    np.str_: str,
    np.bytes_: bytes,
    **dict.fromkeys((np.float16, np.float32, np.float64, np.longdouble), float),
    **dict.fromkeys((np.int8, np.int16, np.int32, np.int64), int),
    **dict.fromkeys((np.uint8, np.uint16, np.uint32, np.uint64), int),
}
# These reach `plain` only as keys of dicts; they are written as by json.dumps.
_KEYS: dict[object, str] = {True: "true", False: "false", None: "null"}
# Subclasses of these are written as the plain type.
_BASES: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda content: bytes(memoryview(content))),
    (Mapping, dict),
    ((Sequence, Set, ValuesView, deque), list),
)
_NOT_A_TIME = -(2**63)  # how numpy keeps NaT
# Attoseconds in each of numpy's units of time that have a fixed length.
_SECOND = 10**18
_UNITS = {
    **{"W": 604_800 * _SECOND, "D": 86_400 * _SECOND, "h": 3600 * _SECOND, "m": 60 * _SECOND},
    **{"s": _SECOND, "ms": 10**15, "us": 10**12, "ns": 10**9, "ps": 10**6, "fs": 1000, "as": 1},
}


def plain(value: Any) -> Any:
    """Convert a value that `msgspec` cannot write to one that it can.

    Raises:
        EncodingError: JSON cannot express the value; the text says what it is and what to do.

    Example:
        >>> plain(np.float32(0.5)), plain(np.array([[1, 2], [3, 4]]))
        (0.5, [[1, 2], [3, 4]])
    """
    kind = type(value)
    direct = _SCALARS.get(kind)
    if direct is not None:
        return direct(value)
    if isinstance(value, np.ndarray | np.generic):
        return _listed(value)
    if kind is bool or value is None:
        return _KEYS[value]
    if kind is tuple:  # `msgspec` writes all other tuples itself
        raise EncodingError("a tuple that is a key of a dict; make it a str")
    return _other(value, kind)


def refusal(value: Any, write: Write, error: Exception, form: str = "JSON") -> EncodingError:
    """Explain which part of a value could not be written, and what to do about it. This is slow.

    Args:
        value: the value for which `write` failed.
        write: converts a value to JSON, or raises.
        error: its exception.
        form: the name of the format, for people.
    """
    place, text = _find(value, write, _why(value, error))
    return EncodingError(f"the result cannot be written as {form}: {place} is {text}")


def _why(value: Any, error: Exception) -> str:
    if isinstance(error, EncodingError):
        return str(error)
    kind = type(value).__name__
    article = "an" if kind[0] in "aeiouAEIOU" else "a"
    said = f"{article} {kind} that cannot be written: {type(error).__name__}: {error}"
    return _WORDS.get(type(error), said)


_WORDS: dict[type[Exception], str] = {
    UnicodeEncodeError: "text that is not valid Unicode (half of a surrogate pair)",
    RecursionError: "nested too deeply",
}


def described(value: object) -> str:
    """Describe a value that JSON cannot express, and what to do instead.

    Example:
        >>> described(1j)
        'a complex; send [z.real, z.imag]'
    """
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}; {_advice(value, kind)}"


def _advice(value: object, kind: type) -> str:
    if isinstance(value, complex | np.complexfloating):
        return "send [z.real, z.imag]"
    if kind.__name__ in _UNFINISHED:
        return _UNFINISHED[kind.__name__]
    for method in ("tolist", "to_dict", "model_dump", "_asdict"):
        if hasattr(kind, method):
            return f"convert it with .{method}()"
    return "send its parts as numbers, texts, lists and dicts, or override `serialize`"


_UNFINISHED = {
    "coroutine": "`forward` must await it, or be an ordinary function that runs it",
    "generator": "make it a list: list(...)",
    "async_generator": "make it a list",
}


def _other(value: Any, kind: type) -> Any:
    for base, make in _BASES:
        if isinstance(value, base):
            return make(value)
    if hasattr(kind, "__fspath__"):
        return value.__fspath__()
    if hasattr(kind, "isoformat"):  # a subclass of a date or time, such as those of pandas
        return value.isoformat() if value == value else None
    if hasattr(kind, "model_dump"):  # pydantic's, which need not be installed
        return value.model_dump(mode="json")
    raise EncodingError(described(value))


def _listed(array: NDArray[Any] | np.generic) -> Any:
    kind = array.dtype.kind
    if kind == "c":
        text = described(array)
        raise EncodingError(text if array.ndim == 0 else f"an array of {array.dtype}; {_PARTS}")
    if kind == "M":
        texts = np.datetime_as_string(np.asarray(array)).tolist()
        return _without(texts)
    if kind == "m":
        return _durations(np.asarray(array))
    return array.tolist()


_PARTS = "send its .real and its .imag"


def _without(texts: Any) -> Any:
    """Replace each NaT in nested lists by None."""
    if isinstance(texts, list):
        return [_without(text) for text in texts]
    return None if texts == "NaT" else texts


def _durations(array: NDArray[Any]) -> Any:
    unit, step = np.datetime_data(array.dtype)
    counts = array.astype("i8").reshape(-1).tolist()
    texts = [None if count == _NOT_A_TIME else _duration(count * step, unit) for count in counts]
    return np.array(texts, object).reshape(array.shape).tolist()


def _duration(count: int, unit: str) -> str:
    """Format a duration in ISO 8601, as `msgspec` does for a timedelta.

    Example:
        >>> _duration(90_000_000_005, "us"), _duration(-3, "M")
        ('P1DT3600.000005S', '-P3M')
    """
    if unit == "generic":  # numpy's name for no unit
        return str(count)
    sign, count = ("-", -count) if count < 0 else ("", count)
    if unit in ("Y", "M"):
        return f"{sign}P{count}{unit}"
    days, rest = divmod(count * _UNITS[unit], 86_400 * _SECOND)
    whole, part = divmod(rest, _SECOND)
    fraction = f".{part:018d}".rstrip("0").rstrip(".")
    date = f"{days}D" if days else ""
    time = f"T{whole}{fraction}S" if rest or not days else ""
    return f"{sign}P{date}{time}"


# --- where it is ---------------------------------------------------------------------------------


def _find(value: Any, write: Write, text: str) -> tuple[str, str]:
    """Find the innermost part that cannot be written; return its place and description."""
    place, above = "value", {id(value): "value"}
    for _ in range(MAX_DEPTH):
        try:
            found = next(_failing(value, write), None)
            inner = next(_parts(value), None) is not None
        except Exception:  # noqa: BLE001 - inspecting a user's object may fail, too
            return _cut(place), text
        if found is None:  # or it is beyond the limits of the search
            return ("something in " if inner else "") + _cut(place), text
        step, value, text = found
        if value is _IS_KEY:
            return _cut(place + step), text
        place += step
        if id(value) in above:
            return _cut(place), f"{_cut(above[id(value)])} again: it contains itself"
        above[id(value)] = place
    return _cut(place), f"nested too deeply, more than {MAX_DEPTH} levels"


_IS_KEY = object()


def _failing(value: Any, write: Write) -> Iterator[tuple[str, Any, str]]:
    """Yield the parts of a value that cannot be written: place, part and reason."""
    for step, part in islice(_parts(value), MAX_VALUES):
        reason = _reason(part, write)
        if reason:
            yield step, part, reason
    if isinstance(value, Mapping):
        for key in islice(value, MAX_VALUES):
            reason = _reason({key: 0}, write)
            if reason:
                yield f" key {_short(key)}", _IS_KEY, reason


def _reason(part: Any, write: Write) -> str:
    try:
        write(part)
    except Exception as error:  # noqa: BLE001 - a user's object may raise anything
        return _why(part, error)
    return ""


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value, each with the expression that leads to it."""
    names = _field_names(value)
    if isinstance(value, Mapping):
        return ((f"[{_short(key)}]", part) for key, part in value.items())
    if names:
        return ((f".{name}", getattr(value, name, None)) for name in names)
    if isinstance(value, np.ndarray):
        places = np.ndindex(value.shape) if value.dtype.kind == "O" else iter(())
        return ((f"[{', '.join(map(str, place))}]", value[place]) for place in places)
    if isinstance(value, set | frozenset):
        return (("{...}", part) for part in value)
    if isinstance(value, Sequence | deque) and not isinstance(value, str | bytes | bytearray):
        return ((f"[{number}]", part) for number, part in enumerate(value))
    return iter(())


def _field_names(value: Any) -> Sequence[str]:
    """Return the field names of a dataclass, a struct or a named tuple."""
    if isinstance(value, type):
        return ()  # a class has fields but no values
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    names: Sequence[str] = getattr(value, "__struct_fields__", ())
    return names or (getattr(value, "_fields", ()) if isinstance(value, tuple) else ())


def _short(key: object) -> str:
    text = f'"{key}"' if isinstance(key, str) else repr(key)
    return text if len(text) <= 40 else f"{text[:36]}..."


def _cut(place: str) -> str:
    half = _MAX_PLACE_CHARS // 2
    return place if len(place) <= _MAX_PLACE_CHARS else f"{place[:half]} ... {place[-half:]}"
