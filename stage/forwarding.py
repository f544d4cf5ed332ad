"""Forwarding of outputs straight to replicas of the next stage. Pure.

An output goes to a replica that has dialled us, has credit, and can reach the request's owner. If
there is none, or if an output waits too long for credit, the output is handed back to the owner,
which dispatches it.
"""

from __future__ import annotations

from typing import NamedTuple

from mesh.links.dispatcher import Dispatcher
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Hop, Task, Tasks

NEVER = float("inf")
MAX_WAIT_SHARE = 1 / 3  # the share of the next stage's timeout that an output waits for credit


class OutputDispatcher(Dispatcher):
    """One owner's outputs for one stage, and the replicas there that reach this owner.

    Attributes:
        stuck_at: when the waiting outputs are handed back, unless some of them leave before.
    """

    def __init__(self, hop: Hop, owner: int, me: int) -> None:
        super().__init__(hop, me, owner)
        self.stuck_at = NEVER

    @property
    def patience(self) -> float:
        """Seconds that outputs wait for credit."""
        limits = [s.stage.timeout for s in self.sessions if s.stage is not None]
        # The minimum: a single replica that announces a huge timeout must not hold outputs up.
        return min(limits, default=0.0) * MAX_WAIT_SHARE


class UnforwardedOutputs(NamedTuple):
    """What became of the waiting outputs.

    Attributes:
        sent: sent to the next stage.
        expired: their deadline has passed.
        stuck: found no replica in time.
        unfit: no message can carry them; each with the reason.
    """

    sent: list[Task]
    expired: list[Task]
    stuck: list[Task]
    unfit: list[tuple[Task, str]]


class Forwarding:
    """The outputs of a replica that wait for the next stage.

    Args:
        links: the links of this process.

    Attributes:
        is_waiting: whether `advance` has something to do.
    """

    def __init__(self, links: Links) -> None:
        self.is_waiting = False
        self._links = links
        self._consumers: dict[int, Session] = {}
        self._lent: set[Task] = set()
        self._outlets: dict[tuple[Hop, int], OutputDispatcher] = {}

    def __len__(self) -> int:
        return sum(len(outlet.waiting) for outlet in self._outlets.values())

    def join(self, session: Session) -> None:
        """Add a replica of a later stage, also one that is no longer silent."""
        facts = session.stage
        # Only the owner dispatches to a stage that must not run twice, because it knows the holder.
        if facts is not None and facts.repeatable:
            self._consumers[session.peer] = session
            for outlet in self._outlets.values():
                if outlet.hop == (facts.name, facts.revision):
                    outlet.join(session)

    def leave(self, session: Session) -> None:
        """Remove a replica whose session ended or that is silent."""
        self._consumers.pop(session.peer, None)
        for outlet in self._outlets.values():
            outlet.leave(session)

    def bypass(self, session: Session) -> list[Task]:
        """Send nothing new to a silent consumer.

        Returns:
            The tasks that it has not acked; their owners run them elsewhere. A later ack of
            them, or the loss of the consumer, has no effect: see `kept`.
        """
        self.leave(session)
        tasks = [
            task
            for message in session.stream.pending()
            if type(message) is Tasks
            for task in message.tasks
            if task not in self._lent
        ]
        self._lent.update(tasks)
        return tasks

    def kept(self, tasks: list[Task]) -> list[Task]:
        """Filter acked or returned tasks: drop those that `bypass` gave away before."""
        if not self._lent:
            return tasks
        kept = [task for task in tasks if task not in self._lent]
        self._lent.difference_update(tasks)
        return kept

    def push(self, task: Task) -> bool:
        """Queue an output for a replica; False if no replica could accept it."""
        key = task.hops[0], task.owner
        outlet = self._outlets.get(key) or self._open(*key)
        if not outlet.has_takers():
            return False
        outlet.push(task)
        self.is_waiting = True
        return True

    def _open(self, hop: Hop, owner: int) -> OutputDispatcher:
        outlet = self._outlets[hop, owner] = OutputDispatcher(hop, owner, self._links.me)
        for session in self._consumers.values():
            if session.stage is not None and hop == session.stage[:2]:
                outlet.join(session)
        return outlet

    def cancel(self, ids: set[tuple[int, int]]) -> list[Task]:
        """Remove and return the outputs of these requests."""
        found = []
        for outlet in self._outlets.values():
            for task in [task for task in outlet.waiting if task.id in ids]:
                outlet.waiting.remove(task)
                found.append(task)
            if not outlet.waiting:
                outlet.stuck_at = NEVER
        return found

    def forget(self, owner: int) -> list[Task]:
        """Remove and return the outputs of a gateway that is gone."""
        tasks: list[Task] = []
        for key in [key for key in self._outlets if key[1] == owner]:
            outlet = self._outlets.pop(key)
            tasks += _emptied(outlet)
            tasks += [task for task, _ in outlet.unfit]
        return tasks

    def advance(self, now: float) -> UnforwardedOutputs:
        """Send the outputs that credit allows, and return what became of all outputs."""
        leavings = UnforwardedOutputs([], [], [], [])
        self.is_waiting = False
        for outlet in self._outlets.values():
            if outlet.waiting.count:
                leavings.expired.extend(outlet.waiting.expired(now))
                self._dispatch(outlet, leavings, now)
                if outlet.waiting.count:
                    self.is_waiting = True
            if outlet.unfit:
                leavings.unfit.extend(outlet.unfit)
                outlet.unfit.clear()
        if len(self._outlets) > 1:  # round robin: another owner is first to use the credit
            first = next(iter(self._outlets))
            self._outlets[first] = self._outlets.pop(first)
        return leavings

    def _dispatch(self, outlet: OutputDispatcher, leavings: UnforwardedOutputs, now: float) -> None:
        bundles = outlet.dispatch()
        for bundle in bundles:
            leavings.sent.extend(bundle.tasks)
            self._links.touched[bundle.session] = None
        if not outlet.waiting.count:
            outlet.stuck_at = NEVER
            return
        if not outlet.has_takers():
            outlet.stuck_at = now
        elif bundles or outlet.stuck_at == NEVER:
            outlet.stuck_at = now + outlet.patience
        if now >= outlet.stuck_at:
            leavings.stuck.extend(_emptied(outlet))

    def next_due(self) -> float:
        """Return when the first outputs will have waited too long."""
        due = [outlet.stuck_at for outlet in self._outlets.values() if outlet.waiting.count]
        return min(due, default=NEVER)


def _emptied(outlet: OutputDispatcher) -> list[Task]:
    outlet.stuck_at = NEVER
    return [outlet.waiting.pop() for _ in range(len(outlet.waiting))]
