"""Encodes values to buffers and back: how a result of one stage reaches the next. Pure.

`encode` makes a list of buffers. The first is the *skeleton*, in msgpack. An array of
`OWN_BUFFER_BYTES` bytes or more is replaced by a placeholder in the skeleton, and follows as a
separate buffer, flat and uncopied, in the order of the placeholders. The same applies to large
``bytes`` that are the value itself, or an item of its outermost dict, list or tuple.

`docs/values.md` says which types are kept, changed and refused. Three choices behind it:

- Tuples are kept: in the skeleton they are arrays that begin with a mark. Arrays are only examined
  if the skeleton contains the bytes of the mark.
- Decoded arrays are read-only views of the received bytes. With writable views, two readers of one
  buffer could disturb each other.
- `encode` copies no array, so other code may still change it. The sender of the buffers must
release
  the values and then call `mesh.worker.buffer_ownership.isolate`, which copies the arrays that
  other code still refers to.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from mesh.errors import DecodingError, EncodingError
from mesh.protocol.messages import Buffer

OWN_BUFFER_BYTES = 1024  # bytes from which an array or a bytes object gets a separate buffer
MAX_DIMENSIONS = 32
_MAX_DEPTH = 500  # levels of nesting that can be encoded; msgpack fails at 511 or 1024
_SEARCHED_ITEMS = 64  # longer lists and dicts are not searched for large bytes
_KEPT_BUFFER_BYTES = 1 << 20  # an encoder whose buffer grew larger is not reused

# The extension types of the skeleton.
_MARK, _INLINE, _ARRAY, _BYTES, _SCALAR = 1, 2, 3, 4, 5
# An array's dtype is encoded as its index in this list: append only.
_NAMES = "bool int8 <i2 <i4 <i8 uint8 <u2 <u4 <u8 <f2 <f4 <f8 <c8 <c16"
_DTYPES = [np.dtype(name) for name in _NAMES.split()]
_CODES = {dtype: code for code, dtype in enumerate(_DTYPES)}
_TUPLE = msgpack.ExtType(_MARK, b"")
_TUPLE_BYTES: bytes = msgpack.packb(_TUPLE)

# Subclasses of these are converted to the plain type. (`bool` has no subclasses.)
_PLAIN: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (tuple, lambda items: [_TUPLE, *items]),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (dict, dict),
    (list, list),
    (bytes, lambda content: bytes(memoryview(content))),
)


def encode(value: object) -> list[Buffer]:
    """Encode a value to buffers, which `decode` converts back.

    Args:
        value: None, bool, int (64 bit), float, str, bytes, list, tuple, dict, numpy arrays and
            numpy scalars, in any combination.

    Returns:
        The skeleton, then the large arrays and bytes. Only arrays that are not C-contiguous, or
        whose bytes are swapped, are copied. See `mesh.worker.buffer_ownership`.

    Raises:
        EncodingError: a part of the value cannot be encoded; the text says which, and what to do.

    Example:
        >>> decode(encode({"shape": (2, 3), "scores": [0.5, 0.25]}))
        {'shape': (2, 3), 'scores': [0.5, 0.25]}
    """
    try:
        encoder = _idle.pop()
    except IndexError:
        encoder = _Encoder()
    try:
        skeleton = encoder.pack(_set_apart(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise _explain(value, error) from None
    buffers: list[Buffer] = [skeleton]
    if encoder.apart:
        buffers += encoder.apart
        encoder.apart.clear()
    if len(skeleton) < _KEPT_BUFFER_BYTES:
        _idle.append(encoder)
    return buffers


def decode(payload: Buffer | Sequence[Buffer]) -> object:
    """Decode the buffers of `encode`. Any input yields a value or `DecodingError`.

    Args:
        payload: the buffers, or the only buffer.

    Returns:
        The value. Its arrays are read-only; large ones are views that keep the received buffers
        alive. Large bytes are copied once.

    Raises:
        DecodingError: the buffers are not an encoded value.
    """
    skeleton, parts = _split(payload)
    reader = _Reader(parts)
    has_tuples = skeleton.find(_TUPLE_BYTES) >= 0
    try:
        value: object = msgpack.unpackb(
            skeleton,
            ext_hook=reader.extension,
            list_hook=reader.tuple_or_list if has_tuples else None,
            strict_map_key=False,
            timestamp=1,
        )
    except _NOT_A_VALUE:
        raise DecodingError("the payload is not an encoded value") from None
    if reader.used != len(parts) or reader.marks:
        raise DecodingError("the payload's buffers do not match its skeleton")
    return value


class _Blob:
    """Stands for bytes that get a separate buffer; msgpack would write plain bytes inline."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content


