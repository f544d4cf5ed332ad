"""What became of one task of a batch. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.protocol.messages import Buffer


@dataclass(slots=True)
class ItemOutcome:
    """What became of one task of a batch.

    Attributes:
        buffers: the answer's body after the last stage, else what the next stage receives. They
            are safe to send: nobody will change them. Of a failure what was raised, as a line,
            for the gateway's log, and with `debug` its traceback, for the client.
        code: "" for a result, else the error's code.
        text: the error's message, fit for the client.
        seconds: what it took; for the tasks of one `forward` the time of the whole batch.
        status: HTTP status that the worker chose, 0 for the usual.
        headers: further HTTP headers that it set.
        content_type: the one that it chose, "" for the usual.
    """

    buffers: list[Buffer] = field(default_factory=list)
    code: str = ""
    text: str = ""
    seconds: float = 0.0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
