"""Where requests wait at the gateway: for credit of replicas, or for a stage to be there. Pure.

There is a dispatcher for each stage of the revision that the routes lead through, and for each of
any other revision of which there are replicas: those of a later one that is coming up are given
nothing yet, those of a former one finish what they have. A request whose attempt begins takes the
path that its route has then, so all of an attempt is of one revision.
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
    """All that waits, by stage.

    Args:
        replicas: who exists, and where the routes lead.

    Attributes:
        dispatchers: by stage and revision.
        parked: per path the requests that may not set out, as a stage of it has no replica.
        crowded: stages for which tasks were left waiting when the last turn's credit was spent.
        missing: whether any stage of the routes has no replica.
    """

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        paths = list(replicas.routes.values())
        self.dispatchers = {hop: Dispatcher(hop) for path in paths for hop in path}
        self.parked = {path: PriorityQueue() for path in paths}
        self.crowded: set[Hop] = set()
        self._gaps = frozenset(replicas.missing())
        self.missing = bool(self._gaps)
        self._heirs: dict[Hop, Hop] = {}  # stages of other revisions, and what has their place now

    def wait(self, request: Request) -> None:
        """It waits for its first stage, and may not set out while any stage of its path is gone."""
        if request.path[0] in self._heirs:
            self._inherit(request)
        path = request.path
        if self.missing and not self._gaps.isdisjoint(path):
            self.parked[path].push(request)
        else:
            self.dispatchers[path[0]].push(request)

    def _inherit(self, request: Request) -> None:
        """It begins in the present revision: in another attempt, if a former one has had it."""
        request.path = tuple([self._heirs[hop] for hop in request.path])
        request.attempt += bool(request.tried)

    def withdraw(self, request: Request) -> None:
        """Take a request out that no replica holds."""
        parked = self.parked.get(request.path)
        if parked is not None and parked.remove(request):
            return
        waiting = self.dispatchers[request.path[request.at]].waiting
        if not waiting.remove(request):  # handed back, it waits as another task of that number
            for task in [task for task in waiting if task.number == request.number]:
                waiting.remove(task)

    def is_crowded(self, path: Path) -> bool:
        """Whether requests wait here for want of replicas or of their credit."""
        return not self.crowded.isdisjoint(path) or bool(self.parked[path])

    def overtaken(self, path: Path, priority: int, deadline: float) -> int:
        """How many of those that wait for the path's first stage would leave after this one."""
        lines = (self.dispatchers[path[0]].waiting, self.parked[path])
        return sum(line.behind(priority, deadline) for line in lines)

    def drop_absent(self, hop: Hop) -> list[Task]:
        """Take out all that waits for a stage that has been gone for too long."""
        parked = [backlog for path, backlog in self.parked.items() if hop in path]
        lines = (self.dispatchers[hop].waiting, *parked)
        return [task for line in lines for task in emptied(line)]

    # --- who is there ----------------------------------------------------------------------------

    def join(self, hop: Hop, session: Session) -> None:
        """A replica of this stage is there."""
        if hop not in self.dispatchers:
            self.dispatchers[hop] = Dispatcher(hop)
        self.dispatchers[hop].join(session)
        self.find_gaps()

    def find_gaps(self) -> None:
        """Stages came or went: requests may set out, or have to wait until all are back."""
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
        """The routes lead elsewhere from now on; what has not set out goes there, too.

        Args:
            routes: as the replica registry has them now; all of their stages have replicas.
        """
        present = {hop[0]: hop for path in routes.values() for hop in path}
        for hop in present.values():
            self.dispatchers.setdefault(hop, Dispatcher(hop))
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
        """Stages of other revisions than the present one that have no replica any more."""
        present = {hop for path in self._replicas.routes.values() for hop in path}
        if len(self.dispatchers) == len(present):
            return []
        kept = present | self._replicas.present()
        return [hop for hop in self.dispatchers if hop not in kept]

    def forget(self, hop: Hop) -> None:
        """Nothing will wait for it any more."""
        del self.dispatchers[hop]
        self._heirs.pop(hop, None)
        self.crowded.discard(hop)


def emptied(backlog: PriorityQueue) -> list[Task]:
    """Take out all that waits, the most urgent first."""
    return [backlog.pop() for _ in range(len(backlog))]