class _Encoder:
    """A reusable msgpack packer, and the separate buffers of the current value."""

    __slots__ = ("apart", "pack")

    def __init__(self) -> None:
        self.apart: list[Buffer] = []
        packer = msgpack.Packer(default=self._special, strict_types=True, autoreset=True)
        self.pack: Callable[[object], bytes] = packer.pack

    def _special(self, value: object) -> object:
        """Encode a value for which msgpack has no type; msgpack calls this."""
        if type(value) is np.ndarray:
            return self._array(value)
        if type(value) is _Blob:
            self.apart.append(value.content)
            return msgpack.ExtType(_BYTES, b"")
        if isinstance(value, np.generic) and value.dtype in _CODES:
            return msgpack.ExtType(_SCALAR, bytes((_CODES[value.dtype],)) + value.tobytes())
        for kind, plain in _PLAIN:
            if isinstance(value, kind):
                return plain(value)
        raise TypeError

    def _array(self, array: NDArray[Any]) -> msgpack.ExtType:
        code = _CODES.get(array.dtype)
        if code is None:
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            code = _CODES.get(array.dtype)
        if code is None or array.ndim > MAX_DIMENSIONS:
            raise TypeError
        head = struct.pack(f"<BB{array.ndim}Q", code, array.ndim, *array.shape)
        if array.nbytes < OWN_BUFFER_BYTES:
            return msgpack.ExtType(_INLINE, head + array.tobytes())
        if not array.flags.c_contiguous:
            array = array.copy(order="C")
        self.apart.append(array.reshape(-1).view(np.uint8).data)
        return msgpack.ExtType(_ARRAY, head)


# Encoders that are not in use. Taking and returning an encoder is atomic, so any thread may encode.
# An encoder that failed is not returned.
_idle: list[_Encoder] = []


def _set_apart(value: object) -> object:
    """Replace large bytes by `_Blob`s in the outermost level of the value."""
    if type(value) is bytes:
        return _blob(value)
    if type(value) is dict and len(value) <= _SEARCHED_ITEMS:
        for item in value.values():
            if type(item) is bytes and len(item) >= OWN_BUFFER_BYTES:
                return {key: _blob(item) for key, item in value.items()}
    elif type(value) in _ROWS and len(value) <= _SEARCHED_ITEMS:  # type: ignore[arg-type]
        for item in value:  # type: ignore[attr-defined]
            if type(item) is bytes and len(item) >= OWN_BUFFER_BYTES:
                return type(value)(map(_blob, value))  # type: ignore[call-arg, call-overload]
    return value


_ROWS = frozenset({list, tuple})


def _blob(value: object) -> object:
    return _Blob(value) if type(value) is bytes and len(value) >= OWN_BUFFER_BYTES else value


def _explain(value: object, error: Exception) -> EncodingError:
    """Find the part that could not be encoded. This is slow, and only runs after a failure."""
    waiting = [(value, "value", 0)]
    while waiting:
        item, where, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            text = f"the value is nested deeper than {_MAX_DEPTH} levels, or contains itself"
            return EncodingError(text)
        inner = [(child, place, depth + 1) for child, place in _children(item, where)]
        waiting += reversed(inner)
        if not inner and not _travels(item):
            return EncodingError(f"{where} is {_describe(item)}")
    return EncodingError(f"the value cannot be encoded: {error}")


def _children(item: object, where: str) -> Iterator[tuple[object, str]]:
    if isinstance(item, dict):
        for key, child in item.items():
            yield key, f"{where} key {_short(key)}"
            yield child, f"{where}[{_short(key)}]"
    elif isinstance(item, list | tuple):
        for index, child in enumerate(item):
            yield child, f"{where}[{index}]"


