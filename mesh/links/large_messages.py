"""Large messages to be sent: they travel in slices, so that small ones overtake them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from mesh.protocol.chunking import Chunk, Outgoing
from mesh.protocol.messages import Cancel, Message, Part, Task, Tasks

MAX_UNACKED_BYTES = 8 * 1024 * 1024  # bytes of slices under way


class LargeMessages:
    """The large messages of one session that are not sent to their end.

    Attributes:
        queue: the messages, oldest first.

    Example:
        >>> large = LargeMessages()
        >>> large.queue, large.is_slicing()
        (deque([]), False)
    """

    __slots__ = ("_transfers", "_under_way", "queue")

    def __init__(self) -> None:
        self.queue: deque[Outgoing] = deque()
        self._transfers = 0
        self._under_way = 0

    def post(self, message: Message) -> None:
        """Queue a message; its large buffers precede it in slices."""
        outgoing = Outgoing(message, self._transfers)
        self._transfers += outgoing.transfers
        self.queue.append(outgoing)

    def withdraw(self, cancel: Cancel, left: dict[int, None]) -> list[Task]:
        """Drop the cancelled tasks of which nothing was sent yet.

        Of a task whose slices are under way, the CANCEL is queued behind it: it must not overtake.

        Args:
            cancel: the message.
            left: the request numbers that it names; those found here are removed.

        Returns:
            The dropped tasks.
        """
        dropped: list[Task] = []
        for outgoing in list(self.queue):
            tasks = outgoing.whole.tasks if type(outgoing.whole) is Tasks else []
            named = [task.number for task in tasks if task.number in left]
            for number in named:
                del left[number]
            if named and len(tasks) == 1 and not outgoing.begun:
                self.queue.remove(outgoing)
                dropped += tasks
            elif named:
                behind = self.queue.index(outgoing) + 1
                self.queue.insert(behind, Outgoing(Cancel(cancel.owner, named), self._transfers))
        return dropped

    def steps(self) -> Iterator[Chunk]:
        """Yield what may be sent now. A slice counts as under way once it is yielded."""
        while self.queue and self._under_way < MAX_UNACKED_BYTES:
            step = self.queue[0].step()
            if step is None:
                self.queue.popleft()
                continue
            if type(step.message) is Part:
                self._under_way += len(step.message.slice)
            yield step

    def landed(self, part: Part) -> None:
        """A slice was acked or refused: it is no longer under way."""
        self._under_way -= len(part.slice)

    def is_slicing(self) -> bool:
        """Whether slices wait to be sent, or for their acks."""
        return bool(self.queue or self._under_way)

    def pending(self) -> list[Message]:
        """The messages whose last part was not sent yet, whole."""
        return [outgoing.whole for outgoing in self.queue if outgoing.left]

    def clear(self) -> None:
        """Forget everything: the session is over."""
        self.queue.clear()
        self._under_way = 0
