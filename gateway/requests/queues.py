"""The queues of the gateway: requests wait for credit, or for a missing stage. Pure.

Each stage of the revision that the routes use has a dispatcher, and so has each stage of another
revision that has replicas. Replicas of a later revision get no tasks yet; those of a former one
finish the requests that they have. An attempt visits the hops that its route has when the attempt
starts, so all hops of one attempt are of one revision.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.requests.in_flight import Request
from gateway.requests.replicas import Replicas
from mesh.links.dispatcher import Dispatcher
from mesh.links.priority_queue import PriorityQueue
from mesh.links.session import Session
from mesh.protocol.messages import Hop, Hops, Task


class Queues:
    """All waiting requests, by stage.

    Args:
        replicas: the replica registry, which also has the routes.
        me: incarnation of this gateway.

    Attributes:
        dispatchers: by stage and revision.
        parked: by route, the requests that may not start because a stage of it has no replica.
        crowded: stages with tasks that waited after the last turn had consumed all credit.
        missing: whether any stage of the routes has no replica.
    """

    def __init__(self, replicas: Replicas, me: int) -> None:
        self._replicas, self._me = replicas, me
        hop_lists = list(replicas.routes.values())
        self.dispatchers = {hop: Dispatcher(hop, me) for hops in hop_lists for hop in hops}
        self.parked = {hops: PriorityQueue() for hops in hop_lists}
        self.crowded: set[Hop] = set()
        self._gaps = frozenset(replicas.missing())
        self.missing = bool(self._gaps)
        self._heirs: dict[Hop, Hop] = {}  # hops of other revisions → the same stage's present hop

    def wait(self, request: Request) -> None:
        """Queue a request for its first stage, or park it while a stage of its route is missing."""
        if request.hops[0] in self._heirs:
            self._inherit(request)
        hops = request.hops
        if self.missing and not self._gaps.isdisjoint(hops):
            self.parked[hops].push(request)
        else:
            self.dispatchers[hops[0]].push(request)

    def _inherit(self, request: Request) -> None:
        """Move a request to the present revision. It needs a new attempt if a former revision had
        it: reports of the former one must not count for it."""
        request.hops = tuple([self._heirs[hop] for hop in request.hops])
        request.attempt += bool(request.tried)

    def withdraw(self, request: Request, at: int) -> None:
        """Remove the task of a request that waits here for the stage at this hop."""
        parked = self.parked.get(request.hops)
        if parked is not None and parked.remove(request):
            return
        waiting = self.dispatchers[request.hops[at]].waiting
        if not waiting.remove(request):  # a handed-back output waits as a task of its own
            for task in [task for task in waiting if task.number == request.number]:
                waiting.remove(task)

    def is_crowded(self, hops: Hops) -> bool:
        """Whether requests with these hops wait for a replica or for credit."""
        return not self.crowded.isdisjoint(hops) or bool(self.parked[hops])

    def overtaken(self, hops: Hops, priority: int, deadline: float) -> int:
        """Count the requests waiting for the first stage that such a request would overtake."""
        lines = (self.dispatchers[hops[0]].waiting, self.parked[hops])
        return sum(line.behind(priority, deadline) for line in lines)

    def drop_absent(self, hop: Hop) -> list[Task]:
        """Remove and return all tasks that wait for a stage that has been gone for too long."""
        parked = [backlog for hops, backlog in self.parked.items() if hop in hops]
        lines = (self.dispatchers[hop].waiting, *parked)
        return [task for line in lines for task in emptied(line)]

    # --- who is there ----------------------------------------------------------------------------

    def join(self, hop: Hop, session: Session) -> None:
        """Add a replica of this stage."""
        if hop not in self.dispatchers:
            self.dispatchers[hop] = Dispatcher(hop, self._me)
        self.dispatchers[hop].join(session)
        self.find_gaps()

    def find_gaps(self) -> None:
        """Update which stages are missing: start parked requests whose stages are all there, and
        park requests whose stages no longer are."""
        gaps = frozenset(self._replicas.missing())
        if gaps == self._gaps:
            return
        self._gaps, self.missing = gaps, bool(gaps)
        for hops, parked in self.parked.items():
            first = self.dispatchers[hops[0]]
            if gaps.isdisjoint(hops):
                for request in emptied(parked):
                    first.push(request)
            else:
                for task in emptied(first.waiting):
                    is_at_start = task.hop == 0 and task.hops == hops
                    (parked if is_at_start else first.waiting).push(task)

    # --- one revision after another --------------------------------------------------------------

    def move(self, routes: Mapping[str, Hops]) -> None:
        """Switch the routes to another revision; requests that have not started follow them.

        Args:
            routes: the new routes, as in the replica registry; all of their stages have replicas.
        """
        present = {hop[0]: hop for hops in routes.values() for hop in hops}
        for hop in present.values():
            self.dispatchers.setdefault(hop, Dispatcher(hop, self._me))
        self._heirs = {hop: present[hop[0]] for hop in self.dispatchers if hop != present[hop[0]]}
        former, self.parked = self.parked, {hops: PriorityQueue() for hops in routes.values()}
        self._gaps, self.missing = frozenset(), False
        starts = {hops[0] for hops in former}
        lines = [*former.values(), *(self.dispatchers[hop].waiting for hop in starts)]
        for task in [task for line in lines for task in emptied(line)]:
            if task.hop == 0 and isinstance(task, Request):
                self.wait(task)
            else:
                self.dispatchers[task.hops[0]].waiting.push(task)

    def deserted(self) -> list[Hop]:
        """Return the stages of other revisions that have no replica left."""
        present = {hop for hops in self._replicas.routes.values() for hop in hops}
        if len(self.dispatchers) == len(present):
            return []
        kept = present | self._replicas.present()
        return [hop for hop in self.dispatchers if hop not in kept]

    def forget(self, hop: Hop) -> None:
        """Delete the empty dispatcher of a stage that is not used any more."""
        del self.dispatchers[hop]
        self._heirs.pop(hop, None)
        self.crowded.discard(hop)


def emptied(backlog: PriorityQueue) -> list[Task]:
    """Remove and return all tasks, the most urgent first."""
    return [backlog.pop() for _ in range(len(backlog))]
