"""Logs one line for each answer that reports a failure of the service.

The line says which request failed, where and why. Every status from 500 on leaves one, whether a
worker, the core, a connection or a page made the answer. The same failure leaves ten lines a
minute, and then one that counts the others. Errors of clients (4xx) and requests that are refused
because the service is full (429) leave none: the metrics count them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from time import monotonic
from typing import Final

from gateway.web import responses
from mesh.log import get_logger
from mesh.logs.limit import LogLimit, fixed_part
from mesh.logs.loggers import SAID

# A missing or slow stage is a state of the service; all others are bugs or faults.
_STATES: Final = frozenset({503, 504})
_ORDERLY: Final = "draining"  # a stopping service needs no investigation


class FailureLog:
    """Writes these lines.

    Args:
        clock: monotonic, in seconds.
        later: schedules a call after some seconds; without it, omitted lines are counted when the
            next line is written, or at the end.

    Example:
        >>> FailureLog().record("no_replica", "stage embed has no replica", b"a-7", stage="embed")
    """

    def __init__(
        self,
        clock: Callable[[], float] = monotonic,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._log = get_logger()
        self._clock, self._later = clock, later
        self._limit = LogLimit()
        self._awaited = False  # whether a call is scheduled by `later`

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
        """Log that a request was answered with this code.

        Args:
            code: a word of `responses.TABLE`, "" if the worker chose the status itself.
            reason: the reason, as text.
            request_id: the id that the client knows.
            status: the answer's status, if the code does not imply it.
            route: the HTTP path.
            stage: the stage that failed, if one did.
            replica: the replica that held the request.
            error: an internal error of the gateway, whose traceback is logged.
        """
        status = status or responses.row(code).status
        if status < 500:
            return
        now = self._clock()
        if now >= self._limit.due:
            self._log_left_out()
        kind = f"{status} {code or 'of the worker'}{_at(stage)}: {fixed_part(reason)}"
        if not self._limit.admits(kind, now):
            self._await_end(now)
            return
        name = "-" if request_id is None else request_id.decode("latin-1")
        fields = {
            "request_id": name,
            "route": route,
            "status": status,
            "code": code,
            "stage": stage or "",
            "replica": replica,
        }
        to, by = (f" to {route}" if route else ""), (f", replica {replica}" if replica else "")
        word = f" {code}" if code else ""
        told = f"request {name}{to}: {status}{word}{_at(stage)}{by}: {reason}"
        known = {key: value for key, value in fields.items() if value != ""}
        self._log.log(_level(status, code), "%s", told, extra=known | {SAID: True}, exc_info=error)

    def close(self) -> None:
        """Log the counts of all omitted lines."""
        self._log_left_out(end=True)

    def _await_end(self, now: float) -> None:
        if self._later is not None and not self._awaited:
            self._awaited = True
            self._later(max(0.0, self._limit.due - now), self._minute_is_over)

    def _minute_is_over(self) -> None:
        self._awaited = False
        self._log_left_out()
        if self._limit.due < float("inf"):
            self._await_end(self._clock())

    def _log_left_out(self, *, end: bool = False) -> None:
        now = float("inf") if end else self._clock()
        for kind, count in self._limit.take_left_out(now):
            self._log.log(_level_of(kind), "and %d more: %s", count, kind)


def _level(status: int, code: str) -> int:
    if code == _ORDERLY:
        return logging.INFO
    return logging.WARNING if status in _STATES else logging.ERROR


def _level_of(kind: str) -> int:
    """Return the level of a kind of lines; the kind begins with status and code."""
    status, _, rest = kind.partition(" ")
    return _level(int(status) if status.isdigit() else 0, re.split("[,:]", rest)[0])


def _at(stage: str | None) -> str:
    return f", stage {stage}" if stage else ""
