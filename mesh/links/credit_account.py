"""Credit in one direction of a session: what was granted, and what of it is used. Pure.

The counters are absolute: they count from the beginning of the session. A lost or repeated grant
therefore changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class CreditAccount:
    """Tasks and payload bytes that a producer may send to a consumer.

    The session's `Stream` is its only writer; `pause` and `resume` are the producer's.

    Attributes:
        tasks: how many the consumer has granted since the session began.
        nbytes: the same in payload bytes.
        used_tasks: how many of them the producer has sent.
        used_nbytes: the same in payload bytes.
        settled_tasks: how many of the used ones the consumer finished, as far as it said.
        others: tasks of other producers that the consumer said it holds.
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
    paused: int = 0

    @property
    def free_tasks(self) -> int:
        """Tasks that may be sent now."""
        return self.tasks - self.used_tasks

    @property
    def free_nbytes(self) -> int:
        """Payload bytes that may be sent now."""
        return self.nbytes - self.used_nbytes

    def pause(self) -> None:
        """Send no more on the present grant: the consumer gave tasks back."""
        self.paused = self.tasks

    def resume(self) -> None:
        """Send on the present grant again."""
        self.paused = 0
