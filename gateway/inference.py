"""Connects HTTP and the core: exchanges become requests, or are refused. Pure.

Nothing here waits. `submit` queues a request and asks for a turn. The turn dispatches all queued
requests in one bundle per replica, and answers all ended ones (`gateway.answers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gateway.answers import Answers, FailureReports, InferenceExchange
from gateway.requests.admission import NotAdmitted
from gateway.requests.core import GatewayCore
from gateway.requests.in_flight import Request
from gateway.requests.route import InferenceRoute, Reservation
from gateway.web import responses
from gateway.web.byte_budget import ByteBudget
from mesh.protocol.messages import Meta
from mesh.protocol.request_names import namer

_TOO_MUCH = "too many bytes of unfinished requests are in flight"
_BOUNDLESS_BYTES = 1 << 62


class InferenceService:
    """Turns exchanges into requests of the core.

    Args:
        core: the decisions.
        routes: the inference routes.
        timeout: seconds that a request lives, unless its client asks for fewer.
        wake: asks for a turn before the event loop sleeps again.
        clock: returns local monotonic time in seconds.
        failures: writes a log line for each answer that reports a failure of the service.
        unfinished: the room for incomplete bodies of all routes together.

    Attributes:
        answers: writes the answers of requests that ended.
        draining: whether new requests are refused because the gateway is stopping.
    """

    def __init__(  # noqa: PLR0913 - all that it works with
        self,
        core: GatewayCore,
        routes: Iterable[InferenceRoute],
        timeout: float,
        wake: Callable[[], None],
        clock: Callable[[], float],
        failures: FailureReports,
        unfinished: ByteBudget | None = None,
    ) -> None:
        self.core = core
        self._failures = failures
        self._unfinished = unfinished or ByteBudget(_BOUNDLESS_BYTES)
        self.routes: Mapping[bytes, InferenceRoute] = {r.endpoint.encode(): r for r in routes}
        self.answers = Answers(core, clock, failures)
        self.draining = False
        self._timeout = timeout
        self._wake = wake
        self._clock = clock
        self._me = core.links.me
        self._name = namer(self._me)

    def learn(self) -> None:
        """Take over paths, content types and metadata needs from the replica registry."""
        replicas = self.core.replicas
        for route in self.routes.values():
            route.hops = replicas.routes[route.endpoint]
            # Include a coming version: requests that wait for the switch need its metadata, too.
            known = [stage for (name, _), stage in replicas.facts.items() if name in route.stages]
            route.wants_meta = any(stage.wants_meta for stage in known)
            route.content_type = self.answers.content_type(route.hops, route.content_type)

    def measure(self) -> None:
        """Update the output sizes of the routes from new batch statistics."""
        for route in self.routes.values():
            route.grown = self.core.sizes.largest(route.stages)

    # --- in --------------------------------------------------------------------------------------

    def admit(self, exchange: InferenceExchange, nbytes: int) -> bytes | None:
        """Reserve room for a request whose body is incomplete, or exceeds its reservation.

        Returns:
            The answer that refuses it, or None.
        """
        former, route = exchange.reservation, exchange.route
        place = Reservation(nbytes, route.grown)
        if former is not None:
            if nbytes <= former.charge:
                return None
            self._leave(exchange, former)
            refusal = self._room_for(route, place, self._clock())
        else:
            refusal = self._objection(exchange, nbytes, self._budget(exchange), place)
        if refusal is None and not self._unfinished.take(place.nbytes):
            refusal = NotAdmitted("overloaded", _TOO_MUCH, route.admission.retry_after())
        if refusal is None:
            route.admission.reserve(place.charge, place.seated)
            exchange.reservation = place
            return None
        return self._refusal(exchange, refusal)

    def _room_for(
        self, route: InferenceRoute, place: Reservation, now: float
    ) -> NotAdmitted | None:
        return route.admission.reservation_objection(place.charge, place.seated, now)

    def _leave(self, exchange: InferenceExchange, place: Reservation) -> None:
        exchange.reservation = None
        self._unfinished.give_back(place.nbytes)
        exchange.route.admission.let_go(place.charge, place.seated)

    def submit(self, exchange: InferenceExchange) -> None:
        """Submit a complete request to the core, or refuse it."""
        core, route, body = self.core, exchange.route, exchange.body
        nbytes = len(body)
        now = exchange.arrived
        budget = self._timeout if exchange.timeout is None else self._budget(exchange)
        charge = nbytes if nbytes > route.grown else route.grown
        is_usual = exchange.reservation is None and exchange.fault is None
        # In the usual case only room matters; all other checks are off the hot path.
        queues = core.queues
        is_calm = not (queues.missing or queues.crowded or self.draining)
        if not (is_usual and is_calm and route.admission.admit(charge)):
            refusal = self._consider(exchange, nbytes, charge, budget)
            if refusal is not None:
                exchange.respond(self._refusal(exchange, refusal))
                return
        name = exchange.request_id
        request = Request(
            owner=self._me,
            number=core.in_flight.next_number(),
            hops=route.hops,
            hop=0,
            attempt=1,
            deadline=now + budget,
            buffers=[body],
            nbytes=nbytes,
            priority=exchange.priority,
            trace=exchange.traceparent,
            meta=_meta(exchange) if route.wants_meta else None,
            request_id=None if name is None else name.decode("ascii"),
            origin=exchange,
            route=route,
            arrived=now,
            charge=charge,
        )
        exchange.request = request
        core.submit(request)
        self._wake()

    def _consider(
        self, exchange: InferenceExchange, nbytes: int, charge: int, budget: float
    ) -> NotAdmitted | None:
        """Admit a complete request, or return the reason to refuse it."""
        place = exchange.reservation
        if place is None:
            refusal = self._objection(exchange, nbytes, budget)
        else:
            refusal = self._second_objection(exchange, place, charge, budget)
        if refusal is None:
            exchange.route.admission.enter(charge)
        return refusal

    def _budget(self, exchange: InferenceExchange) -> float:
        """Return the seconds that the request has from its arrival."""
        asked = exchange.timeout
        return self._timeout if asked is None or asked > self._timeout else asked

    def _objection(
        self,
        exchange: InferenceExchange,
        nbytes: int,
        budget: float,
        place: Reservation | None = None,
    ) -> NotAdmitted | None:
        """Return why a request of `nbytes` with `budget` seconds is refused, or None.

        If its body is incomplete, it asks for the reservation `place`.
        """
        now = exchange.arrived
        core, route = self.core, exchange.route
        if exchange.fault is not None:
            return NotAdmitted(*exchange.fault, 0)
        if self.draining:
            return NotAdmitted("draining", "this gateway is stopping", 1)
        absent = core.queues.missing and core.absent(route.hops, now)
        if absent:
            return NotAdmitted("no_replica", f"stage {absent[0]} has no replica", 1, absent[0])
        if place is not None:
            full = self._room_for(route, place, now)
        else:
            full = route.admission.objection(max(nbytes, route.grown), now)
        if full is not None or not core.queues.is_crowded(route.hops):
            return full
        return self._lateness(exchange, route, budget)

    def _second_objection(
        self, exchange: InferenceExchange, place: Reservation, charge: int, budget: float
    ) -> NotAdmitted | None:
        """Return why a request with a reservation is refused now that it is complete, or None.

        Receiving its body took time: its budget shrank, and stages may have disappeared. The
        reservation ends in any case.
        """
        core, route, now = self.core, exchange.route, self._clock()
        self._leave(exchange, place)
        refusal = None
        absent = core.queues.missing and core.absent(route.hops, now)
        if exchange.fault is not None:
            refusal = NotAdmitted(*exchange.fault, 0)
        elif absent:
            refusal = NotAdmitted("no_replica", f"stage {absent[0]} has no replica", 1, absent[0])
        elif core.queues.is_crowded(route.hops):
            refusal = self._lateness(exchange, route, exchange.arrived + budget - now)
        return refusal or route.admission.objection(charge, now)

    def _lateness(
        self, exchange: InferenceExchange, route: InferenceRoute, left: float
    ) -> NotAdmitted | None:
        """Return why a request with `left` seconds would be too late although it fits, or None."""
        admission = route.admission
        if admission.lateness(left) is None:
            return None
        # Queues are in deadline order: a request with little time overtakes others.
        deadline = exchange.arrived + self._budget(exchange)
        overtaken = self.core.queues.overtaken(route.hops, exchange.priority, deadline)
        return admission.lateness(left, overtaken)

    def _refusal(self, exchange: InferenceExchange, refusal: NotAdmitted) -> bytes:
        code, message, retry_after, stage = refusal
        endpoint = exchange.route.endpoint
        self.answers.answered[responses.row(code).status, endpoint] += 1
        request_id = exchange.request_id or self._name(self.core.in_flight.next_number())
        exchange.request_id = request_id  # the access log names it, too
        self._failures.record(code, message, request_id, route=endpoint, stage=stage)
        return responses.failure(code, message, stage, request_id, retry_after)

    def gone(self, exchange: InferenceExchange) -> None:
        """Cancel an exchange whose body will not be complete, or whose client disconnected."""
        place, request = exchange.reservation, exchange.request
        if place is not None:
            self._leave(exchange, place)
        elif request is not None and self.core.gone(request.number) is not None:
            route = exchange.route
            route.admission.leave(request.charge, served=False)
            self.answers.answered[499, route.endpoint] += 1
            self._wake()
            exchange.request = None


def _meta(exchange: InferenceExchange) -> Meta:
    path, _, query = exchange.target.decode("latin-1").partition("?")
    headers = exchange.headers or []
    pairs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return Meta(exchange.method.decode("latin-1"), path, query, pairs)
