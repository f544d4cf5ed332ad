"""Distribution of the tasks that wait for one stage over replicas that granted credit. Pure.

The gateway has one `Dispatcher` per stage; a replica has one per following stage. At the end of a
turn, the waiting tasks leave in one bundle per session. Which replica gets them:

1. An idle one, if there is one. Replicas say in each message what they hold (`Load`), and those of
   long batches say at once when others' tasks come or are done.
2. Else the one that will be done first.
3. Behind a long batch, none, unless it is the only replica: the next one to become idle gets the
   tasks, and until then they gather to a batch.

A task may exceed the byte credit that is left of a session. Otherwise a task larger than any
producer's credit would never leave, and would block all tasks behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mesh.links.homes import homes_of
from mesh.links.priority_queue import PriorityQueue
from mesh.links.session import Session
from mesh.protocol.bundles import refusal
from mesh.protocol.fields import PART_BYTES
from mesh.protocol.messages import Hop, Task

_NEVER = float("inf")
_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each bundle
NEGLIGIBLE_BATCH_S = 0.001  # replicas whose batches are shorter count as equally fast
LONG_BATCH_S = 0.05  # from here on a round trip between two batches costs less than a wrong choice
MAX_TOLD = 32  # a replica of long batches with no more producers tells each of the others' tasks
MUCH_SLOWER = 4.0  # an idle replica is passed over if its batches take so many times longer
TRIED_EVERY = 64  # turns after which one is not passed over, since it may be faster now


class DispatchedBundle(NamedTuple):
    """Tasks that are sent to one session together."""

    session: Session
    tasks: list[Task]
    nbytes: int


class Dispatcher:
    """The tasks that wait for one stage, and the sessions that may take them.

    Args:
        hop: the stage and revision.
        me: incarnation of this process.
        owner: the gateway that owns the tasks. Only replicas that reach this gateway get them. It
            is 0 in a gateway: all replicas that it knows reach it.

    Attributes:
        waiting: the tasks that were not sent yet.
        unfit: tasks that no message can carry or no replica accepts, with the reason; the caller
            fails them.
    """

    def __init__(self, hop: Hop, me: int, owner: int = 0) -> None:
        self.hop = hop
        self.owner = owner
        self._me = me
        self._homes: frozenset[int] = frozenset()
        self._turns = 0  # left of `TRIED_EVERY`; then the homes are computed anew, too
        self._backlog = 0  # the tasks that waited when this turn began
        self._is_retry = False  # whether a task may wait that was tried before
        self.waiting = PriorityQueue()
        self.unfit: list[tuple[Task, str]] = []
        self._sessions: dict[int, Session] = {}  # to whom nothing was sent for longest comes first

    def __repr__(self) -> str:
        return f"<Dispatcher {self.hop[0]} waiting {len(self.waiting)} for {len(self._sessions)}>"

    def join(self, session: Session) -> None:
        """Add a replica of the stage."""
        self._sessions[session.peer] = session
        self._turns = 0

    def leave(self, session: Session) -> None:
        """Remove a replica; without effect where it is not a member."""
        self._sessions.pop(session.peer, None)
        self._turns = 0

    @property
    def sessions(self) -> list[Session]:
        """The replicas that are connected and accept tasks, with credit or without."""
        return [
            s
            for s in self._sessions.values()
            if s.link is not None and not s.draining and (not self.owner or self.owner in s.owners)
        ]

    def push(self, task: Task) -> None:
        """Queue a task until a session has credit for it."""
        # Only tasks whose size users control can exceed a limit; the usual task has one buffer.
        usual = len(task.buffers) == 1 and task.meta is None
        reason = "" if usual else refusal(task)
        if reason:
            self.unfit.append((task, reason))
            return
        self.waiting.push(task)
        if task.tried:
            self._is_retry = True

    def dispatch(self) -> list[DispatchedBundle]:
        """Assign waiting tasks to sessions as far as credit allows.

        Returns:
            The bundles, already posted to their sessions.
        """
        waiting = self.waiting
        if not waiting.count:
            return []
        self._backlog = waiting.count
        self._turns -= 1
        if self._turns < 0:
            self._find_homes()
        bundles, free = [], self._free()
        while free and waiting.count:
            session = free[0] if len(free) == 1 else self._best(free)
            stage = session.stage
            if stage is not None and waiting.nbytes > stage.pool and self._is_beyond(session):
                if not self._set_aside(session):
                    free.remove(session)  # another replica accepts it as soon as it has credit
                continue
            bundles.append(self._send_to(session, free))
            if waiting.count and (not _is_free(session) or self._room(session) <= 0):
                free.remove(session)
        self._is_retry = self._is_retry and waiting.count > 0
        return bundles

    def _free(self) -> list[Session]:
        """List the replicas with credit. Every task passes here, hence a loop without calls."""
        owner, free = self.owner, []
        for session in self._sessions.values():
            credit = session.stream.granted
            if (
                credit.tasks > credit.used_tasks
                and credit.tasks > credit.paused
                and credit.nbytes > credit.used_nbytes
                and session.link is not None
                and not session.draining
                and (not owner or owner in session.owners)
                and (credit.batch_s < LONG_BATCH_S or self._room(session) > 0)
            ):
                free.append(session)
        return free

    def _room(self, session: Session) -> int:
        """Return how many tasks a replica may get now.

        While it computes a long batch it gets no other: the next one to be idle tells us. This does
        not matter if what waits is another batch for each of them, nor while a task waits that must
        not go back where it was tried. At its homes a producer gets its turn behind others' tasks,
        so that they cannot keep it out.
        """
        credit = session.stream.granted
        room = credit.tasks - credit.used_tasks
        is_only = len(self._sessions) == 1  # no other could be idle first
        if is_only or credit.batch_s < LONG_BATCH_S:
            return room
        batch = _batch_of(session)
        if self._is_retry or self._backlog > batch * len(self._sessions):
            return room
        if credit.others and session.peer not in self._homes and len(session.owners) <= MAX_TOLD:
            return 0
        return min(room, batch - credit.used_tasks + credit.settled_tasks)

    def has_takers(self) -> bool:
        """Whether a connected replica accepts tasks, with credit or without."""
        owner = self.owner
        for session in self._sessions.values():  # a loop, faster than `any`: each output asks this
            usable = session.link is not None and not session.draining
            if usable and (not owner or owner in session.owners):
                return True
        return False

    def give_one(self, session: Session) -> list[DispatchedBundle]:
        """Send the first waiting task to this replica, which need not be a member, if it may."""
        task = self.waiting.peek()
        usable = session.link is not None and not session.draining and _is_free(session)
        if task is None or not usable or session.peer in task.tried:
            return []
        if self._is_beyond(session):
            self._set_aside(session)
            return []
        self.waiting.pop()
        session.stream.post_tasks([task], task.nbytes)
        return [DispatchedBundle(session, [task], task.nbytes)]

    def _is_beyond(self, session: Session) -> bool:
        """Whether the first task is larger than this replica ever accepts."""
        task, stage = self.waiting.peek(), session.stage
        return task is not None and stage is not None and task.nbytes > stage.pool

    def _set_aside(self, session: Session) -> bool:
        """Move the first task to `unfit` if no replica of the stage accepts its size.

        One replica with a small limit must not fail a task that another one accepts.
        """
        task = self.waiting.peek()
        stages = [s.stage for s in (session, *self._sessions.values()) if s.stage is not None]
        most = max((stage.pool for stage in stages), default=0)
        if task is None or task.nbytes <= most:
            return False
        text = f"it has {task.nbytes} bytes, and a replica of stage {self.hop[0]} takes {most}"
        self.unfit.append((self.waiting.pop(), text))
        return True

    def _best(self, free: Sequence[Session]) -> Session:
        """Return the replica that should get the next tasks."""
        task = self.waiting.peek()
        if task is not None and task.tried:
            free = [s for s in free if s.peer not in task.tried] or free
        slowest = _NEVER
        if self._turns < TRIED_EVERY:
            fastest = min(s.stream.granted.batch_s or _NEVER for s in free)
            slowest = MUCH_SLOWER * max(fastest, NEGLIGIBLE_BATCH_S)
        costs = [_cost(session, slowest, session.peer in self._homes) for session in free]
        return free[costs.index(min(costs))]

    def _find_homes(self) -> None:
        """Compute our homes anew: replicas come and go, and tell of other producers."""
        self._turns = TRIED_EVERY
        if self._sessions:
            some = self._sessions[min(self._sessions)]
            self._homes = homes_of(self._me, some.owners, self._sessions)

    def _send_to(self, session: Session, free: list[Session]) -> DispatchedBundle:
        """Post this replica's tasks. It goes to the end of the order."""
        self._sessions[session.peer] = self._sessions.pop(session.peer)
        waiting = self.waiting
        credit = session.stream.granted
        room = self._share(session, free) if waiting.count > 1 else 1
        room_bytes = min(credit.nbytes - credit.used_nbytes, PART_BYTES)
        before = waiting.nbytes
        tasks = waiting.take(room, room_bytes, lambda task: _belongs_elsewhere(task, session, free))
        nbytes = before - waiting.nbytes
        session.stream.post_tasks(tasks, nbytes)
        return _new_tuple(DispatchedBundle, (session, tasks, nbytes))

    def _share(self, session: Session, free: Sequence[Session]) -> int:
        """Return how many tasks to send: the idle replicas share what waits.

        If none is idle, a replica gets a batch, or more if there is more for each of the free ones.
        """
        count = self.waiting.count
        if len(free) > 1:
            idle = sum([each.stream.granted.load <= 0 for each in free])
            share = -(-count // (idle or len(free)))
            count = share if idle else max(_batch_of(session), share)
        return min(count, self._room(session))


def _batch_of(session: Session) -> int:
    return session.stage.batch if session.stage is not None else 1


def _cost(session: Session, slowest: float, is_home: bool) -> tuple[float, float, bool]:
    """Return what is compared of two replicas; that with the least gets the tasks.

    Args:
        session: of the replica.
        slowest: seconds of a batch from which an idle replica is passed over for faster ones.
        is_home: whether it is one of our homes.
    """
    credit = session.stream.granted
    load, batch_s = credit.load, max(credit.batch_s, NEGLIGIBLE_BATCH_S)
    if load <= 0:
        return 0.0, batch_s if batch_s > slowest else 0.0, not is_home
    return batch_s * (1 + load / _batch_of(session)), 0.0, False


def _is_free(session: Session) -> bool:
    """Whether the session has credit for a task."""
    credit = session.stream.granted
    return (
        credit.tasks > credit.used_tasks
        and credit.tasks > credit.paused
        and credit.nbytes > credit.used_nbytes
    )


def _belongs_elsewhere(task: Task, session: Session, free: list[Session]) -> bool:
    """Whether this replica had the task before, and another free one had not."""
    return session.peer in task.tried and any(s.peer not in task.tried for s in free)
