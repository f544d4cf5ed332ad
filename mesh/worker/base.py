"""`Worker`: the class that users subclass, one per stage. Pure.

It works without a server: ``Embed().forward(["a text"])`` in a plain script is an ordinary call.
In a service each call of `Worker.forward` stands between two conversions, which may be overridden:

```
first stage    HTTP body ─► deserialize ─► forward ─► serialize_ipc ─►
in between             ─► deserialize_ipc ─► forward ─► serialize_ipc ─►
last stage             ─► deserialize_ipc ─► forward ─► serialize ─► HTTP body
```
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from mesh.protocol.messages import Buffer
from mesh.worker import codec
from mesh.worker.json_body import read_json, write_body, write_json
from mesh.worker.request_info import RequestFacts

_NESTED = frozenset({dict, list})  # nearly all results: the cheaper of the two questions
BODIES = (str, bytes, bytearray, memoryview)  # what need not be JSON


class Worker(ABC):
    """One stage of a pipeline: subclass it and write `forward`.

    Load the model in ``__init__``; it runs once in each replica, on the thread that later runs
    everything else of yours. `worker_id`, `stage` and `max_batch_size` are set before it is
    called, so it may choose a device by them. There is no need to call ``super().__init__()``.

    Attributes:
        example: an input for `forward`, run once before the replica is announced; for a stage
            with batching a list of inputs.
        multi_examples: several such inputs, run one after the other; `example` is then ignored.
        resp_mime_type: content type of the answers, if this is a route's last stage.
        worker_id: which replica of its stage on this host this is, from 1.
        stage: the stage's name.
        max_batch_size: how many inputs `forward` may receive; above 1 it takes and gives a list.
        wants_meta: set it to True to find method, path, query and headers of the HTTP request in
            `requests`; they are carried only where a worker of the route asks for them.
        requests: while `forward` runs in a service, what is known of the request behind each
            input, in their order; without batching one element. Empty at all other times.

    Example:
        >>> class Double(Worker):
        ...     def forward(self, data):
        ...         return 2 * data
        >>> Double().forward(21)
        42
    """

    example: Any = None
    multi_examples: Sequence[Any] | None = None
    resp_mime_type: str = "application/json"
    worker_id: int = 1
    stage: str = ""
    max_batch_size: int = 1
    wants_meta: bool = False
    requests: Sequence[RequestFacts] = ()

    @abstractmethod
    def forward(self, data: Any) -> Any:
        """Compute. The only method that must be written.

        Args:
            data: what `deserialize` or `deserialize_ipc` made of one request. With
                ``max_batch_size > 1`` a list of at most that many.

        Returns:
            The result; with ``max_batch_size > 1`` a list of results, as long as the inputs and
            in their order. An exception *instance* in that list fails the one request alone. In
            a route's last stage a result may be a `Reply`, which sets status and headers.

        Raises:
            ClientError: the request is at fault (or `ValidationError`, `DecodingError`).
            ServerError: the service is. The text of both reaches the client, that of any other
                exception does not. What is raised out of `forward` fails the whole batch.
        """

    def deserialize(self, payload: bytes) -> Any:
        """Turn an HTTP body into an input of `forward`; JSON unless overridden.

        Args:
            payload: the body. An empty one is read as ``{}``.

        Raises:
            DecodingError: it is not JSON; the client receives 400.
        """
        return read_json(payload) if payload else {}

    def serialize(self, obj: Any) -> Buffer:
        """Turn a result of `forward` into the body of the answer; compact JSON unless overridden.

        `docs/values.md` lists what can be written as JSON. Where `resp_mime_type` is another type,
        bytes are sent as they are, and a text as UTF-8.

        Raises:
            EncodingError: JSON cannot express it; the client receives 500.
        """
        if type(obj) in _NESTED or not isinstance(obj, BODIES):
            return write_json(obj)
        return write_body(obj, self.resp_mime_type)

    def serialize_ipc(self, obj: Any) -> Buffer | list[Buffer]:
        """Turn a result of `forward` into what travels to the next stage.

        `docs/values.md` lists which types are kept, changed and refused. Large arrays become
        buffers of their own and are not copied.

        Raises:
            EncodingError: a type that does not travel; the text names it and where it is.
        """
        return codec.encode(obj)

    def deserialize_ipc(self, payload: Buffer | list[Buffer]) -> Any:
        """Turn what the stage before sent into an input of `forward`.

        Args:
            payload: one buffer, or a list where `serialize_ipc` made several.

        Returns:
            The value; its arrays are read-only views of the received bytes. Copy one to write
            to it: ``array = array.copy()``.

        Raises:
            DecodingError: the bytes are not an encoded value.
        """
        return codec.decode(payload)

    def unload(self) -> None:  # noqa: B027 - overriding it is optional
        """Let go of what ``__init__`` took; called once when the replica has drained."""

    @classmethod
    def get_forward_json_schema(
        cls, target: str, ref_template: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe `forward` for the service's OpenAPI page; override it to be described.

        Args:
            target: ``"INPUT"`` or ``"RETURN"``.
            ref_template: how a component is referred to, with ``{name}`` in it.

        Returns:
            The JSON schema of the target, and the components that it refers to by name.
        """
        return {}, {}
