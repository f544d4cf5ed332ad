"""The queues of the gateway: requests wait for credit, or for a missing stage. Pure.

Each stage of the revision that the routes use has a dispatcher, and so has each stage of another
revision that has replicas. Replicas of a later revision get no tasks yet; those of a former one
finish the requests that they have. An attempt takes the path that its route has when the attempt
starts, so all hops of one attempt are of one revision.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.requests.in_flight import Request
from gateway.requests.replicas import Replicas
from mesh.links.dispatcher import Dispatcher
from mesh.links.priority_queue import PriorityQueue
from mesh.links.session import Session
from mesh.protocol.messages import Hop, Path, Task


class Queues:
    """All waiting requests, by stage.

    Args:
        replicas: the replica registry, which also has the routes.
        me: incarnation of this gateway.

    Attributes:
        dispatchers: by stage and revision.
        parked: by path, the requests that may not start because a stage of it has no replica.
        crowded: stages with tasks that waited after the last turn had consumed all credit.
        missing: whether any stage of the routes has no replica.
    """

    def __init__(self, replicas: Replicas, me: int) -> None:
        self._replicas, self._me = replicas, me
        paths = list(replicas.routes.values())
        self.dispatchers = {hop: Dispatcher(hop, me) for path in paths for hop in path}
        self.parked = {path: PriorityQueue() for path in paths}
        self.crowded: set[Hop] = set()
        self._gaps = frozenset(replicas.missing())
        self.missing = bool(self._gaps)
        self._heirs: dict[Hop, Hop] = {}  # hops of other revisions → the same stage's present hop

    def wait(self, request: Request) -> None:
        """Queue a request for its first stage, or park it while a stage of its path is missing."""
        if request.path[0] in self._heirs:
            self._inherit(request)
        path = request.path
        if self.missing and not self._gaps.isdisjoint(path):
            self.parked[path].push(request)
        else:
            self.dispatchers[path[0]].push(request)

    def _inherit(self, request: Request) -> None:
        """Move a request to the present revision. It needs a new attempt if a former revision had
        it: reports of the former one must not count for it."""
        request.path = tuple([self._heirs[hop] for hop in request.path])
        request.attempt += bool(request.tried)

    def withdraw(self, request: Request) -> None:
        """Remove a request that no replica holds."""
        parked = self.parked.get(request.path)
        if parked is not None and parked.remove(request):
            return
        waiting = self.dispatchers[request.path[request.at]].waiting
        if not waiting.remove(request):  # a handed-back output waits as a task of its own
            for task in [task for task in waiting if task.number == request.number]:
                waiting.remove(task)

    def is_crowded(self, path: Path) -> bool:
        """Whether requests of this path wait for a replica or for credit."""
        return not self.crowded.isdisjoint(path) or bool(self.parked[path])

    def overtaken(self, path: Path, priority: int, deadline: float) -> int:
        """Count the requests waiting for the first stage that such a request would overtake."""
        lines = (self.dispatchers[path[0]].waiting, self.parked[path])
        return sum(line.behind(priority, deadline) for line in lines)

    def drop_absent(self, hop: Hop) -> list[Task]:
        """Remove and return all tasks that wait for a stage that has been gone for too long."""
        parked = [backlog for path, backlog in self.parked.items() if hop in path]
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
        """Update which stages are missing: start parked requests whose path is complete, and park
        requests whose path no longer is."""
        gaps = frozenset(self._replicas.missing())
        if gaps == self._gaps:
            return
        self._gaps, self.missing = gaps, bool(gaps)
        for path, parked in self.parked.items():
            first = self.dispatchers[path[0]]
            if gaps.isdisjoint(path):
                for request in emptied(parked):
                    first.push(request)
            else:
                for task in emptied(first.waiting):
                    is_at_start = task.hop == 0 and task.path == path
                    (parked if is_at_start else first.waiting).push(task)

    # --- one revision after another --------------------------------------------------------------

    def move(self, routes: Mapping[str, Path]) -> None:
        """Switch the routes to another revision; requests that have not started follow them.

        Args:
            routes: the new routes, as in the replica registry; all of their stages have replicas.
        """
        present = {hop[0]: hop for path in routes.values() for hop in path}
        for hop in present.values():
            self.dispatchers.setdefault(hop, Dispatcher(hop, self._me))
        self._heirs = {hop: present[hop[0]] for hop in self.dispatchers if hop != present[hop[0]]}
        former, self.parked = self.parked, {path: PriorityQueue() for path in routes.values()}
        self._gaps, self.missing = frozenset(), False
        starts = {path[0] for path in former}
        lines = [*former.values(), *(self.dispatchers[hop].waiting for hop in starts)]
        for task in [task for line in lines for task in emptied(line)]:
            if task.hop == 0 and isinstance(task, Request):
                self.wait(task)
            else:
                self.dispatchers[task.path[0]].waiting.push(task)

    def deserted(self) -> list[Hop]:
        """Return the stages of other revisions that have no replica left."""
        present = {hop for path in self._replicas.routes.values() for hop in path}
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
