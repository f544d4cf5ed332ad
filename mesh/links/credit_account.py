"""Credit in one direction of a session: what was granted, and what of it is used. Pure.

The counters are absolute: they count from the beginning of the session. A lost or repeated grant
therefore changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.protocol.messages import Load


@dataclass(slots=True)
class CreditAccount:
    """Tasks and payload bytes that a producer may send to a consumer.

    The session's `ReliableStream` is its only writer; `pause` and `resume` are the producer's.

    Attributes:
        tasks: how many the consumer has granted since the session began.
        nbytes: the same in payload bytes.
        used_tasks: how many of them the producer has sent.
        used_nbytes: the same in payload bytes.
        settled_tasks: how many of the used ones the consumer has finished, as it last said.
        others: tasks of other producers that it holds, as it last said.
        batch_s: seconds that its batches lately took, as it last said; 0 before the first.
        paused: what was granted when the consumer last gave tasks back; it gets no more until it
            grants more. 0 if that is long ago.

    Example:
        >>> account = CreditAccount(tasks=4, used_tasks=1)
        >>> account.free_tasks
        3
    """

    tasks: int = 0
    nbytes: int = 0
    used_tasks: int = 0
    used_nbytes: int = 0
    settled_tasks: int = 0
    others: int = 0
    batch_s: float = 0.0
    paused: int = 0

    @property
    def free_tasks(self) -> int:
        """Tasks that may be sent now."""
        return self.tasks - self.used_tasks

    @property
    def load(self) -> int:
        """Tasks that the consumer has still to finish, ours and others', as far as is known."""
        return self.used_tasks - self.settled_tasks + self.others

    @property
    def free_nbytes(self) -> int:
        """Payload bytes that may be sent now."""
        return self.nbytes - self.used_nbytes

    def learn_load(self, load: Load | None) -> None:
        """Learn what the consumer said of its load; an older release does not say it."""
        if load is None:
            self.settled_tasks = self.used_tasks
        elif load[0] >= self.settled_tasks:  # or it was said before what is known already
            self.settled_tasks = min(load[0], self.used_tasks)
            self.others, self.batch_s = load[1], load[2] / 1e6

    def pause(self) -> None:
        """Send no more on the present grant: the consumer gave tasks back."""
        self.paused = self.tasks

    def resume(self) -> None:
        """Send on the present grant again."""
        self.paused = 0
