"""When each session must be looked at next, so that a tick sees only those that are due. Pure.

A time that moves later is not changed here: the session is looked at, found not to be due, and
planned anew. So events of a session cost nothing here, except those that make it due earlier.
"""

from __future__ import annotations

from heapq import heappop, heappush

from mesh.links.session import Session

_NEVER = float("inf")


class Agenda:
    """The next time of each session.

    Example:
        >>> from mesh.protocol.messages import Role
        >>> agenda = Agenda()
        >>> session = Session(1, 2, Role.GATEWAY, 0)
        >>> agenda.plan(session, 5.0)
        >>> agenda.next_due(), agenda.take(4.0), agenda.take(5.0) == [session]
        (5.0, [], True)
    """

    __slots__ = ("_drawn", "_heap", "_planned")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Session]] = []
        self._planned: dict[Session, float] = {}
        self._drawn = 0  # orders entries of the same time, so that a history repeats

    def plan(self, session: Session, when: float) -> None:
        """Look at a session at this time, unless it is planned for an earlier one."""
        if when >= self._planned.get(session, _NEVER):
            return
        self._planned[session] = when
        self._drawn += 1
        heappush(self._heap, (when, self._drawn, session))

    def drop(self, session: Session) -> None:
        """Forget a session that is over."""
        self._planned.pop(session, None)

    def take(self, now: float) -> list[Session]:
        """Remove and return the sessions that are due."""
        heap, planned = self._heap, self._planned
        due = []
        while heap and heap[0][0] <= now:
            when, _, session = heappop(heap)
            if planned.get(session) == when:
                del planned[session]
                due.append(session)
        return due

    def next_due(self) -> float:
        """Return the earliest planned time, infinity if there is none."""
        heap, planned = self._heap, self._planned
        while heap and planned.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else _NEVER
