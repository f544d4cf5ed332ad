"""Converts payloads to inputs of `forward`, and its results to payloads, by the worker's methods.

The first stage decodes the body of the request, the last stage encodes the body of the answer.
Between stages the worker's own format is used. What a worker returns is not trusted: a buffer is
made flat, so that its length is the number of bytes sent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mesh.errors import EncodingError
from mesh.protocol.messages import Buffer, Task
from mesh.worker.base import BODIES, Worker
from mesh.worker.json_body import write_body
from mesh.worker.request_info import Reply, check_header
from stage.failures import Failures
from stage.item_outcome import ItemOutcome

_BODILESS = frozenset({204, 304})  # statuses of answers that have no body


class ItemCodec:
    """Converts one item at a time.

    Args:
        worker: the user's worker, whose `deserialize`, `serialize` and `_ipc` methods convert.
        failures: judges and logs what the worker raises.
    """

    __slots__ = ("_failures", "_worker", "_writes_itself")

    def __init__(self, worker: Worker, failures: Failures) -> None:
        self._worker = worker
        self._failures = failures
        self._writes_itself = type(worker).serialize is not Worker.serialize

    def decode(self, task: Task) -> Any:
        """Return the input of `forward`; raises whatever the worker's methods raise."""
        buffers = task.buffers
        if not task.hop:
            first = buffers[0] if len(buffers) == 1 else None
            return self._worker.deserialize(first if type(first) is bytes else b"".join(buffers))
        return self._worker.deserialize_ipc(buffers[0] if len(buffers) == 1 else buffers)

    def encode(self, task: Task, result: Any) -> ItemOutcome:
        """Return the outcome of a task from its result, which may be an exception or an outcome.

        Raises:
            EncodingError: the worker returned something that cannot be sent.
        """
        if type(result) is ItemOutcome:
            return replace(result, buffers=list(result.buffers))
        if issubclass(type(result), BaseException):
            return self._failures.outcome(result, [task])
        if isinstance(result, Reply):
            return self._encode_reply(task, result)
        if len(task.hops) == 1:
            body = self._worker.serialize(result)
            return ItemOutcome([body if type(body) is bytes else _checked(body, "serialize")])
        output = self._worker.serialize_ipc(result)
        if type(output) is not list:
            return ItemOutcome([_checked(output, "serialize_ipc")])
        if len(output) == 1 and type(output[0]) is bytes:
            return ItemOutcome(output)
        if not output:
            raise EncodingError("serialize_ipc returned an empty list; it must hold a buffer")
        return ItemOutcome([_checked(buffer, "serialize_ipc") for buffer in output])

    def _encode_reply(self, task: Task, reply: Reply) -> ItemOutcome:
        if len(task.hops) > 1:
            raise EncodingError("forward returned a Reply; only the last stage of a route may")
        for name, value in reply.headers.items():
            check_header(name, value)
        if reply.value is not None and reply.status in _BODILESS:
            self._failures.log_dropped(reply, task)
        outcome = ItemOutcome([_checked(self._reply_body(reply), "serialize")])
        outcome.status = reply.status
        outcome.headers = tuple(reply.headers.items())
        outcome.content_type = reply.content_type or ""
        return outcome

    def _reply_body(self, reply: Reply) -> Buffer:
        """Serialize a Reply's value; bytes with a content type already are the body."""
        value, kind = reply.value, reply.content_type
        if reply.status in _BODILESS:
            return b""
        if self._writes_itself or kind is None or not isinstance(value, BODIES):
            return self._worker.serialize(value)
        return write_body(value, kind) if isinstance(value, str) else value


def _checked(buffer: object, method: str) -> Buffer:
    """Make a buffer flat bytes, with a length that can be trusted."""
    kind = type(buffer)
    if kind is bytes:
        return buffer  # type: ignore[return-value]
    if kind is memoryview:
        assert isinstance(buffer, memoryview)
        flat = buffer.format == "B" and buffer.ndim == 1 and buffer.c_contiguous
        return buffer if flat else bytes(buffer)
    if kind is bytearray:
        return buffer  # type: ignore[return-value]
    if issubclass(kind, bytes | bytearray):  # a subclass may have a length of its own
        return bytes(memoryview(buffer))  # type: ignore[arg-type]
    advice = "; call .encode() on it" if issubclass(kind, str) else ""
    raise EncodingError(f"{method} returned a {kind.__name__} where it must return bytes{advice}")
