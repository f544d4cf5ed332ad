"""`Worker`: the class that users subclass, one per stage. Pure.

It works without a server: ``Embed().forward(["a text"])`` in a plain script is an ordinary call.
In a service, each call of `Worker.forward` is enclosed by two conversions, which may be overridden:

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

# The types of nearly all results; a lookup is cheaper than `isinstance`.
_NESTED = frozenset({dict, list})
BODIES = (str, bytes, bytearray, memoryview)  # types that are not necessarily JSON


class Worker(ABC):
    """One stage of a pipeline: subclass it and write `forward`.

    Load the model in ``__init__``. It runs once in each replica, on the thread that later runs all
    other methods. `worker_id`, `stage` and `max_batch_size` are set before, so it may choose a
    device by them. There is no need to call ``super().__init__()``.

    Attributes:
        example: an input of `forward`, which is run once before the replica is announced; with
            batching a list of inputs.
        multi_examples: several such inputs, which are run in turn; `example` is then ignored.
        resp_mime_type: the content type of the answers, if this is the last stage of a route.
        worker_id: the number of this replica among those of its stage on this host, from 1.
        stage: the name of the stage.
        max_batch_size: how many inputs `forward` may receive; above 1 it takes and returns a list.
        wants_meta: set it to True to get method, path, query and headers of the HTTP request in
            `requests`. They are sent only if a worker of the route wants them.
        requests: while `forward` runs in a service, the facts of the request of each input, in
            order; one element without batching. Empty at all other times.

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
        """Compute the results. This is the only method that must be written.

        Args:
            data: the result of `deserialize` or `deserialize_ipc` for one request. With
                ``max_batch_size > 1`` a list of at most that many.

        Returns:
            The result; with ``max_batch_size > 1`` a list with one result for each input, in
            order. An exception *instance* in the list fails that one request only. In the last
            stage of a route a result may be a `Reply`, which sets status and headers.

        Raises:
            ClientError: the request is at fault (or `ValidationError`, `DecodingError`).
            ServerError: the service is at fault. The client gets the text of these two, but not
                of any other exception. An exception out of `forward` fails the whole batch.
        """

    def deserialize(self, payload: bytes) -> Any:
        """Convert an HTTP body to an input of `forward`; by default it is JSON.

        Args:
            payload: the body. An empty body is read as ``{}``.

        Raises:
            DecodingError: the body is not JSON; the client receives 400.
        """
        return read_json(payload) if payload else {}

    def serialize(self, obj: Any) -> Buffer:
        """Convert a result of `forward` to the body of the answer; by default compact JSON.

        `docs/values.md` lists what can be written as JSON. If `resp_mime_type` is another type,
        bytes are sent unchanged, and a text as UTF-8.

        Raises:
            EncodingError: JSON cannot express it; the client receives 500.
        """
        if type(obj) in _NESTED or not isinstance(obj, BODIES):
            return write_json(obj)
        return write_body(obj, self.resp_mime_type)

    def serialize_ipc(self, obj: Any) -> Buffer | list[Buffer]:
        """Encode a result of `forward` for the next stage.

        `docs/values.md` lists which types are kept, changed and refused. Large arrays become
        separate buffers and are not copied.

        Raises:
            EncodingError: a type cannot be encoded; the text names it and its place.
        """
        return codec.encode(obj)

    def deserialize_ipc(self, payload: Buffer | list[Buffer]) -> Any:
        """Decode an output of the stage before to an input of `forward`.

        Args:
            payload: one buffer, or a list if `serialize_ipc` made several.

        Returns:
            The value. Its arrays are read-only views of the received bytes; copy an array before
            writing to it: ``array = array.copy()``.

        Raises:
            DecodingError: the bytes are not an encoded value.
        """
        return codec.decode(payload)

    def unload(self) -> None:  # noqa: B027 - overriding it is optional
        """Release the resources of ``__init__``; called once when the replica has drained."""

    @classmethod
    def get_forward_json_schema(
        cls, target: str, ref_template: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Describe `forward` for the service's OpenAPI page; override it to provide schemas.

        Args:
            target: ``"INPUT"`` or ``"RETURN"``.
            ref_template: the form of a reference to a component, which contains ``{name}``.

        Returns:
            The JSON schema of the target, and its components by name.
        """
        return {}, {}
