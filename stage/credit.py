"""How much credit each producer is given: pure arithmetic on what a replica holds. Pure.

A replica aims to have one batch computing and one waiting. Every producer keeps one standing
batch of credit, so that an idle one can send at once; what is free beyond that goes to those who
have used theirs up. Bytes are bounded: each producer has an equal slice of the pool, and may
overdraw it by one task.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from mesh.links.session import Session
from mesh.protocol.messages import Task


class HeldByProducer(NamedTuple):
    """What of one producer's tasks is in the replica now."""

    tasks: int
    nbytes: int


NOTHING = HeldByProducer(0, 0)


class ProducerHoldings:
    """What the replica holds of each producer's, from its coming until nobody needs it here.

    An output that was sent to the next stage is here until its ack comes, which nobody hurries:
    its bytes count until then, but it is no work of ours any more.

    Attributes:
        tasks: how many there are of all producers, but for those under way to the next stage.
    """

    __slots__ = ("_by_source", "_under_way", "tasks")

    def __init__(self) -> None:
        self._by_source: dict[int, list[int]] = {}  # tasks that count, bytes, all tasks
        self._under_way: set[Task] = set()
        self.tasks = 0

    def of(self, producer: int) -> HeldByProducer:
        """What is here of this incarnation's."""
        held = self._by_source.get(producer)
        return NOTHING if held is None else HeldByProducer(held[0], held[1])

    def __len__(self) -> int:
        """Count the producers of whose tasks any are here."""
        return len(self._by_source)

    def add(self, source: int, tasks: Collection[Task]) -> None:
        """These tasks of one producer are here now."""
        held = self._by_source.get(source)
        if held is None:
            held = self._by_source[source] = [0, 0, 0]
        held[0] += len(tasks)
        for task in tasks:
            held[1] += task.nbytes
        held[2] += len(tasks)
        self.tasks += len(tasks)

    def set_out(self, tasks: Iterable[Task]) -> None:
        """These outputs were sent to the next stage."""
        for task in tasks:
            self._under_way.add(task)
            self._by_source[task.source][0] -= 1
            self.tasks -= 1

    def come_back(self, task: Task) -> None:
        """This output did not arrive, and waits again."""
        self._under_way.remove(task)
        self._by_source[task.source][0] += 1
        self.tasks += 1

    def release(self, tasks: Iterable[Task]) -> None:
        """These tasks are no longer here."""
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
        """An output takes its input's place."""
        output.source = task.source
        self._by_source[task.source][1] += output.nbytes - task.nbytes


def is_low(producers: Collection[Session], window: int, nbytes: int) -> bool:
    """Whether any producer has used up half of what it may have outstanding.

    Until then its credit need not be renewed: a lone client would have every request pay for it.

    Args:
        producers: sessions that send us tasks.
        window: how many tasks one batch means now.
        nbytes: half of the bytes that each may have outstanding.
    """
    return any(
        s.allowed_tasks - s.taken_tasks <= window // 2 or s.allowed_bytes - s.taken_bytes <= nbytes
        for s in producers
        if not s.silent
    )


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
        producers: sessions that send us tasks.
        held: what the replica holds of each.
        window: how many tasks one batch means now.
        pool: payload bytes that the replica holds, but for one task of each producer.
        now: local monotonic time in seconds.
        paused: incarnations to whom tasks were given back; they send nothing until more is granted,
            however much they have left.

    Returns:
        The sessions whose credit grew.
    """
    using = [s for s in producers if s.allowed_tasks - s.taken_tasks < window and not s.silent]
    share = _share(using, max(0, 2 * window - held.tasks))
    slice_ = pool // max(1, len(producers))
    grown = []
    for session in producers:
        if session.silent:  # it does not take our outcomes: nothing more of its is computed
            continue
        own = held.of(session.peer)
        tasks = session.allowed_tasks
        if session in using:
            standing = not held.tasks or not session.taken_tasks
            tasks = session.taken_tasks + _wanted(own, share, window if standing else 0)
        if session.peer in credit_paused:
            tasks = max(tasks, session.allowed_tasks + 1)
        nbytes = session.taken_bytes + slice_ - own.nbytes
        if tasks > session.allowed_tasks or nbytes > session.allowed_bytes:
            session.allow(tasks, nbytes, now)
            grown.append(session)
    return grown


def _share(using: Collection[Session], free: int) -> int:
    """Tasks that each shall have outstanding, so that together they can fill what is free.

    Who has as many outstanding already may be idle: it counts for nothing, or a part of every
    batch would stay empty for its sake.
    """
    count = len(using)
    for outstanding in sorted((s.allowed_tasks - s.taken_tasks for s in using), reverse=True):
        if outstanding * count < free:
            break
        count -= 1
    return -(-free // max(1, count))


def _wanted(own: HeldByProducer, share: int, standing: int) -> int:
    """Tasks that a producer which used its credit shall have outstanding.

    Args:
        own: what is held of it.
        share: its part of what is free.
        standing: the batch that it has in any case: when it is new, and when all is quiet.
    """
    if own.tasks:
        return share
    return max(1, share, standing)
