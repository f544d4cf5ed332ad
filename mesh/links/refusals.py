"""Messages that one end of a session could not read: how they are counted, and sent anew. Pure."""

from __future__ import annotations

from typing import Final

from mesh.errors import ProtocolError
from mesh.protocol.messages import Message, Outcomes, Tasks

MAX_REMEMBERED_REFUSALS: Final = 16


class Refusals:
    """The messages of a peer that were refused, in case it did not receive our ERR.

    Example:
        >>> refusals = Refusals()
        >>> refusals.add(3, "row 1 has no number")
        >>> refusals.resumes_after(received=7)
        2
    """

    __slots__ = ("_reasons",)

    def __init__(self) -> None:
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._reasons)

    def add(self, sequence: int, reason: str) -> None:
        """Remember the message with this number."""
        self._reasons[sequence] = reason
        if len(self._reasons) > MAX_REMEMBERED_REFUSALS:
            del self._reasons[min(self._reasons)]

    def repeat(self, sequence: int) -> None:
        """Refuse a message again if it was refused before.

        Raises:
            ProtocolError: it was, for the same reason.
        """
        if sequence in self._reasons:
            raise ProtocolError(self._reasons[sequence])

    def resumes_after(self, received: int) -> int:
        """Return the number that HELLO and WELCOME name as received.

        The peer must hear of each refused message, and the ERR may have been lost with the
        connection. If it was not lost, the peer keeps nothing that it would send again.
        """
        return min(self._reasons) - 1 if self._reasons else received


def singly(message: Message) -> list[Message]:
    """Return the same as several messages of one row each, so that one row at fault fails alone.

    Example:
        >>> from mesh.protocol.messages import HandoffNotice
        >>> len(singly(Outcomes([], [HandoffNotice(1, 1, 1, 5), HandoffNotice(2, 1, 1, 5)])))
        1
    """
    if type(message) is Tasks:
        return [Tasks([task]) for task in message.tasks]
    if type(message) is Outcomes:
        rows: list[Message] = [Outcomes([outcome]) for outcome in message.outcomes]
        if message.notices or message.stats:
            rows.append(Outcomes([], message.notices, message.stats))
        return rows
    return [message]
