"""HTTP paths that lead to stages, and what a request reserves there before it is whole. Pure."""

from __future__ import annotations

from gateway.requests.admission import SMALL_BODY_BYTES, Admission
from mesh.protocol.messages import Path


class InferenceRoute:
    """An HTTP path and the stages that its requests visit.

    Attributes:
        endpoint: the path, as metrics name it.
        path: the hops.
        admission: says who may enter.
        stages: their names.
        grown: bytes that a stage of the path lately made of a request, on average; the largest.
        content_type: content type of the last stage's results.
        wants_meta: whether a worker asked for the request's method, query and headers.
    """

    __slots__ = ("admission", "content_type", "endpoint", "grown", "path", "stages", "wants_meta")

    def __init__(self, endpoint: str, path: Path, admission: Admission) -> None:
        self.endpoint = endpoint
        self.path = path
        self.admission = admission
        self.grown = 0
        self.stages = tuple(stage for stage, _ in path)
        self.content_type = b"application/json"
        self.wants_meta = False

    def hold(self, nbytes: int) -> None:
        """Charge so many bytes of answers that clients have not taken yet; less where negative."""
        self.admission.grow(nbytes)


class Reservation:
    """The room of a request that was let in before its body was whole.

    Args:
        nbytes: of its body, as far as that is known.
        grown: see `InferenceRoute`.

    Attributes:
        nbytes: of its body.
        charge: bytes that it counts for at the door.
        seated: whether it takes a place before it is whole; a small one does not.

    Example:
        >>> Reservation(100, grown=5000).charge, Reservation(100_000, grown=200_000).charge
        (100, 200000)
    """

    __slots__ = ("charge", "nbytes", "seated")

    def __init__(self, nbytes: int, grown: int) -> None:
        self.nbytes = nbytes
        self.seated = nbytes > SMALL_BODY_BYTES
        self.charge = max(nbytes, grown) if self.seated else nbytes
