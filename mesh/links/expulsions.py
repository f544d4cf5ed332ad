"""The log lines about expelled peers, at most ten a minute of each kind."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mesh.links.events import Stranger
from mesh.links.session import Session
from mesh.log import get_logger
from mesh.logs.limit import LogLimit, fixed_part
from mesh.protocol.incarnations import shown


class ExpulsionLog:
    """Writes a line for each peer that broke a rule and lost its session, or got none.

    `Liveness.expelled` calls `tell`.

    Args:
        clock: returns local monotonic time in seconds.

    Example:
        >>> ExpulsionLog().record(None, "it could not be handled: KeyError", None)
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._log = get_logger()
        self._clock = clock
        self._limit = LogLimit()

    def record(
        self, session: Session | Stranger | None, reason: str, fault: Exception | None
    ) -> None:
        """Log one expulsion.

        Args:
            session: the session that ended, or the process that said HELLO; None if neither is
                known.
            reason: the rule that was broken.
            fault: the exception, where the message raised one here; its traceback is logged, too.
        """
        now = self._clock()
        if now >= self._limit.due:
            for kind, count in self._limit.take_left_out(now):
                self._log.warning("and %d more: %s", count, kind)
        role = "an unknown process" if session is None else session.role.name.lower()
        if not self._limit.admits(f"expelled {role}: {fixed_part(reason)}", now):
            return
        who = (
            "" if session is None else f" {shown(session.peer)} ({session.host}, pid {session.pid})"
        )
        tell = self._log.warning if fault is None else self._log.error
        tell("expelled %s%s: %s", role, who, reason, exc_info=fault)