def _travels(leaf: object) -> bool:
    try:
        _Encoder().pack(leaf)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _short(key: object) -> str:
    text = f'"{key}"' if isinstance(key, str) else repr(key)
    return text if len(text) <= 40 else f"{text[:36]}..."


def _describe(leaf: object) -> str:
    """Describe a refused value, and what to send in its place."""
    if isinstance(leaf, np.ndarray | np.generic):
        return _describe_array(leaf)
    if isinstance(leaf, int):
        return "an int of more than 64 bits; send it as a str"
    if isinstance(leaf, str):
        return "a str that is not valid Unicode (half of a surrogate pair)"
    if isinstance(leaf, set | frozenset):
        return f"a {type(leaf).__name__}, which has no order; send a list"
    kind = type(leaf)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    return f"{article} {name}, which does not travel; send plain values or override `serialize_ipc`"


def _describe_array(array: NDArray[Any] | np.generic) -> str:
    name = type(array).__name__
    if array.ndim > MAX_DIMENSIONS:
        return f"an {name} of {array.ndim} dimensions; at most {MAX_DIMENSIONS} travel"
    if array.dtype.newbyteorder("<") in _CODES:
        return f"a {name}, a kind of array that does not travel; send numpy.array(it)"
    return f"a {name} of dtype {array.dtype}, which does not travel; convert it with .astype()"


# The exceptions of msgpack, numpy and struct for invalid bytes.
_NOT_A_VALUE = (
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    BufferError,
    RecursionError,
    struct.error,
    msgpack.UnpackException,
)


def _split(payload: Buffer | Sequence[Buffer]) -> tuple[bytes, Sequence[Buffer]]:
    """Separate the skeleton from the buffers that follow it."""
    if type(payload) is bytes:
        return payload, ()
    if isinstance(payload, _BUFFERS):
        return bytes(payload), ()
    if not payload:
        raise DecodingError("the payload has no buffers at all")
    first = payload[0]
    return first if type(first) is bytes else bytes(first), payload[1:]


_BUFFERS = (bytes, bytearray, memoryview)


class _Reader:
    """Fills the placeholders of one skeleton; each buffer is used exactly once.

    Attributes:
        used: how many buffers have been used.
        marks: how many tuple marks were read and not yet used.
    """

    __slots__ = ("_parts", "marks", "used")

    def __init__(self, parts: Sequence[Buffer]) -> None:
        self._parts = parts
        self.used = 0
        self.marks = 0

    def extension(self, code: int, content: bytes) -> object:
        """Decode a value of an extension type; msgpack calls this in the order of the skeleton."""
        if code == _MARK and not content:
            self.marks += 1
            return _TUPLE
        if code == _INLINE:
            size = 2 + 8 * content[1] if len(content) > 1 else 0
            return _restore(content[:size], content[size:])
        if code == _ARRAY:
            return _restore(content, memoryview(self._take()).cast("B").toreadonly())
        if code == _BYTES and not content:
            return bytes(self._take())
        if code == _SCALAR:
            return np.frombuffer(content, _dtype(content), 1, 1)[0]
        raise ValueError("unknown extension type")

    def tuple_or_list(self, items: list[object]) -> object:
        """Convert an array that begins with the mark back to a tuple."""
        if items and items[0] is _TUPLE:
            self.marks -= 1
            del items[0]
            return tuple(items)
        return items

    def _take(self) -> Buffer:
        if self.used == len(self._parts):
            raise ValueError("a buffer is missing")
        self.used += 1
        return self._parts[self.used - 1]


def _dtype(head: bytes) -> np.dtype[Any]:
    if not head or head[0] >= len(_DTYPES):
        raise ValueError("unknown dtype")
    return _DTYPES[head[0]]


def _restore(head: bytes, content: bytes | memoryview) -> NDArray[Any]:
    """Make the array that `head` describes, as a read-only view of `content`."""
    dtype = _dtype(head)
    dimensions = head[1] if len(head) > 1 else MAX_DIMENSIONS + 1
    if dimensions > MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    shape = struct.unpack(f"<{dimensions}Q", head[2:])
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError("shape and length differ")
    array = np.frombuffer(content, dtype) if content else np.empty(0, dtype)
    array = array.reshape(shape)
    if not array.flags.aligned:
        array = array.copy()
    array.flags.writeable = False
    return array
