"""Tasks that wait for one stage, meeting the sessions of its replicas that have granted credit.

Pure.

The gateway has a `Dispatcher` for each stage, a replica one for each stage that follows its own.
Whatever waits when a turn ends leaves in one bundle per session.

A task may take the last of a session's byte credit and more: so one that is larger than all that a
producer is ever granted goes, too, in its turn, and nothing waits behind it without end.
"""

from __future__ import annotations

from typing import NamedTuple

from mesh.links.priority_queue import PriorityQueue
from mesh.links.session import Session
from mesh.protocol.bundles import refusal
from mesh.protocol.fields import PART_BYTES
from mesh.protocol.messages import Hop, Task

NEGLIGIBLE_BATCH_S = 0.001  # seconds of a batch below which replicas count as equally fast


class DispatchedBundle(NamedTuple):
    """Tasks that go to one session together."""

    session: Session
    tasks: list[Task]
    nbytes: int


class Dispatcher:
    """Tasks waiting for one stage, and who takes them.

    Args:
        hop: the stage and revision.
        owner: the gateway whose tasks they are, where a replica gets only what it can answer; 0
            for a gateway's own.

    Attributes:
        waiting: what has not been sent to anybody.
        unfit: tasks that no message can carry, with the reason; the owner fails them.
    """

    def __init__(self, hop: Hop, owner: int = 0) -> None:
        self.hop = hop
        self.owner = owner
        self.waiting = PriorityQueue()
        self.unfit: list[tuple[Task, str]] = []
        self._sessions: dict[int, Session] = {}

    def __repr__(self) -> str:
        """What waits, and for whom."""
        return f"<Dispatcher {self.hop[0]} waiting {len(self.waiting)} for {len(self._sessions)}>"

    def join(self, session: Session) -> None:
        """A replica of the stage is there."""
        self._sessions[session.peer] = session

    def leave(self, session: Session) -> None:
        """It is not any more."""
        self._sessions.pop(session.peer, None)

    @property
    def sessions(self) -> list[Session]:
        """Replicas that are connected and take tasks."""
        return [
            s
            for s in self._sessions.values()
            if s.link is not None and not s.draining and (not self.owner or self.owner in s.owners)
        ]

    def push(self, task: Task) -> None:
        """Let a task wait for a session with credit."""
        # Only what users make of any size can break a limit; the usual task has one buffer.
        usual = len(task.buffers) == 1 and task.meta is None
        reason = "" if usual else refusal(task)
        if reason:
            self.unfit.append((task, reason))
        else:
            self.waiting.push(task)

    def dispatch(self) -> list[DispatchedBundle]:
        """Spend the credit there is: at most one bundle per session and round.

        Returns:
            The bundles; their tasks have been posted to their sessions and wait no more.
        """
        waiting = self.waiting
        if not waiting.count:
            return []
        bundles = []
        free = self._free()
        share = -(-waiting.count // len(free)) if free else 0
        while free and waiting.count:
            session = free[0] if len(free) == 1 else self._freest(free)
            stage = session.stage
            if stage is not None and waiting.nbytes > stage.pool and self._is_beyond(session):
                if not self._set_aside(session):
                    free.remove(session)  # another takes it, when it has credit
                continue
            bundle = self._fill(session, share, free)
            session.post_tasks(bundle.tasks, bundle.nbytes)
            bundles.append(bundle)
            if waiting.count and not _is_free(session):
                free.remove(session)
        return bundles

    def _free(self) -> list[Session]:
        """Replicas that take a task now; a loop without calls, as every task passes here."""
        owner, free = self.owner, []
        for session in self._sessions.values():
            granted = session.granted_tasks
            if (
                granted > session.spent_tasks
                and granted > session.credit_paused
                and session.granted_bytes > session.spent_bytes
                and session.link is not None
                and not session.draining
                and (not owner or owner in session.owners)
            ):
                free.append(session)
        return free

    def has_takers(self) -> bool:
        """Whether there is a replica that would take a task, if it had credit."""
        owner = self.owner
        for session in self._sessions.values():  # a loop, not `any`: each output asks this
            usable = session.link is not None and not session.draining
            if usable and (not owner or owner in session.owners):
                return True
        return False

    def give_one(self, session: Session) -> list[DispatchedBundle]:
        """Give the task that leads to this replica, which need not have joined, if it takes it."""
        task = self.waiting.peek()
        usable = session.link is not None and not session.draining and _is_free(session)
        if task is None or not usable or session.peer in task.tried:
            return []
        if self._is_beyond(session):
            self._set_aside(session)
            return []
        self.waiting.pop()
        session.post_tasks([task], task.nbytes)
        return [DispatchedBundle(session, [task], task.nbytes)]

    def _is_beyond(self, session: Session) -> bool:
        """Whether the task that leads is more than this replica ever takes."""
        task, stage = self.waiting.peek(), session.stage
        return task is not None and stage is not None and task.nbytes > stage.pool

    def _set_aside(self, session: Session) -> bool:
        """Fail the task that leads if no replica of the stage, this one or another, takes so much.

        What one of them says of itself must not be the end of what the others take.
        """
        task = self.waiting.peek()
        stages = [s.stage for s in (session, *self._sessions.values()) if s.stage is not None]
        most = max((stage.pool for stage in stages), default=0)
        if task is None or task.nbytes <= most:
            return False
        text = f"it has {task.nbytes} bytes, and a replica of stage {self.hop[0]} takes {most}"
        self.unfit.append((self.waiting.pop(), text))
        return True

    def _freest(self, free: list[Session]) -> Session:
        task = self.waiting.peek()
        if task is not None and task.tried:
            free = [s for s in free if s.peer not in task.tried] or free
        known = [s.pace for s in free if s.pace]
        fastest = min(known) if known else 1.0
        ways = [_freedom(s) / max(s.pace or fastest, NEGLIGIBLE_BATCH_S) for s in free]
        return free[ways.index(max(ways))]

    def _fill(self, session: Session, share: int, free: list[Session]) -> DispatchedBundle:
        """Take what goes to this session: a batch, or its share where batches are small."""
        waiting = self.waiting
        batch = session.stage.batch if session.stage is not None else 1
        room = min(session.granted_tasks - session.spent_tasks, max(batch, share))
        room_bytes = min(session.granted_bytes - session.spent_bytes, PART_BYTES)
        before = waiting.nbytes
        tasks = waiting.take(room, room_bytes, lambda task: _belongs_elsewhere(task, session, free))
        return DispatchedBundle(session, tasks, before - waiting.nbytes)


def _is_free(session: Session) -> bool:
    """Whether it takes a task now."""
    granted = session.granted_tasks
    return (
        granted > session.spent_tasks
        and granted > session.credit_paused
        and session.granted_bytes > session.spent_bytes
    )


def _belongs_elsewhere(task: Task, session: Session, free: list[Session]) -> bool:
    """Whether it was tried here, and another is free where it was not."""
    return session.peer in task.tried and any(s.peer not in task.tried for s in free)


def _freedom(session: Session) -> float:
    """Credit left, in batches: who has most is idle, or nearly.

    Divided by the seconds that a batch takes there it says who would be done first.
    """
    return session.free_tasks / (session.stage.batch if session.stage is not None else 1)
