"""`MsgpackMixin`: HTTP bodies in msgpack rather than JSON. Pure."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec

from mesh.errors import DecodingError
from mesh.worker.json_values import plain, refusal

_SMALL_BODY_BYTES = 4096  # a shorter body cannot make msgpack allocate more than a few MiB

_write = msgspec.msgpack.Encoder(enc_hook=plain).encode
_NOT_MSGPACK = (
    ValueError,
    TypeError,
    OverflowError,
    RecursionError,
    msgpack.UnpackException,
)


class MsgpackMixin:
    """Reads and writes HTTP bodies as msgpack; list it before `Worker` among the bases.

    Bytes are sent unchanged, without the base64 that JSON would need. Arrays in the body become
    tuples.

    Example:
        >>> from mesh.worker.base import Worker
        >>> class Size(MsgpackMixin, Worker):
        ...     def forward(self, data):
        ...         return len(data["image"])
        >>> worker = Size()
        >>> worker.forward(worker.deserialize(worker.serialize({"image": b"1234"})))
        4
    """

    resp_mime_type: str = "application/msgpack"

    def deserialize(self, payload: bytes) -> Any:
        """Parse a body.

        Raises:
            DecodingError: the body is not one msgpack value; the client receives 400.
        """
        try:
            if len(payload) > _SMALL_BODY_BYTES:
                _check_lengths(payload)
            return msgpack.unpackb(payload, use_list=False)
        except _NOT_MSGPACK:
            raise DecodingError("the body is not msgpack") from None

    def serialize(self, obj: Any) -> bytes:
        """Write a body with the same conversions as for JSON, except that NaN and bytes are kept.

        Raises:
            EncodingError: msgpack cannot express the value; the client receives 500.
        """
        try:
            return _write(obj)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a user's object may raise what it likes
            raise refusal(obj, _write, error, "msgpack") from None


def _check_lengths(payload: bytes) -> None:
    """Check the lengths in a body without building its values.

    A header of five bytes may claim a million elements, and headers nest. msgpack allocates memory
    for the claimed elements before it reads them, so a small body could fill the memory.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=len(payload))
    unpacker.feed(payload)
    unpacker.skip()
