"""Connects HTTP and the core: exchanges become requests, ended requests become answers. Pure.

Nothing here waits. `submit` queues a request and asks for a turn. The turn dispatches all queued
requests in one bundle per replica, and answers all ended ones.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

from gateway.requests.admission import NotAdmitted
from gateway.requests.core import GatewayCore
from gateway.requests.in_flight import Ended, Request
from gateway.requests.route import InferenceRoute, Reservation
from gateway.web import responses
from gateway.web.byte_budget import ByteBudget
from gateway.web.exchange import Exchange
from mesh.errors import EncodingError
from mesh.protocol.messages import Buffer, Meta, Outcome, OutcomeKind, Path
from mesh.protocol.request_names import namer
from mesh.worker.request_info import check_header

_BROKEN = "the gateway could not write the answer"
_TOO_MUCH = "too many bytes of unfinished requests are in flight"
_CHOSEN = "the worker chose this status in a Reply"
# The buffers of a failure: the exception, and its traceback in debug mode.
_SHOWN_BUFFERS = 2
_SHOWN_BYTES = 64 * 1024  # bytes that are read of each buffer
_BOUNDLESS_BYTES = 1 << 62
# No replica served requests with these outcomes, so they do not count for the service rate.
_UNSERVED = frozenset({"deadline_exceeded", "no_replica"})


# An exchange of an inference route, with slots for the reservation and the request.
InferenceExchange: TypeAlias = Exchange[InferenceRoute, Reservation, Request]


class FailureReports(Protocol):
    """Writes a log line for each answer that reports a failure of the service."""

    def record(  # noqa: PLR0913 - all that is known of a failed request
        self,
        code: str,
        reason: str,
        request_id: bytes | None,
        *,
        status: int = 0,
        route: str = "",
        stage: str | None = None,
        replica: str = "",
        error: Exception | None = None,
    ) -> None:
        """See `gateway.web.failure_log.FailureLog`."""


class InferenceService:
    """Turns exchanges into requests of the core, and outcomes into answers.

    Args:
        core: the decisions.
        routes: the inference routes.
        timeout: seconds that a request lives, unless its client asks for fewer.
        wake: asks for a turn before the event loop sleeps again.
        clock: returns local monotonic time in seconds.
        failures: writes a log line for each answer that reports a failure of the service.
        unfinished: the room for incomplete bodies of all routes together.

    Attributes:
        answered: counts of answers by status and endpoint.
        durations: seconds from arrival to answer of results, since the metrics last took them.
        draining: whether new requests are refused because the gateway is stopping.
        debug: whether clients are shown the exceptions of workers.
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
        self.debug = False
        self.routes: Mapping[bytes, InferenceRoute] = {r.endpoint.encode(): r for r in routes}
        self.answered: Counter[tuple[int, str]] = Counter()
        self.durations: list[float] = []
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
            route.path = replicas.routes[route.endpoint]
            # Include a coming version: requests that wait for the switch need its metadata, too.
            known = [stage for (name, _), stage in replicas.facts.items() if name in route.stages]
            route.wants_meta = any(stage.wants_meta for stage in known)
            route.content_type = self._content_type(route.path, route.content_type)

    def _content_type(self, path: Path, otherwise: bytes) -> bytes:
        """Return the content type that a path's last stage announced, `otherwise` if it is bad."""
        last = self.core.replicas.facts.get(path[-1])
        if last is None or not (last.content_type.isascii() and last.content_type.isprintable()):
            return otherwise
        return last.content_type.encode()

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
            path=route.path,
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
        absent = core.queues.missing and core.absent(route.path, now)
        if absent:
            return NotAdmitted("no_replica", f"stage {absent[0]} has no replica", 1, absent[0])
        if place is not None:
            full = self._room_for(route, place, now)
        else:
            full = route.admission.objection(max(nbytes, route.grown), now)
        if full is not None or not core.queues.is_crowded(route.path):
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
        absent = core.queues.missing and core.absent(route.path, now)
        if exchange.fault is not None:
            refusal = NotAdmitted(*exchange.fault, 0)
        elif absent:
            refusal = NotAdmitted("no_replica", f"stage {absent[0]} has no replica", 1, absent[0])
        elif core.queues.is_crowded(route.path):
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
        overtaken = self.core.queues.overtaken(route.path, exchange.priority, deadline)
        return admission.lateness(left, overtaken)

    def _refusal(self, exchange: InferenceExchange, refusal: NotAdmitted) -> bytes:
        code, message, retry_after, stage = refusal
        endpoint = exchange.route.endpoint
        self.answered[responses.row(code).status, endpoint] += 1
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
            self.answered[499, route.endpoint] += 1
            self._wake()
            exchange.request = None

    # --- out -------------------------------------------------------------------------------------

    def answer(self, ended: Iterable[Ended]) -> None:
        """Answer ended requests."""
        answered, name, took = self.answered, self._name, self.durations.append
        now = self._clock()
        served: list[InferenceRoute] = []
        for request, outcome in ended:
            exchange, route = request.origin, request.route
            assert isinstance(exchange, Exchange)  # by `submit`
            assert route is not None
            route.admission.leave(request.charge, outcome.label not in _UNSERVED)
            if outcome.label not in _UNSERVED:
                served.append(route)
            exchange.request = None  # breaks the reference cycle without the garbage collector
            request_id = exchange.request_id or name(request.number)
            exchange.request_id = request_id  # the access log names it, too
            try:
                if outcome.kind is OutcomeKind.FAILURE:
                    status = self._fail(request, exchange, route, request_id, outcome)
                elif outcome.label or outcome.status or outcome.headers:
                    status = self._special(request, exchange, route, request_id, outcome)
                else:
                    timing = responses.server_timing(route.stages, outcome.timings)
                    buffers = outcome.buffers
                    body = buffers[0] if len(buffers) == 1 else b"".join(buffers)
                    content_type = route.content_type
                    if request.path is not route.path:  # a former version computed it
                        content_type = self._content_type(request.path, content_type)
                    status = 200
                    took(now - request.arrived)
                    if len(body) <= responses.INLINE_BYTES:
                        exchange.respond(responses.result(request_id, content_type, timing, body))
                    else:
                        head = responses.result_head(request_id, content_type, timing, len(body))
                        exchange.respond(head, body)
            except Exception as error:  # noqa: BLE001 - one bad answer must not affect others
                status = self._break(exchange, route, request_id, error)
            answered[status, route.endpoint] += 1
        queues = self.core.queues
        for route in dict.fromkeys(served):
            may_wait = queues.missing or queues.crowded
            is_crowded = bool(may_wait) and queues.is_crowded(route.path)
            if is_crowded or route.admission.is_measuring:
                route.admission.learn(is_crowded, now)

    def _break(
        self,
        exchange: InferenceExchange,
        route: InferenceRoute,
        request_id: bytes,
        error: Exception,
    ) -> int:
        """Report an error of the gateway itself to the log and, if possible, to the client."""
        self._failures.record(
            "server_error", _BROKEN, request_id, route=route.endpoint, error=error
        )
        with contextlib.suppress(Exception):
            exchange.respond(responses.failure("server_error", _BROKEN, None, request_id))
        return responses.row("server_error").status

    def _fail(
        self,
        request: Request,
        exchange: InferenceExchange,
        route: InferenceRoute,
        request_id: bytes,
        outcome: Outcome,
    ) -> int:
        code, text, trace = outcome.label, outcome.text, ""
        stage = route.stages[outcome.hop] if outcome.hop < len(route.stages) else None
        status = responses.meaning(code, outcome.status)[1].status
        raised = [
            str(buffer[:_SHOWN_BYTES], "utf-8", "replace")
            for buffer in outcome.buffers[:_SHOWN_BUFFERS]
        ]
        if status >= 500:
            self._report(request, route, request_id, code, _reason(text, raised), stage, status)
        if self.debug and len(raised) == _SHOWN_BUFFERS:
            text, trace = raised
        timing = responses.server_timing(route.stages, outcome.timings).decode()
        headers = [("Server-Timing", timing)] if timing else []
        for name, value in outcome.headers:  # set by an error class of the worker
            check_header(name, value)
            headers.append((name, value))
        exchange.respond(
            responses.failure(code, text, stage, request_id, None, headers, outcome.status, trace)
        )
        return status

    def _report(  # noqa: PLR0913 - what is known of a failed request
        self,
        request: Request,
        route: InferenceRoute,
        request_id: bytes,
        code: str,
        reason: str,
        stage: str | None,
        status: int = 0,
    ) -> None:
        """Log which request failed, where and why."""
        replica = self.core.whereabouts(request.holder)
        self._failures.record(
            code,
            reason,
            request_id,
            status=status,
            route=route.endpoint,
            stage=stage,
            replica=replica,
        )

    def _special(
        self,
        request: Request,
        exchange: InferenceExchange,
        route: InferenceRoute,
        request_id: bytes,
        outcome: Outcome,
    ) -> int:
        """Answer with the status, content type or headers that the worker chose."""
        timing = responses.server_timing(route.stages, outcome.timings)
        body = _whole(outcome.buffers)
        kind = outcome.label.encode("latin-1", "replace") or route.content_type
        last = route.stages[-1]
        try:
            head = responses.special_head(
                outcome.status, request_id, kind, outcome.headers, timing, len(body)
            )
        except EncodingError as error:
            self._report(request, route, request_id, error.code, str(error), last)
            exchange.respond(responses.failure(error.code, str(error), last, request_id))
            return 500
        status = outcome.status or 200
        if status >= 500:
            self._report(request, route, request_id, "", _CHOSEN, last, status)
        exchange.respond(head, body if responses.has_body(status) else None)
        return status


def _reason(text: str, raised: list[str]) -> str:
    """Return the reason for the log: the client's message and the exception."""
    if not raised or not raised[0]:
        return text
    return raised[0] if text in raised[0] else f"{text}: {raised[0]}"


def _whole(buffers: list[Buffer]) -> Buffer:
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)


def _meta(exchange: InferenceExchange) -> Meta:
    path, _, query = exchange.target.decode("latin-1").partition("?")
    headers = exchange.headers or []
    pairs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return Meta(exchange.method.decode("latin-1"), path, query, pairs)
