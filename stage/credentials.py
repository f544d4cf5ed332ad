"""Whether a producer may send these tasks to this replica. Pure.

The outcome of a task goes to the gateway that the task names as its owner. So a gateway may only
send tasks of its own; otherwise another gateway would get outcomes of requests that it never
dispatched, and expel this replica. A replica may send tasks of any owner, because it forwards them.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.links.session import Session
from mesh.protocol.messages import Role, Task
from mesh.protocol.permissions import Breach


def judge_tasks(session: Session, tasks: Iterable[Task], stage: str, revision: str) -> None:
    """Check the tasks of a producer.

    Raises:
        Breach: it may not send one of them to a replica of this stage and revision.

    Example:
        >>> gateway = Session(2, 1, Role.GATEWAY, 0)
        >>> judge_tasks(gateway, [Task(1, 5, (("embed", "r"),), 0, 1, 9.0, [], 0)], "embed", "r")
    """
    here, peer, is_owner = (stage, revision), session.peer, session.role is Role.GATEWAY
    hops = None  # of the previous task: equal hops of one bundle are one object
    for task in tasks:
        if task.hops is not hops:
            hops = task.hops
            if hops[0] != here:
                raise Breach("it sends tasks for another stage or revision")
        if is_owner and task.owner != peer:
            raise Breach("it sends tasks of another gateway")
