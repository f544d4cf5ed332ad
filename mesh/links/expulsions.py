"""A line for each session that a broken rule has cost or prevented; ten a minute of a kind."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from mesh.links.events import Stranger
from mesh.links.session import Session
from mesh.log import get_logger
from mesh.logs.limit import LogLimit, fixed_part
from mesh.protocol.incarnations import shown


class ExpulsionLog:
    """Writes these lines; `tell` is what `Upkeep.expelled` calls.

    Args:
        clock: monotonic, in seconds.

    Example:
        >>> ExpulsionLog().tell(None, "it could not be handled: KeyError", None)
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._log = get_logger()
        self._clock = clock
        self._limit = LogLimit()

    def tell(
        self, session: Session | Stranger | None, reason: str, fault: Exception | None
    ) -> None:
        """Somebody lost its session, or gets none.

        Args:
            session: its, or who said HELLO; None of one of whom nothing is known.
            reason: for people.
            fault: what we could not handle, where that is why: its traceback follows.
        """
        now = self._clock()
        if now >= self._limit.due:
            for kind, count in self._limit.take_left_out(now):
                self._log.warning("and %d more: %s", count, kind)
        role = "somebody unknown" if session is None else session.role.name.lower()
        if not self._limit.admits(f"expelled {role}: {fixed_part(reason)}", now):
            return
        who = (
            "" if session is None else f" {shown(session.peer)} ({session.host}, pid {session.pid})"
        )
        tell = self._log.warning if fault is None else self._log.error
        tell("expelled %s%s: %s", role, who, reason, exc_info=fault)
