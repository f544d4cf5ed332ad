"""Answers the requests that ended: outcomes of replicas become HTTP answers. Pure."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from gateway.requests.core import GatewayCore
from gateway.requests.in_flight import Ended, Request
from gateway.requests.route import InferenceRoute, Reservation
from gateway.web import responses
from gateway.web.exchange import Exchange
from mesh.errors import EncodingError
from mesh.protocol.messages import Buffer, Hops, Outcome, OutcomeKind
from mesh.protocol.request_names import namer
from mesh.worker.request_info import check_header

_BROKEN = "the gateway could not write the answer"
_CHOSEN = "the worker chose this status in a Reply"
# The buffers of a failure: the exception, and its traceback in debug mode.
_SHOWN_BUFFERS = 2
_SHOWN_BYTES = 64 * 1024  # bytes that are read of each buffer
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


class Answers:
    """Turns outcomes into answers.

    Args:
        core: the decisions.
        clock: returns local monotonic time in seconds.
        failures: writes a log line for each answer that reports a failure of the service.

    Attributes:
        answered: counts of answers by status and endpoint.
        durations: seconds from arrival to answer of results, since the metrics last took them.
        debug: whether clients are shown the exceptions of workers.
    """

    def __init__(
        self, core: GatewayCore, clock: Callable[[], float], failures: FailureReports
    ) -> None:
        self._core = core
        self._clock = clock
        self._failures = failures
        self._name = namer(core.links.me)
        self.answered: Counter[tuple[int, str]] = Counter()
        self.durations: list[float] = []
        self.debug = False

    def content_type(self, hops: Hops, otherwise: bytes) -> bytes:
        """Return the content type that the last stage announced, `otherwise` if it is bad."""
        last = self._core.replicas.facts.get(hops[-1])
        if last is None or not (last.content_type.isascii() and last.content_type.isprintable()):
            return otherwise
        return last.content_type.encode()

    def write(self, ended: Iterable[Ended]) -> None:
        """Answer ended requests."""
        answered, name, took = self.answered, self._name, self.durations.append
        now, queues = self._clock(), self._core.queues
        waiting = queues.missing or queues.crowded
        served: list[InferenceRoute] = []
        for request, outcome in ended:
            exchange, route = request.origin, request.route
            assert isinstance(exchange, Exchange)  # by `submit`
            assert route is not None
            route.admission.leave(request.charge, outcome.label not in _UNSERVED)
            if outcome.label not in _UNSERVED and (waiting or route.admission.is_measuring):
                served.append(route)
            exchange.request = None  # breaks the reference cycle without the garbage collector
            request_id = exchange.request_id or name(request.number)
            exchange.request_id = request_id  # the access log names it, too
            try:
                if outcome.kind is OutcomeKind.FAILURE:
                    status = self._fail(request, exchange, request_id, outcome)
                elif outcome.label or outcome.status or outcome.headers:
                    status = self._special(request, exchange, request_id, outcome)
                else:
                    timing = responses.server_timing(route.stages, outcome.timings)
                    buffers = outcome.buffers
                    body = buffers[0] if len(buffers) == 1 else b"".join(buffers)
                    content_type = route.content_type
                    if request.hops is not route.hops:  # a former version computed it
                        content_type = self.content_type(request.hops, content_type)
                    status = 200
                    took(now - request.arrived)
                    if len(body) <= responses.INLINE_BYTES:
                        exchange.respond(responses.result(request_id, content_type, timing, body))
                    else:
                        head = responses.result_head(request_id, content_type, timing, len(body))
                        exchange.respond(head, body)
            except Exception as error:  # noqa: BLE001 - one bad answer must not affect others
                status = self._break(exchange, request_id, error)
            answered[status, route.endpoint] += 1
        if served:
            self._learn_rates(served, now)

    def _learn_rates(self, served: list[InferenceRoute], now: float) -> None:
        for route in dict.fromkeys(served):
            is_crowded = self._core.queues.is_crowded(route.hops)
            if is_crowded or route.admission.is_measuring:
                route.admission.learn(is_crowded, now)

    def _break(self, exchange: InferenceExchange, request_id: bytes, error: Exception) -> int:
        """Report an error of the gateway itself to the log and, if possible, to the client."""
        route = exchange.route
        self._failures.record(
            "server_error", _BROKEN, request_id, route=route.endpoint, error=error
        )
        with contextlib.suppress(Exception):
            exchange.respond(responses.failure("server_error", _BROKEN, None, request_id))
        return responses.row("server_error").status

    def _fail(
        self, request: Request, exchange: InferenceExchange, request_id: bytes, outcome: Outcome
    ) -> int:
        route, code, text, trace = exchange.route, outcome.label, outcome.text, ""
        stage = route.stages[outcome.hop] if outcome.hop < len(route.stages) else None
        status = responses.meaning(code, outcome.status)[1].status
        raised = [
            str(buffer[:_SHOWN_BYTES], "utf-8", "replace")
            for buffer in outcome.buffers[:_SHOWN_BUFFERS]
        ]
        if status >= 500:
            reason = _reason(text, raised)
            self._report(request, exchange, request_id, code, reason, stage, status)
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
        exchange: InferenceExchange,
        request_id: bytes,
        code: str,
        reason: str,
        stage: str | None,
        status: int = 0,
    ) -> None:
        """Log which request failed, where and why."""
        replica = self._core.whereabouts(request.holder)
        self._failures.record(
            code,
            reason,
            request_id,
            status=status,
            route=exchange.route.endpoint,
            stage=stage,
            replica=replica,
        )

    def _special(
        self, request: Request, exchange: InferenceExchange, request_id: bytes, outcome: Outcome
    ) -> int:
        """Answer with the status, content type or headers that the worker chose."""
        route = exchange.route
        timing = responses.server_timing(route.stages, outcome.timings)
        body = _whole(outcome.buffers)
        kind = outcome.label.encode("latin-1", "replace") or route.content_type
        last = route.stages[-1]
        try:
            head = responses.special_head(
                outcome.status, request_id, kind, outcome.headers, timing, len(body)
            )
        except EncodingError as error:
            self._report(request, exchange, request_id, error.code, str(error), last)
            exchange.respond(responses.failure(error.code, str(error), last, request_id))
            return 500
        status = outcome.status or 200
        if status >= 500:
            self._report(request, exchange, request_id, "", _CHOSEN, last, status)
        exchange.respond(head, body if responses.has_body(status) else None)
        return status


def _reason(text: str, raised: list[str]) -> str:
    """Return the reason for the log: the client's message and the exception."""
    if not raised or not raised[0]:
        return text
    return raised[0] if text in raised[0] else f"{text}: {raised[0]}"


def _whole(buffers: list[Buffer]) -> Buffer:
    return buffers[0] if len(buffers) == 1 else b"".join(buffers)
