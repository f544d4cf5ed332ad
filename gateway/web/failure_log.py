"""One line for each answer that says that the service failed: which request, where, and why.

Every status from 500 on leaves a line, whatever made the answer: a worker, the in-flight table, the
door, the HTTP wire, a page. The same failure leaves ten a minute, and then how many more there
were. What a client did wrong (4xx) leaves none, and neither does a request that is refused for want
of room (429): these are counted by the metrics.
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

# A stage that is gone, or too slow, is a state of the service; the rest is a bug or a fault.
_STATES: Final = frozenset({503, 504})
_ORDERLY: Final = "draining"  # nor is there anything to investigate while the service stops


class FailureLog:
    """Writes these lines.

    Args:
        clock: monotonic, in seconds.
        later: has a function called after so many seconds; without it, what was left out is told
            when the next line is written, or at the end.

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
        self._awaited = False  # `later` was asked to call

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
        """A request was answered with this code.

        Args:
            code: a word of `responses.TABLE`, "" where the worker chose the status itself.
            reason: for people.
            request_id: what the client knows it by.
            status: of the answer, if the code does not tell it.
            route: the HTTP path.
            stage: where it failed, if it did in one.
            replica: which of its replicas had it.
            error: a fault of the gateway's own, whose traceback follows.
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
        """Tell what was left out, also of what is not over yet."""
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
    """How loud the lines of a kind are, which begins with their status and code."""
    status, _, rest = kind.partition(" ")
    return _level(int(status) if status.isdigit() else 0, re.split("[,:]", rest)[0])


def _at(stage: str | None) -> str:
    return f", stage {stage}" if stage else ""
