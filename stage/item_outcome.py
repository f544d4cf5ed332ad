"""The outcome of one task of a batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.protocol.messages import Buffer


@dataclass(slots=True)
class ItemOutcome:
    """The outcome of one task of a batch.

    Attributes:
        buffers: the answer's body after the last stage, else the input of the next stage. They are
            safe to send, because nothing changes them any more. For a failure: the exception as one
            line, for the gateway's log, and with `debug` its traceback, for the client.
        code: "" for a result, else the error's code.
        text: the error's message for the client.
        seconds: how long it took; for the tasks of one `forward`, the time of the whole batch.
        status: the HTTP status that the worker chose, 0 for the default.
        headers: further HTTP headers that the worker set.
        content_type: the content type that the worker chose, "" for the default.
    """

    buffers: list[Buffer] = field(default_factory=list)
    code: str = ""
    text: str = ""
    seconds: float = 0.0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
