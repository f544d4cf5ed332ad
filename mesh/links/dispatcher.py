"""Distribution of the tasks that wait for one stage over replicas that granted credit. Pure.

The gateway has one `Dispatcher` per stage; a replica has one per following stage. At the end of a
turn, the waiting tasks leave in one bundle per session.

A task may exceed the byte credit that is left of a session. Otherwise a task larger than any
producer's credit would never leave, and would block all tasks behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from mesh.links.homes import homes
from mesh.links.priority_queue import PriorityQueue
from mesh.links.session import Session
from mesh.protocol.bundles import refusal
from mesh.protocol.fields import PART_BYTES
from mesh.protocol.messages import BatchStats, Hop, Task

_NEVER = float("inf")
_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each bundle
NEGLIGIBLE_BATCH_S = 0.001  # replicas whose batches are shorter count as equally fast
LATE_BATCH_S = 0.05  # batches that take longer are waited for: a round trip costs little of them
MUCH_SLOWER = 4.0  # of two idle replicas, one is passed over if its batches take longer than that
HOMES_LAST = 64  # choices for which the homes count as settled
PACE_WINDOW = 4  # batches over which a replica's pace is averaged
PACE_DECAY = 0.995  # factor per sweep, so that a replica that was slow once is tried again


def _nobody() -> tuple[int, ...]:
    return ()


class DispatchedBundle(NamedTuple):
    """Tasks that are sent to one session together."""

    session: Session
    tasks: list[Task]
    nbytes: int


class Dispatcher:
    """The tasks that wait for one stage, and the sessions that may take them.

    Args:
        hop: the stage and revision.
        owner: the gateway that owns the tasks. Only replicas that reach this gateway get them. It
            is 0 in a gateway: all replicas that it knows reach it.

        me: incarnation of this process, for `homes`.
        strangers: returns the incarnations of producers that are of another kind: for a replica,
            the gateways, which send to this stage only what comes back to them.

    Attributes:
        waiting: the tasks that were not sent yet.
        unfit: tasks that no message can carry or no replica accepts, with the reason; the caller
            fails them.
    """

    def __init__(
        self,
        hop: Hop,
        owner: int = 0,
        me: int = 0,
        strangers: Callable[[], Collection[int]] = _nobody,
    ) -> None:
        self.hop = hop
        self.owner = owner
        self._me = me
        self._strangers = strangers
        self._homes: frozenset[int] = frozenset()
        self._choices = 0  # until the homes are settled anew
        self.waiting = PriorityQueue()
        self.unfit: list[tuple[Task, str]] = []
        self._sessions: dict[int, Session] = {}
        self._paces: dict[int, float] = {}  # seconds per batch, by replica

    def __repr__(self) -> str:
        return f"<Dispatcher {self.hop[0]} waiting {len(self.waiting)} for {len(self._sessions)}>"

    def join(self, session: Session) -> None:
        """Add a replica of the stage."""
        self._sessions[session.peer] = session
        self._choices = 0

    def leave(self, session: Session) -> None:
        """Remove a replica; without effect where it is not a member."""
        self._sessions.pop(session.peer, None)
        self._paces.pop(session.peer, None)
        self._choices = 0

    def learn_pace(self, session: Session, stats: Iterable[BatchStats]) -> None:
        """Learn how long these batches took at a replica; no effect where it is not a member."""
        if session.peer not in self._sessions:
            return
        pace = self._paces.get(session.peer, 0.0)
        for batch in stats:
            seconds = batch.compute / 1e6
            pace += (seconds - pace) / PACE_WINDOW if pace else seconds
        self._paces[session.peer] = pace

    def pace_of(self, session: Session) -> float:
        """Return the seconds that a batch lately took at a replica; 0 before the first."""
        return self._paces.get(session.peer, 0.0)

    def decay_paces(self) -> None:
        """Let what was learnt of all replicas lose weight."""
        for peer in self._paces:
            self._paces[peer] *= PACE_DECAY

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
        else:
            self.waiting.push(task)

    def dispatch(self) -> list[DispatchedBundle]:
        """Assign waiting tasks to sessions as far as credit allows.

        Returns:
            The bundles, already posted to their sessions.
        """
        waiting = self.waiting
        if not waiting.count:
            return []
        bundles = []
        free = self._free()
        while free and waiting.count:
            session = free[0] if len(free) == 1 else self._best(free)
            stage = session.stage
            if stage is not None and waiting.nbytes > stage.pool and self._is_beyond(session):
                if not self._set_aside(session):
                    free.remove(session)  # another replica accepts it as soon as it has credit
                continue
            bundles.append(self._send_to(session, free))
            if waiting.count and not self._takes(session):
                free.remove(session)
        return bundles

    def _free(self) -> list[Session]:
        """List the replicas with credit. Every task passes here, hence a loop without calls."""
        owner, free, paces = self.owner, [], self._paces
        for session in self._sessions.values():
            credit = session.stream.granted
            if (
                credit.tasks > credit.used_tasks
                and credit.tasks > credit.paused
                and credit.nbytes > credit.used_nbytes
                and session.link is not None
                and not session.draining
                and (not owner or owner in session.owners)
                and (paces.get(session.peer, 0.0) < LATE_BATCH_S or self._has_room(session))
            ):
                free.append(session)
        return free

    def _takes(self, session: Session) -> bool:
        """Whether a replica that was free a moment ago still is."""
        slow = self._paces.get(session.peer, 0.0) >= LATE_BATCH_S
        return _is_free(session) and (not slow or self._has_room(session))

    def _has_room(self, session: Session) -> bool:
        """Whether a replica whose batches are long holds less than one batch of ours.

        What is sent behind a long batch waits there although another replica may be idle sooner.
        Large tasks are sent ahead all the same: they travel meanwhile.
        """
        credit, stage, task = session.stream.granted, session.stage, self.waiting.peek()
        batch = stage.batch if stage is not None else 1
        is_large = task is not None and task.nbytes > PART_BYTES
        return is_large or credit.used_tasks - credit.settled_tasks < batch

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

    def _best(self, free: list[Session]) -> Session:
        """Return an idle replica if there is one, else the one that is done first.

        Of several the one to which nothing was sent for the longest time.
        """
        task = self.waiting.peek()
        if task is not None and task.tried:
            free = [s for s in free if s.peer not in task.tried] or free
        paces = self._paces
        known = [paces[s.peer] for s in free if paces.get(s.peer)]
        fastest = max(min(known), NEGLIGIBLE_BATCH_S) if known else NEGLIGIBLE_BATCH_S
        own = self._settled_homes()
        best, least = free[0], (_NEVER, 0.0, True)
        for session in free:
            credit, stage = session.stream.granted, session.stage
            load = credit.used_tasks - credit.settled_tasks + credit.others
            pace = max(paces.get(session.peer) or fastest, NEGLIGIBLE_BATCH_S)
            if load <= 0:
                much = 0.0 if pace <= MUCH_SLOWER * fastest else pace
                cost = 0.0, much, session.peer not in own
            else:
                cost = pace * (1 + load / (stage.batch if stage is not None else 1)), 0.0, True
            if cost < least:
                best, least = session, cost
        return best

    def _settled_homes(self) -> frozenset[int]:
        """Return our homes. Producers come and go meanwhile, of which the replicas tell."""
        if self._choices:
            self._choices -= 1
            return self._homes
        self._choices = HOMES_LAST
        first = self._sessions[min(self._sessions)]
        rivals = first.owners.difference(self._strangers())
        self._homes = homes(self._me, rivals, self._sessions)
        return self._homes

    def _send_to(self, session: Session, free: list[Session]) -> DispatchedBundle:
        """Post this replica's tasks, and let all others be chosen before it next time."""
        self._sessions[session.peer] = self._sessions.pop(session.peer)
        waiting = self.waiting
        credit = session.stream.granted
        room = min(credit.tasks - credit.used_tasks, self._share(session, free))
        room_bytes = min(credit.nbytes - credit.used_nbytes, PART_BYTES)
        before = waiting.nbytes
        tasks = waiting.take(room, room_bytes, lambda task: _belongs_elsewhere(task, session, free))
        nbytes = before - waiting.nbytes
        session.stream.post_tasks(tasks, nbytes)
        return _new_tuple(DispatchedBundle, (session, tasks, nbytes))

    def _share(self, session: Session, free: list[Session]) -> int:
        """Return how many tasks to send: those that wait, shared between idle replicas.

        A busy one gets a batch, or its share if that is more.
        """
        batch = session.stage.batch if session.stage is not None else 1
        if len(free) == 1:
            share = self.waiting.count
        else:
            idle = sum([_is_idle(each) for each in free])
            share = -(-self.waiting.count // (idle or len(free)))
            if not idle:
                share = max(batch, share)
        if self._paces.get(session.peer, 0.0) < LATE_BATCH_S:
            return share
        credit = session.stream.granted
        return max(1, min(share, batch - credit.used_tasks + credit.settled_tasks))


def _is_idle(session: Session) -> bool:
    """Whether the replica holds no task, as far as is known."""
    credit = session.stream.granted
    return credit.used_tasks - credit.settled_tasks + credit.others <= 0


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
