"""The credit of each producer, computed from what a replica holds. Pure.

A replica aims to have one batch computing and one waiting. Every producer keeps a standing credit
of one batch, so that an idle one can send at once; where they are many, they have less, so that
together they cannot bury one replica. The rest goes to producers that have consumed their credit.
Bytes are bounded: each producer has an equal share of the pool, and may exceed it by one task.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from mesh.links.session import Session
from mesh.protocol.messages import Load, Task

_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each message


class HeldByProducer(NamedTuple):
    """The tasks of one producer, and their bytes, that the replica holds now."""

    tasks: int
    nbytes: int


MAX_STANDING = 8  # batches of standing credit of all producers, if that is a task for each
NOTHING = HeldByProducer(0, 0)
DELAY_S = 0.050  # how long the renewal of credit may wait while producers have enough
NEVER = float("inf")


class ProducerHoldings:
    """The tasks and bytes that the replica holds, by producer, from arrival until release.

    An output in transit to the next stage stays here until its ack comes. Until then its bytes
    count, but it no longer counts as a task, because it is no work for this replica.

    Attributes:
        tasks: tasks of all producers, without those in transit to the next stage.
        batch_us: microseconds that a batch lately took; 0 before the first.
        has_changed: whether tasks came or left in this turn; the replica resets it.
    """

    __slots__ = ("_by_source", "_told", "_under_way", "batch_us", "has_changed", "tasks")

    def __init__(self) -> None:
        self._by_source: dict[int, list[int]] = {}  # tasks that count, bytes, all tasks
        self._under_way: set[Task] = set()
        self._told: set[int] = set()  # producers that know of others' tasks here
        self.tasks = self.batch_us = 0
        self.has_changed = False

    def of(self, producer: int) -> HeldByProducer:
        """Return what is held of this producer."""
        held = self._by_source.get(producer)
        return NOTHING if held is None else HeldByProducer(held[0], held[1])

    def load_for(self, session: Session) -> Load:
        """Return what this replica tells a producer of its load."""
        held = self._by_source.get(session.peer)
        yours = 0 if held is None else held[0]
        # Some of its tasks may have come in an earlier session.
        settled = max(0, session.stream.allowed.used_tasks - yours)
        others = self.tasks - yours
        (self._told.add if others else self._told.discard)(session.peer)
        return _new_tuple(Load, (settled, others, self.batch_us))

    def is_news(self, producer: int) -> bool:
        """Whether a producer does not know yet that others have tasks here, or have none."""
        return (self.tasks > self.of(producer).tasks) != (producer in self._told)

    def __len__(self) -> int:
        """Count the producers with tasks here."""
        return len(self._by_source)

    def add(self, source: int, tasks: Collection[Task]) -> None:
        """Add tasks that came from one producer."""
        held = self._by_source.get(source)
        if held is None:
            held = self._by_source[source] = [0, 0, 0]
        held[0] += len(tasks)
        for task in tasks:
            held[1] += task.nbytes
        held[2] += len(tasks)
        self.tasks += len(tasks)
        self.has_changed = True

    def set_out(self, tasks: Iterable[Task]) -> None:
        """Mark outputs as sent to the next stage."""
        self.has_changed = True
        for task in tasks:
            self._under_way.add(task)
            self._by_source[task.source][0] -= 1
            self.tasks -= 1

    def come_back(self, task: Task) -> None:
        """Mark an output as waiting again: its consumer is gone and had not acked it."""
        self.has_changed = True
        self._under_way.remove(task)
        self._by_source[task.source][0] += 1
        self.tasks += 1

    def release(self, tasks: Iterable[Task]) -> None:
        """Remove tasks that the replica no longer holds."""
        self.has_changed = True
        under_way = self._under_way
        for task in tasks:
            held = self._by_source[task.source]
            if under_way and task in under_way:
                under_way.remove(task)
            else:
                held[0] -= 1
                self.tasks -= 1
            held[1] -= task.nbytes
            held[2] -= 1
            if not held[2]:
                del self._by_source[task.source]

    def swap(self, task: Task, output: Task) -> None:
        """Replace a computed task by its output."""
        output.source = task.source
        self._by_source[task.source][1] += output.nbytes - task.nbytes


class CreditRenewal:
    """Decides when the producers get new credit.

    Args:
        held: the tasks and bytes held of each producer.
        pool: limit of the held payload bytes, beside one task of each producer.

    Attributes:
        owed: whether what is held changed since credit was renewed, and no renewal is scheduled.
        due: when a scheduled renewal is due, in local monotonic seconds.
    """

    __slots__ = ("_half", "_held", "_low", "_paused", "_pool", "_slice", "_window", "due", "owed")

    def __init__(self, held: ProducerHoldings, pool: int) -> None:
        self._held = held
        self._pool = pool
        self.owed = False
        self.due = NEVER
        self._low = True  # a producer has consumed half of its credit, or is new
        self._half = 0  # half of the tasks that each producer may have outstanding
        self._slice = 0  # the same in bytes
        self._window = 0  # the batch size for which credit was last granted
        self._paused: set[int] = set()  # owners that got tasks back during the running forward

    def request_now(self) -> None:
        """Renew without delay: a producer is new, silent or back."""
        self.owed = self._low = True

    def used(self, session: Session) -> None:
        """Renew without delay if a producer that sent tasks has used half of its credit."""
        allowed = session.stream.allowed
        left, left_bytes = allowed.tasks - allowed.used_tasks, allowed.nbytes - allowed.used_nbytes
        if left <= self._half or left_bytes <= self._slice:
            self.request_now()

    def pause(self, owners: Iterable[int]) -> None:
        """Grant nothing until the running forward ends.

        With new credit, the tasks that were given back to these owners would come straight back.
        """
        self._paused.update(owners)

    def stop(self) -> None:
        """Grant nothing more: the replica drains."""
        self.due = NEVER

    def is_due(self, window: int, now: float, *, computing: bool) -> bool:
        """Whether to renew now; otherwise schedule it, or wait for the end of the forward."""
        if self._paused:
            self.owed, self.due = True, NEVER
            return not computing
        if self._low or window > self._window or now >= self.due:
            return True
        self.due = min(self.due, now + DELAY_S)  # so that a lone request does not pay for it
        self.owed = False
        return False

    def renew(self, producers: Collection[Session], window: int, now: float) -> list[Session]:
        """Renew the credit of all producers; return the sessions whose credit grew."""
        self.owed, self.due = False, NEVER
        grown = grant(producers, self._held, window, self._pool, now, self._paused)
        self._half = _standing(window, len(producers)) // 2
        self._slice = self._pool // max(1, len(producers)) // 2
        self._low, self._window = is_low(producers, self._half, self._slice), window
        if self._paused:
            self._paused = set()
        return grown


def is_low(producers: Collection[Session], tasks: int, nbytes: int) -> bool:
    """Whether any producer has consumed half of its credit.

    Until then credit need not be renewed. Otherwise each request of a lone client would pay for it.

    Args:
        producers: the sessions that send us tasks.
        tasks: half of the tasks that each producer may have outstanding.
        nbytes: the same in payload bytes.
    """
    allowed = [s.stream.allowed for s in producers if not s.vitals.silent]
    return any(a.free_tasks <= tasks or a.free_nbytes <= nbytes for a in allowed)


def grant(
    producers: Collection[Session],
    held: ProducerHoldings,
    window: int,
    pool: int,
    now: float,
    credit_paused: Collection[int] = (),
) -> list[Session]:
    """Renew the credit of every producer.

    Args:
        producers: the sessions that send us tasks.
        held: what the replica holds of each.
        window: the present size of a batch, in tasks.
        pool: limit of the held payload bytes, beside one task of each producer.
        now: local monotonic time in seconds.
        credit_paused: incarnations that got tasks back. They send nothing until they are granted
            more, so each of them gets at least one more task.

    Returns:
        The sessions whose credit grew.
    """
    heard = [s for s in producers if not s.vitals.silent]  # others receive none of our outcomes
    batch = _standing(window, len(heard))
    using = [s for s in heard if s.stream.allowed.free_tasks < batch]
    share = _share(using, max(0, 2 * window - held.tasks))
    slice_ = pool // max(1, len(producers))
    grown = []
    for session in heard:
        own, allowed = held.of(session.peer), session.stream.allowed
        tasks = allowed.tasks
        if session in using:
            tasks = allowed.used_tasks + _wanted(session, held, share, batch)
        if session.peer in credit_paused:
            tasks = max(tasks, allowed.tasks + 1)
        nbytes = allowed.used_nbytes + slice_ - own.nbytes
        if tasks > allowed.tasks or nbytes > allowed.nbytes:
            session.stream.allow(tasks, nbytes, now)
            grown.append(session)
    return grown


def _standing(window: int, producers: int) -> int:
    """Return the standing credit of each producer: a batch, or less if they are many."""
    return max(1, min(window, MAX_STANDING * window // max(1, producers)))


def _share(using: Collection[Session], free: int) -> int:
    """Return how many tasks each producer may have outstanding to fill the free room together.

    A producer that has as many outstanding already may be idle. It does not count; otherwise its
    part of every batch would stay empty.
    """
    count = len(using)
    for outstanding in sorted((s.stream.allowed.free_tasks for s in using), reverse=True):
        if outstanding * count < free:
            break
        count -= 1
    return -(-free // max(1, count))


def _wanted(session: Session, held: ProducerHoldings, share: int, standing: int) -> int:
    """Return how many tasks a producer that consumed its credit may have outstanding.

    Args:
        session: the producer's; a new one gets its standing credit.
        held: what the replica holds. While that is nothing, every producer gets it.
        share: its share of the free room.
        standing: the standing credit.
    """
    if not session.stream.allowed.used_tasks:
        return standing
    if held.of(session.peer).tasks:
        return share
    return max(1, share, 0 if held.tasks else standing)
