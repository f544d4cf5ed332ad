"""Inference routes, and the reservations of requests whose body is incomplete. Pure."""

from __future__ import annotations

from gateway.requests.admission import SMALL_BODY_BYTES, Admission
from mesh.protocol.messages import Hops


class InferenceRoute:
    """An HTTP path and the stages that its requests visit.

    Attributes:
        endpoint: the HTTP path, which is also its label in metrics.
        hops: the stages that they visit, each with the revision of its pipeline.
        admission: its admission control.
        stages: the names of the stages.
        grown: the largest average output of its stages, in bytes per request.
        content_type: content type of the last stage's results.
        wants_meta: whether a worker needs the request's method, query and headers.
    """

    __slots__ = ("admission", "content_type", "endpoint", "grown", "hops", "stages", "wants_meta")

    def __init__(self, endpoint: str, hops: Hops, admission: Admission) -> None:
        self.endpoint = endpoint
        self.hops = hops
        self.admission = admission
        self.grown = 0
        self.stages = tuple(stage for stage, _ in hops)
        self.content_type = b"application/json"
        self.wants_meta = False

    def hold(self, nbytes: int) -> None:
        """Charge `nbytes` of answers that clients have not read; negative to release them."""
        self.admission.grow(nbytes)


class Reservation:
    """The room that a request reserves before its body is complete.

    Args:
        nbytes: the size of its body, as far as that is known.
        grown: see `InferenceRoute`.

    Attributes:
        nbytes: the size of its body.
        charge: bytes that admission charges for it.
        seated: whether it takes a place before it is complete; a small request does not.

    Example:
        >>> Reservation(100, grown=5000).charge, Reservation(100_000, grown=200_000).charge
        (100, 200000)
    """

    __slots__ = ("charge", "nbytes", "seated")

    def __init__(self, nbytes: int, grown: int) -> None:
        self.nbytes = nbytes
        self.seated = nbytes > SMALL_BODY_BYTES
        self.charge = max(nbytes, grown) if self.seated else nbytes
