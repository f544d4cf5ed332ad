"""Whether tasks are their sender's to send to this replica. Pure.

What is computed of a task goes to the gateway that the task names as its owner. So a gateway sends
tasks of its own alone, or another would hear of requests that it never gave away, and think the
replica a liar. What a replica feeds us is of any owner: it passes on what it was given.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.links.session import Session
from mesh.protocol.messages import Role, Task
from mesh.protocol.permissions import Breach


def judge_tasks(session: Session, tasks: Iterable[Task], stage: str, revision: str) -> None:
    """Raise `Breach` where a producer may not send these tasks to a replica of this stage.

    Example:
        >>> gateway = Session(2, 1, Role.GATEWAY, 0)
        >>> judge_tasks(gateway, [Task(1, 5, (("embed", "r"),), 0, 1, 9.0, [], 0)], "embed", "r")
    """
    here, peer, is_owner = (stage, revision), session.peer, session.role is Role.GATEWAY
    path = None  # of the task before: what is read of one bundle shares it
    for task in tasks:
        if task.path is not path:
            path = task.path
            if path[0] != here:
                raise Breach("it sends tasks for another stage or revision")
        if is_owner and task.owner != peer:
            raise Breach("it sends tasks of another gateway")
